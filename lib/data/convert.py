"""Annotations of videos from one format into another; all pass through tracks (`annotations.py`).

In GOT-10k layout an object has a folder, with the frames from the first in which it is visible to the last with a box.
Images are named by their number in the video, from 1, so that the objects of a video can be brought together again.
"""

import filecmp
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree.ElementTree import SubElement, fromstring, indent, tostring

import cv2
import numpy as np

from ..config import closest
from ..utils.errors import UserError
from ..utils.files import parse_names, read_text, write_text
from .annotations import READERS, Track
from .images import list_images, read_image
from .layouts import LIST

FORMATS = tuple(READERS)
TARGETS = ("got10k", "cvat", "mot")
_WITH_FRAMES = ("davis", "got10k")  # formats that hold the frames of several videos


def convert(
    source: str | os.PathLike,
    output: str | os.PathLike,
    form: str,
    to: str = "got10k",
    frames: str | os.PathLike | None = None,
    prefix: str = "",
    overwrite: bool = False,
) -> str:
    """Convert annotations; the returned line counts what was written, and what was left out and why.

    Images are linked (hard links) or copied, never moved; the frames of a video file become JPEG files. A `UserError`
    where the source is malformed or has no object, frames are missing, or the output exists.

    Args:
        source: file or folder of the annotations, in the format `form`, one of `FORMATS`.
        output: a folder, to which sequences are added; for CVAT also a path of an XML file. `to` is one of `TARGETS`.
        frames: video file or folder of images; by default the images that lie with the annotations.
        prefix: stands before the names of sequences, which are made of class and number of the object.
        overwrite: replace sequences or files that exist.
    """
    source, output, left = Path(source), Path(os.path.abspath(output)), Counter()
    for name, known in ((form, FORMATS), (to, TARGETS)):
        if name not in known:
            raise UserError(f"unknown format {name!r}; {closest(name, list(known))}")
    if frames is not None and form in _WITH_FRAMES:
        raise UserError(f"{source}: the format {form} has frames of its own: leave out {frames}")
    if not source.exists():
        raise UserError(f"there is no file or folder {source}: correct the path of the annotations")
    folder = output.parent if to == "cvat" and output.suffix.lower() == ".xml" else output
    place = next(each for each in (folder, *folder.parents) if each.is_dir())
    with TemporaryDirectory(prefix=".convert-", dir=place) as staging:
        images = [] if form in _WITH_FRAMES else _open_frames(form, source, frames, Path(staging))
        used = []
        for track in READERS[form](source, images, left):
            track.name = re.sub(r"[^\w.-]+", "_", prefix + track.name).lstrip(".")
            if not track.present.any():
                left["objects without a box"] += 1
            elif to == "got10k" and track.visible.sum() < 2:
                left["objects that are visible in fewer than two frames"] += 1
            else:
                used.append(track)
        written = Counter(objects=len(used), boxes=sum(int(track.present.sum()) for track in used))
        if to == "got10k":
            early = sum(int(track.present[: track.visible.argmax()].sum()) for track in used)
            left["boxes before the first visible frame"] = early
            written["boxes"] -= early
        reasons = f"; left out: {_counted(left)}" if any(left.values()) else ""
        if not used:
            raise UserError(f"{source}: there is no object to convert{reasons}")
        twice, count = Counter(track.name for track in used).most_common(1)[0]
        if count > 1:
            raise UserError(f"{source}: {count} objects are named {twice}: give them other class names or numbers")
        files = _files(to, used, "annotations.xml" if folder == output else output.name)
        written["frames"] = sum(isinstance(content, Path) for content in files.values())
        _publish(files, Path(staging, "new"), folder, overwrite)
    return f"written to {output}: {_counted(written)}{reasons}"


def _counted(counts: Counter) -> str:
    return ", ".join(f"{what}: {count}" for what, count in counts.items() if count)


