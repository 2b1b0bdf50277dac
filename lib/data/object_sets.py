"""Training sets in which every object is a sequence: of photographs, of videos with masks, of videos."""

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np

from ..utils.errors import UserError
from ..utils.files import write_text
from ..utils.progress import progress_bar
from .dataset import MaskedDataset, SequenceInfo, TrackingDataset, sequence_info
from .images import image_names
from .sequence import some
from .storage import Arrays, LmdbStorage, Storage

_ROBOFLOW = "_annotations.coco.json"
# Annotations, and the folder of their images; the first layout that exists is read.
_LAYOUTS = (
    ("annotations/instances_train2017.json", "images/train2017/"),
    ("annotations/instances_train2017.json", "train2017/"),
    ("annotations/instances_default.json", "images/default/"),  # CVAT
    ("annotations/instances_default.json", "images/"),
    *((f"{split}/{_ROBOFLOW}", f"{split}/") for split in ("train", "valid", "test")),
    (_ROBOFLOW, ""),  # one split of Roboflow's
)
# Pixels: of what is smaller, an outline tells little more than a box.
_LEAST_OUTLINED_SIDE = 16
_WHITE = 0xFFFFFF
_VID_FOLDER = re.compile(r"ILSVRC2015_VID_train_(\d{4})/ILSVRC2015_train_(\d{8})")
log = logging.getLogger(__name__)


class Coco(TrackingDataset):
    """COCO 2017 (Lin et al., ECCV 2014), where a sequence has one frame; without crowds and boxes without an area.

    annotations/instances_train2017.json
    images/train2017/000000000009.jpg, …      or train2017/…

    Tools export the same with other names, see `_LAYOUTS`.
    """

    is_video = False
    outlined = False  # whether only objects with an outline are taken

    def __init__(self, name: str, storage: Storage) -> None:
        super().__init__(name, storage)
        found = [(file, folder) for file, folder in _LAYOUTS if all(map(storage.exists, (file, folder.rstrip("/"))))]
        if not found:
            known = ", or ".join(f"{file} and images in {folder or 'the same folder'}" for file, folder in _LAYOUTS)
            raise UserError(f"{name}: {storage.locate()} has no layout of COCO: expected {known}")
        self._annotations, self._folder = found[0]
        # Arrays, not objects: there are 850,000 boxes, and every worker has its copy.
        read = partial(_read_arrays, storage, self._annotations, self.outlined)
        self._found = storage.cached_arrays(name, [self._annotations], read)
        self._files, self._image, self._boxes = (self._found[key] for key in ("files", "images", "boxes"))
        total, crowds, unusable = self._found["counts"].tolist()
        usable = f"outline of at least {_LEAST_OUTLINED_SIDE} pixels a side" if self.outlined else "area"
        if not len(self._boxes):
            raise UserError(f"{name}: {storage.locate(self._annotations)} has no object with an {usable}")
        if crowds or unusable:
            self.report = f"{len(self)} of {total} objects are used; {crowds} are crowds, {unusable} have no {usable}"
        if others := [folder for file, folder in found[1:] if folder != "" and file.endswith(_ROBOFLOW)]:
            unread = f"{', '.join(others)} are not read: to use them, name them as data sets of their own"
            self.report = f"{self.report}; {unread}".removeprefix("; ")

    def __len__(self) -> int:
        return len(self._boxes)

    def info(self, sequence: int) -> SequenceInfo:
        return SequenceInfo(self._boxes[sequence : sequence + 1], np.ones(1, dtype=bool), np.ones(1, dtype=bool))

    def files(self) -> Iterator[str]:
        yield self._annotations
        yield from (f"{self._folder}{file}" for file in dict.fromkeys(self._files))

    def frame_path(self, sequence: int, frame: int) -> str:
        return f"{self._folder}{self._files[self._image[sequence]]}"


class CocoMasks(Coco, MaskedDataset):
    """Objects that are outlined by polygons, and not too small; `exact_mask: false` says that polygons are the box."""

    outlined = True

    def mask(self, sequence: int, frame: int) -> np.ndarray:
        from pycocotools import mask as outlines  # which nothing else needs

        sizes, numbers, ends, last = (self._found[key] for key in ("sizes", "numbers", "ends", "last"))
        height, width = sizes[self._image[sequence]].tolist()
        polygons = [numbers[ends[p] : ends[p + 1]].tolist() for p in range(last[sequence], last[sequence + 1])]
        return outlines.decode(outlines.merge(outlines.frPyObjects(polygons, height, width))).astype(bool)


