"""Small data sets on disk, in each published layout. A frame's colour tells which one it is."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.data import storage
from lib.data.dataset import TrackingDataset
from lib.data.images import encode_jpeg


def colour(sequence: int, frame: int) -> tuple[int, int, int]:
    """RGB of a frame."""
    return 40 * sequence % 240, 12 * frame % 240, 200


def shows(image: np.ndarray, sequence: int, frame: int) -> bool:
    """Whether an image is that frame, give or take JPEG's losses."""
    return bool((np.abs(image.reshape(-1, 3).astype(int) - colour(sequence, frame)) <= 3).all())


def assert_same(first: TrackingDataset, second: TrackingDataset) -> None:
    """Every box, every flag, every frame's name and pixel."""
    assert (len(first), first.is_video, first.name) == (len(second), second.is_video, second.name)
    for sequence in range(len(first)):
        a, b = first.info(sequence), second.info(sequence)
        for key in ("boxes", "valid", "visible"):
            np.testing.assert_array_equal(getattr(a, key), getattr(b, key), strict=True)
        for frame in range(len(a)):
            assert first.frame_path(sequence, frame) == second.frame_path(sequence, frame)
            assert np.array_equal(first.image(sequence, frame), second.image(sequence, frame))


def write_lmdb(path: Path, root: Path) -> None:
    """An LMDB of the files under a folder, by relative path."""
    path.mkdir()
    files = (file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    storage.write_lmdb(path, storage.Storage(root), files)


def write_image(path: Path, sequence: int, frame: int) -> None:
    """Write a frame as JPEG, whatever the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(np.full((16, 24, 3), colour(sequence, frame), np.uint8)))


def write_lines(path: Path, lines: Sequence[object]) -> None:
    """Write one line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def boxes(sequence: int, frames: int) -> list[tuple[float, ...]]:
    """Boxes that tell the sequence and the frame."""
    return [(sequence + 1.5, frame + 2.0, 5.0 + frame, 4.0) for frame in range(frames)]


def write_video(folder: Path, annotation: Path, sequence: int, frames: int, first: int = 1, digits: int = 8) -> None:
    """Write the frames `<number>.jpg` and the boxes of a video."""
    for frame in range(frames):
        write_image(folder / f"{first + frame:0{digits}d}.jpg", sequence, frame)
    write_lines(annotation, [",".join(map(str, box)) for box in boxes(sequence, frames)])


def make_got10k(root: Path, names: Sequence[str], frames: int = 3) -> Path:
    """GOT-10k: `list.txt` and a folder each, without label files."""
    for number, name in enumerate(names):
        write_video(root / name, root / name / "groundtruth.txt", number, frames)
    write_lines(root / "list.txt", names)
    return root


def make_lasot(root: Path, names: Sequence[str], nested: bool = True) -> Path:
    """LaSOT: of three frames the last is fully occluded, the first out of view."""
    for number, name in enumerate(names):
        folder = root / name.rpartition("-")[0] / name if nested else root / name
        write_video(folder / "img", folder / "groundtruth.txt", number, 3)
        write_lines(folder / "full_occlusion.txt", ["0,0,1"])
        write_lines(folder / "out_of_view.txt", ["1,0,0"])
    return root


def make_trackingnet(root: Path, names: Sequence[str]) -> Path:
    """TrackingNet: `names` are `<part>/<video>`; twelve frames count from 0, without zeros in front."""
    for number, name in enumerate(names):
        part, video = name.split("/")
        anno = root / part / "anno" / f"{video}.txt"
        write_video(root / part / "frames" / video, anno, number, 12, first=0, digits=1)
    return root


VID_OBJECT = (
    "<object><trackid>{}</trackid><name>n01</name><occluded>{}</occluded><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def make_vid(root: Path) -> Path:
    """VID: two videos of five frames. In the first, object 0 is hidden in frame 2 and returns, and object 1 is present
    from frame 1 to frame 3, where it is occluded; in the second, object 0 is present in frame 4 alone, and object 2, as
    large as the image, in all frames."""
    for video, there in enumerate(({0: [0, 1, 3, 4], 1: [1, 2, 3]}, {0: [4], 2: range(5)})):
        name = f"VID/train/ILSVRC2015_VID_train_{video:04d}/ILSVRC2015_train_{7000 + video:08d}"
        for frame in range(5):
            write_image(root / "Data" / name / f"{frame:06d}.JPEG", video, frame)
            objects = ""
            for track in (track for track, frames in there.items() if frame in frames):
                box = (0, 0, 24, 16) if track == 2 else (track + 1, frame + 2, track + 11, frame + 8)
                objects += VID_OBJECT.format(track, int((track, frame) == (1, 3)), *box)
            text = f"<annotation><size><width>24</width><height>16</height></size>{objects}</annotation>"
            write_lines(root / "Annotations" / name / f"{frame:06d}.xml", [text])
    return root


def make_davis(root: Path, resolution: str = "480p/", videos: Sequence[str] = ("bear", "kite")) -> Path:
    """DAVIS: 2017's splits; two objects a video, the second hidden in the last frame, and an image without a mask."""
    for number, video in enumerate(videos):
        for frame in range(5):
            write_image(root / f"JPEGImages/{resolution}{video}/{frame:05d}.jpg", number, frame)
        for frame in range(4):
            mask = np.zeros((16, 24), np.uint8)
            for label in (1, 2):
                mask[davis_part(number, frame, label)] = label
            path = root / f"Annotations/{resolution}{video}/{frame:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(mask, "P")
            picture.putpalette([0, 0, 0, 0, 128, 0, 128, 0, 0])
            picture.save(path)
    for split, name in zip(("train", "val"), videos, strict=False):
        write_lines(root / f"ImageSets/2017/{split}.txt", [name])
    return root


def davis_part(video: int, frame: int, label: int) -> tuple[slice, slice]:
    """Rows and columns of an object of `make_davis`."""
    hidden = label == 2 and frame == 3
    top, left = 2 + video, 10 * label - 8 + frame
    return slice(top, top if hidden else top + 5), slice(left, left + 6)


def make_outlined_coco(root: Path, images: int = 3, folder: str = "images/train2017") -> Path:
    """COCO: on dark images a bright triangle, which moves, and a bright square of two halves; and objects without an
    outline, or too small."""
    entries, pictures = [], []
    for i in range(images):
        x, y = 4.0 + i, 6.0
        triangle = [x, y, x + 24, y, x, y + 20]
        halves = [[36, 20, 46, 20, 46, 40, 36, 40], [46, 20, 56, 20, 56, 40, 46, 40]]
        picture = np.full((48, 64, 3), 30, np.uint8)
        for polygon in (triangle, *halves):
            cv2.fillPoly(picture, [np.array(polygon).reshape(-1, 2).astype(np.int32)], (90, 200, 220))
        (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / folder / f"{i}.jpg"), picture)
        pictures.append({"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 64})
        common = {"image_id": i, "iscrowd": 0, "bbox": [36, 20, 20, 20]}
        entries += [
            common | {"bbox": [x, y, 24, 20], "segmentation": [triangle]},
            common | {"segmentation": halves},
            common | {"segmentation": [[36, 20, 56, 20, 56, 40, 36, 40]], "exact_mask": False},
            common | {"segmentation": {"counts": [1], "size": [1, 1]}, "iscrowd": 1},
            common | {"bbox": [1, 1, 8, 40], "segmentation": [[1, 1, 9, 1, 9, 41]]},
        ]
    content = {"images": pictures, "annotations": entries, "categories": [{"id": 1, "name": "thing"}]}
    write_lines(root / "annotations/instances_train2017.json", [json.dumps(content)])
    return root


# name of a data set -> what makes a small one in a folder of all data sets
MAKERS = {
    "LASOT": lambda data: make_lasot(data / "lasot", ["airplane-1", "airplane-2", "airplane-10"]),
    "GOT10K_vottrain": lambda data: make_got10k(data / "got10k/train", [f"GOT-10k_Train_{n:06d}" for n in (1, 2, 3)]),
    "COCO17": lambda data: make_outlined_coco(data / "coco"),
    "COCO17_masks": lambda data: make_outlined_coco(data / "coco"),
    "DAVIS17_train": lambda data: make_davis(data / "davis"),
    "YOUTUBE_VOS": lambda data: make_davis(data / "youtube_vos/train", ""),
    "VID": lambda data: make_vid(data / "vid"),
    "TRACKINGNET": lambda data: make_trackingnet(data / "trackingnet", ["TRAIN_0/b_0", "TRAIN_2/c_1", "TRAIN_11/a_2"]),
}