def _files(to: str, tracks: list[Track], cvat_name: str) -> dict[str, str | Path]:
    """Texts, and images to be linked, by their paths in the output."""
    if to == "got10k":
        return _got10k_files(tracks)
    images, width, height = _one_video(tracks)
    if to == "cvat":
        return {cvat_name: cvat_text(tracks, max(images) + 1, width, height)}
    texts = mot_files(tracks, max(images) + 1, width, height, images[min(images)].suffix.lower())
    return texts | {f"img1/{i + 1:06d}{image.suffix.lower()}": image for i, image in images.items()}


def _open_frames(form: str, source: Path, frames: str | os.PathLike | None, staging: Path) -> list[Path]:
    """The video's images in order, at least one; those of a video file are written into a folder of its name."""
    inside = source if source.is_dir() else source.parent
    usual = {"cvat": ["images"], "yolo": ["images", "."], "mot": ["img1"]}.get(form, [])
    for place in [inside / each for each in usual] if frames is None else [Path(frames)]:
        if place.is_file():
            place = _extract(place, staging / "video" / place.name)
        if place.is_dir() and (images := list_images(place)):
            return images
    if frames is not None:
        raise UserError(f"{frames} is no video that OpenCV reads, and no folder of images: correct the path")
    raise UserError(f"{source}: there are no frames beside it: name the video or the folder of its images by --frames")


def _extract(video: Path, folder: Path) -> Path:
    """The frames of a video as JPEG files in a new folder, which is returned."""
    folder.mkdir(parents=True)
    capture, count = cv2.VideoCapture(str(video)), 0
    while (frame := capture.read()[1]) is not None:
        count += 1
        if not cv2.imwrite(str(folder / f"{count:08d}.jpg"), frame):
            raise UserError(f"cannot write the frames of {video} into {folder}: make room there")
    return folder