def _read_arrays(storage: Storage, file: str, outlined: bool) -> Arrays:
    """Names of image `files`, and of M objects that can be used the indices of `images` (M,) and `boxes` (M, 4) xywh.

    `counts`: all objects, crowds, others that cannot be used. With `outlined` also `sizes` of images, height and width;
    polygon p is numbers[ends[p] : ends[p + 1]], x, y, x, y, …, and object i has polygons last[i] to last[i + 1] - 1.
    """
    data = storage.read_bytes(file)
    try:
        # Entries are cut down as they are read: whole, with their outlines, they need several gigabytes.
        content = json.loads(data, object_hook=partial(_slim, outlined))
        images, entries = content["images"], content["annotations"]
        index = {image["id"]: number for number, image in enumerate(images)}
        if len(index) < len(images):
            twice, _ = Counter(image["id"] for image in images).most_common(1)[0]
            names = [image["file_name"] for image in images if image["id"] == twice]
            raise ValueError(f"image id {twice} stands for {names[0]} and {names[1]}; give each image an id of its own")
        single = [entry for entry in entries if not entry.get("iscrowd", 0)]
        used = [entry for entry in single if entry.get("usable")]
        if unknown := [entry["image_id"] for entry in used if entry["image_id"] not in index]:
            raise ValueError(f"an annotation is of the image id {unknown[0]}, and no image has it")
        arrays = {
            "files": np.array([image["file_name"] for image in images], str),
            "images": np.array([index[entry["image_id"]] for entry in used], dtype=np.int32),
            "boxes": np.array([entry["bbox"] for entry in used], dtype=np.float32).reshape(-1, 4),
            "counts": np.array([len(entries), len(entries) - len(single), len(single) - len(used)]),
        }
        if outlined:
            outlines = [entry["outline"] for entry in used]
            polygons = [polygon for outline in outlines for polygon in outline]
            arrays["sizes"] = np.array([(image["height"], image["width"]) for image in images], dtype=np.int32)
            arrays["numbers"] = np.concatenate([np.zeros(0, np.float32), *polygons])
            arrays["ends"] = np.cumsum([0, *map(len, polygons)])
            arrays["last"] = np.cumsum([0, *map(len, outlines)])
        return arrays
    except KeyError as error:
        raise UserError(f"{storage.locate(file)}: {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{storage.locate(file)} is not a COCO annotation file: {error}") from error


def _slim(outlined: bool, entry: dict) -> dict:
    """Called by the JSON reader with each object of the file; what it returns takes the object's place."""
    if "bbox" not in entry:
        return entry
    box, polygons = entry["bbox"], entry.get("segmentation")
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise ValueError(f"the bbox {box} of annotation {entry.get('id')} is not x, y, width, height")
    slim = {key: entry[key] for key in ("image_id", "bbox", "iscrowd") if key in entry}
    if not outlined:
        return slim | {"usable": box[2] > 0 and box[3] > 0}
    if not isinstance(polygons, list) or not entry.get("exact_mask", True):  # a crowd's mask, or only a box
        polygons = []
    outline = [np.array(polygon, dtype=np.float32) for polygon in polygons]
    if not all(each.ndim == 1 and len(each) % 2 == 0 and np.isfinite(each).all() for each in outline):
        raise ValueError(f"the segmentation of annotation {entry.get('id')} is not polygons of x, y, x, y, …")
    outline = [each for each in outline if len(each) >= 6]
    return slim | {"outline": outline, "usable": outline and min(box[2:]) >= _LEAST_OUTLINED_SIDE}


class _Video(NamedTuple):
    """A video's frames that have a mask, as storage paths, and each object's boxes (N, 4) xywh, zeros where hidden."""

    images: list[str]
    masks: list[str]
    boxes: dict[int, np.ndarray]