def _publish(files: dict[str, str | Path], built: Path, folder: Path, overwrite: bool) -> None:
    """Make texts, and links to images, in the folder `built`, then move them into `folder`, where its list stays."""
    new = sorted({name.partition("/")[0] for name in files} - {LIST})
    if taken := [name for name in new if (folder / name).exists() and not overwrite]:
        raise UserError(f"{folder / taken[0]} exists: choose another output or --prefix, or replace it by --overwrite")
    if LIST in files:
        listed = sorted(each.parent.name for each in folder.glob("*/groundtruth.txt"))
        if (folder / LIST).is_file():
            listed = parse_names(read_text(folder / LIST), folder / LIST)
        files[LIST] = _lines(dict.fromkeys([*listed, *files[LIST].split()]))
    for name, content in files.items():
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            write_text(built / name, content)
            continue
        try:
            os.link(content.resolve(), built / name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(content, built / name)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(built.iterdir(), key=lambda path: path.name == LIST):  # the list comes last
        if (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        path.replace(folder / path.name)


def _text(value: float) -> str:
    """Four digits behind the point, as in GOT-10k, without zeros at the end."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _lines(lines: Iterable[object]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _got10k_files(tracks: list[Track]) -> dict[str, str | Path]:
    files: dict[str, str | Path] = {LIST: _lines(sorted(track.name for track in tracks))}
    for track in tracks:
        present, visible = track.present, np.flatnonzero(track.visible)
        height, width = read_image(track.images[visible[0]]).shape[:2]
        span = range(visible[0], np.flatnonzero(present)[-1] + 1)
        for i in span:
            files[f"{track.name}/{track.numbers[i] + 1:08d}{track.images[i].suffix.lower()}"] = track.images[i]
        files[f"{track.name}/groundtruth.txt"] = _lines(",".join(map(_text, track.boxes[i])) for i in span)
        files[f"{track.name}/absence.label"] = _lines(int(not present[i]) for i in span)
        if track.cover is not None:
            files[f"{track.name}/cover.label"] = _lines(track.cover[i] if present[i] else 0 for i in span)
        meta = ("[METAINFO]", f"object_class: {track.label}", f"resolution: ({width}, {height})")
        files[f"{track.name}/meta_info.ini"] = _lines(meta)
    return files


def cvat_text(tracks: list[Track], count: int, width: int, height: int) -> str:
    """CVAT for video 1.1, of a video of `count` frames."""
    root = fromstring(
        f"<annotations><version>1.1</version><meta><task><name>converted</name><size>{count}</size>"
        f"<mode>interpolation</mode><start_frame>0</start_frame><stop_frame>{count - 1}</stop_frame><labels/>"
        f"<original_size><width>{width}</width><height>{height}</height></original_size></task></meta></annotations>"
    )
    for label in dict.fromkeys(track.label for track in tracks):
        SubElement(SubElement(root.find("meta/task/labels"), "label"), "name").text = label
    for track, number in zip(tracks, _ids(tracks, 0), strict=True):
        node, shown = SubElement(root, "track", id=str(number), label=track.label, source="file"), False
        present, frames = [*track.present, False], [*track.numbers, track.numbers[-1] + 1]
        for i in (i for i, frame in enumerate(frames) if frame < count):
            if present[i] or shown:  # where the object goes, CVAT wants its last box, once
                x, y, w, h = track.boxes[i if present[i] else i - 1]
                partly = present[i] and track.cover is not None and track.cover[i] < 8
                flags = {"outside": int(not present[i]), "occluded": int(partly), "keyframe": 1}
                sides = {"xtl": f"{x:.2f}", "ytl": f"{y:.2f}", "xbr": f"{x + w:.2f}", "ybr": f"{y + h:.2f}"}
                SubElement(node, "box", {k: str(v) for k, v in ({"frame": frames[i]} | flags | sides).items()})
            shown = present[i]
    indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'


def mot_files(
    tracks: list[Track], count: int, width: int, height: int, suffix: str = ".jpg", fps: float = 25
) -> dict[str, str]:
    """The texts of MOT 1.1 by name, of a video of `count` frames."""
    rows: list[tuple] = []
    labels = list(dict.fromkeys(track.label for track in tracks))
    for track, number in zip(tracks, _ids(tracks, 1), strict=True):
        for i in np.flatnonzero(track.present):
            seen = 1 if track.cover is None else track.cover[i] / 8
            box = map(_text, track.boxes[i])
            rows.append((track.numbers[i] + 1, number, *box, 1, labels.index(track.label) + 1, _text(seen)))
    facts = {"name": "converted", "imDir": "img1", "frameRate": f"{fps:g}", "seqLength": count}
    facts |= {"imWidth": width, "imHeight": height, "imExt": suffix}
    return {
        "gt/gt.txt": _lines(",".join(map(str, row)) for row in sorted(rows)),
        "gt/labels.txt": _lines(labels),
        "seqinfo.ini": _lines(["[Sequence]", *(f"{key}={value}" for key, value in facts.items())]),
    }


def _one_video(tracks: list[Track]) -> tuple[dict[int, Path], int, int]:
    """Images by number, width and height of the video that all tracks are of; several videos are an error."""
    images: dict[int, Path] = {}
    for track in tracks:
        own = dict(zip(track.numbers.tolist(), track.images, strict=True))
        shared = next((number for number in own if number in images), None)
        if shared is not None and not filecmp.cmp(own[shared], images[shared], shallow=False):
            raise UserError(f"{tracks[0].name} and {track.name} are of different videos: convert them one by one")
        images |= own
    height, width = read_image(next(iter(images.values()))).shape[:2]
    return images, width, height


def _ids(tracks: list[Track], least: int) -> list[int]:
    """The numbers at the end of the tracks' names, where each has one of its own; else they are counted."""
    found = [int(match[1]) for track in tracks if (match := re.search(r"_(\d{1,9})$", track.name, re.ASCII))]
    found = found if len(set(found)) == len(tracks) else list(range(least, least + len(tracks)))
    return [number + max(0, least - min(found)) for number in found]