class Davis(MaskedDataset):
    """DAVIS 2016 and 2017 (Perazzi et al., CVPR 2016), and YouTube-VOS (2018): videos with a mask a frame.

    JPEGImages/480p/<video>/00000.jpg, …      or JPEGImages/<video>/…
    Annotations/480p/<video>/00000.png, …     or Annotations/<video>/…: black is background, each object has a colour
    ImageSets/2017/train.txt                  for splits: a video a line

    A frame counts where it has a mask: YouTube-VOS has one every fifth frame. The objects are those of the first one.
    The files lie in the folder `train` of the storage, as YouTube-VOS has them, or without it. `split` is a file of
    `ImageSets` without suffix, such as "2017/train"; None takes every video with masks. `late` takes also the objects
    that are not in a video's first mask.
    """

    def __init__(self, name: str, storage: Storage, split: str | None = None, late: bool = False) -> None:
        super().__init__(name, storage)
        base = "train/" if storage.exists("train") else ""
        resolution = "/480p" if storage.exists(f"{base}JPEGImages/480p") else ""
        self._images, self._masks = (f"{base}{kind}{resolution}" for kind in ("JPEGImages", "Annotations"))
        self._splits, self._late = f"{base}ImageSets", late
        place, present = storage.locate(self._masks), storage.names(self._masks)
        wanted = present if split is None or not present else storage.text(f"{self._splits}/{split}.txt").split()
        self.videos = [video for video in wanted if video in present]
        if missing := [video for video in wanted if video not in present]:
            self.report = f"{len(self.videos)} of {len(wanted)} videos are used; missing in {place}: {some(missing)}"
        self._known: dict[str, _Video] = {}
        # (video, object) by sequence.
        self.sequences = [(video, label) for video in self.videos for label in self._objects(video)]
        if not self.sequences:
            raise UserError(f"{name}: no mask in {place} shows an object: expected JPEGImages and Annotations/<video>")

    def __len__(self) -> int:
        return len(self.sequences)

    def info(self, sequence: int) -> SequenceInfo:
        video, label = self.sequences[sequence]
        return sequence_info(self._video(video).boxes[label])

    def mask(self, sequence: int, frame: int) -> np.ndarray:
        video, label = self.sequences[sequence]
        return self._labels(self._video(video).masks[frame]) == label

    def frame_path(self, sequence: int, frame: int) -> str:
        return self._video(self.sequences[sequence][0]).images[frame]

    def files(self) -> Iterator[str]:
        for year in self.storage.names(self._splits):
            yield from (f"{self._splits}/{year}/{name}" for name in self.storage.names(f"{self._splits}/{year}"))
        for video in self.videos:
            yield from (path for folder in (self._images, self._masks) for path in self._paths(folder, video))

    def _video(self, video: str) -> _Video:
        if video not in self._known:
            images = {PurePosixPath(path).stem: path for path in self._paths(self._images, video)}
            masks = self._paths(self._masks, video)
            if lost := [path for path in masks if PurePosixPath(path).stem not in images]:
                raise UserError(f"{self.storage.locate(lost[0])} is the mask of a missing image")
            boxes = {label: np.zeros((len(masks), 4)) for name, label in self.sequences if name == video}
            for frame, path in enumerate(masks):
                labels = self._labels(path)
                for label in boxes:
                    boxes[label][frame] = cv2.boundingRect((labels == label).astype(np.uint8))
            self._known[video] = _Video([images[PurePosixPath(path).stem] for path in masks], masks, boxes)
        return self._known[video]

    def _objects(self, video: str) -> list[int]:
        """The colours of a video's objects; white is an object only where it is the only one."""
        masks = self._paths(self._masks, video)
        if not masks:
            raise UserError(f"{self.name}: no masks in {self.storage.locate(f'{self._masks}/{video}')}")
        shown = [np.unique(self._labels(path)) for path in (masks if self._late else masks[:1])]
        labels = np.setdiff1d(np.concatenate(shown), [0]).tolist()
        return labels if len(labels) < 2 else [label for label in labels if label != _WHITE]

    def _paths(self, folder: str, video: str) -> list[str]:
        return [f"{folder}/{video}/{name}" for name in image_names(self.storage.names(f"{folder}/{video}"))]

    def _labels(self, path: str) -> np.ndarray:
        """A mask's colours as numbers, (H, W) int32; an image with a palette is read as its colours."""
        red, green, blue = np.moveaxis(self.storage.image(path).astype(np.int32), -1, 0)
        return red << 16 | green << 8 | blue


class _Track(NamedTuple):
    """One object of a video, from the first frame that shows it."""

    folder: str  # of the frames
    start: int  # number of the first frame
    info: SequenceInfo


class Vid(TrackingDataset):
    """ImageNet VID (Russakovsky et al., IJCV 2015), its training videos.

    Annotations/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.xml, …
    Data/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.JPEG, …
    cache.json      all annotations in one; made on first use, since the XML files are more than a million

    An object is visible where it is not occluded. As in the published index, a sequence ends before the first frame
    that lacks the object, and an object whose first box fills the image is left out. The files lie in the folder
    `ILSVRC2015` of the storage, or without it.
    """

    def __init__(self, name: str, storage: Storage) -> None:
        super().__init__(name, storage)
        base = "ILSVRC2015/" if storage.exists("ILSVRC2015") else ""
        self._index, place = f"{base}cache.json", storage.locate(f"{base}cache.json")
        if storage.exists(self._index):
            text = storage.text(self._index)
        else:
            text = json.dumps(_read_annotations(storage, f"{base}Annotations/VID/train"))
            try:
                if not isinstance(storage, LmdbStorage):
                    write_text(Path(storage.root, self._index), text)
            except OSError as error:
                log.warning("cannot write %s (%s): the annotations will be read again next time", place, error.strerror)
        try:
            entries = json.loads(text)
            smaller = [each for each in entries if np.prod(each["anno"][0][2:]) < np.prod(each["image_size"])]
            self._tracks = [_track(f"{base}Data/VID/train", each) for each in smaller]
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise UserError(f"{place} is malformed ({error!r}): remove it to have it made anew") from error
        if not self._tracks:
            raise UserError(f"{name}: {place} holds no objects: remove it to have it made anew")
        if full := len(entries) - len(self):
            self.report = f"{len(self)} of {len(entries)} objects are used; {full} fill the image in the first frame"

    def __len__(self) -> int:
        return len(self._tracks)

    def info(self, sequence: int) -> SequenceInfo:
        return self._tracks[sequence].info

    def files(self) -> Iterator[str]:
        yield self._index
        for folder in sorted({track.folder for track in self._tracks}):
            yield from (f"{folder}/{name}" for name in image_names(self.storage.names(folder)))

    def frame_path(self, sequence: int, frame: int) -> str:
        track = self._tracks[sequence]
        return f"{track.folder}/{track.start + frame:06d}.JPEG"


def _track(frames: str, entry: dict) -> _Track:
    """The object of an entry of the index; the videos' frames lie in the folder `frames`."""
    boxes = np.array(entry["anno"], dtype=np.float64).reshape(-1, 4)
    visible = np.array(entry["target_visible"], dtype=bool)
    group, video = f"ILSVRC2015_VID_train_{int(entry['set_id']):04d}", f"ILSVRC2015_train_{int(entry['vid_id']):08d}"
    gaps = np.flatnonzero(~boxes[1:].any(axis=1)) + 1  # zeros, in an index whose sequences go on after a gap
    end = gaps[0] if len(gaps) else len(boxes)
    info = sequence_info(boxes[:end], visible[:end])
    return _Track(f"{frames}/{group}/{video}", int(entry["start_frame"]), info)


def _read_annotations(storage: Storage, folder: str) -> list[dict]:
    """The index of all training videos in a folder of the storage: one entry an object of a video.

    An entry has `set_id`, `vid_id`, `class_name`, `start_frame`, `image_size` (width, height) and, from the object's
    first frame to the one before its first gap, `anno` (xywh boxes) and `target_visible`.
    """
    paths = (f"{group}/{video}" for group in storage.names(folder) for video in storage.names(f"{folder}/{group}"))
    videos = list(filter(None, map(_VID_FOLDER.fullmatch, paths)))
    if not videos:
        expected = "ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.xml"
        raise UserError(f"no annotations in {storage.locate(folder)}: expected {expected} and so on")
    return [
        {"set_id": int(video[1]), "vid_id": int(video[2]), **entry}
        for video in progress_bar("reading the annotations of VID, once", "videos", videos)
        for entry in _video_entries(storage, f"{folder}/{video[0]}")
    ]


def _video_entries(storage: Storage, folder: str) -> list[dict]:
    """The objects of one video, in the order in which they appear."""
    entries: dict[str, dict] = {}
    for name in storage.names(folder):
        stem, _, suffix = name.rpartition(".")
        if suffix != "xml" or not stem.isdecimal():
            continue
        frame, path = int(stem), f"{folder}/{name}"
        try:
            root = ElementTree.fromstring(storage.read_bytes(path))
            size = [int(_text(root, f"size/{side}")) for side in ("width", "height")]
            for node in root.iter("object"):
                new = {"class_name": _text(node, "name"), "start_frame": frame, "image_size": size}
                entry = entries.setdefault(_text(node, "trackid"), new | {"anno": [], "target_visible": []})
                sides = ("xmin", "ymin", "xmax", "ymax")
                left, top, right, bottom = (int(_text(node, f"bndbox/{side}")) for side in sides)
                if frame == entry["start_frame"] + len(entry["anno"]):  # there was no gap
                    entry["anno"].append([left, top, right - left, bottom - top])
                    entry["target_visible"].append(node.findtext("occluded", "0").strip() == "0")
        except (ElementTree.ParseError, ValueError) as error:
            raise UserError(f"{storage.locate(path)} is not an annotation of VID: {error}") from error
    return list(entries.values())


def _text(node: ElementTree.Element, path: str) -> str:
    if (text := node.findtext(path)) is None:
        raise ValueError(f"{path} is missing")
    return text.strip()
