"""Annotations of videos from one format into another; all pass through tracks (`annotations.py`).

In GOT-10k layout an object has a folder, with the frames from the first in which it is visible to the last with a box.
Images are named by their number in the video, from 1, so that the objects of a video can be brought together again.
"""

import filecmp
import os
import re
import shutil
from collections import Counter
from pathlib import Path
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
    if form == to:
        raise UserError(f"{source} is in the format {to} already: choose another")
    if frames is not None and form in _WITH_FRAMES:
        raise UserError(f"{source}: the format {form} has frames of its own: leave out {frames}")
    if not source.exists():
        raise UserError(f"there is no file or folder {source}: correct the path of the annotations")
    file = output if output.suffix.lower() == ".xml" else output / "annotations.xml"
    folder = file.parent if to == "cvat" else output
    staging = (folder if folder.is_dir() else folder.parent) / f".{folder.name}.{os.getpid()}.partial"
    built = staging / "built"
    try:
        built.mkdir(parents=True)
        images = [] if form in _WITH_FRAMES else _open_frames(form, source, frames, staging)
        tracks = READERS[form](source, images, left)
        used = [track for track in tracks if track.present.any()]
        left["objects without a box"] += len(tracks) - len(used)
        for track in used:
            track.name = re.sub(r"[^\w.-]+", "_", prefix + track.name).lstrip(".")
        twice, count = Counter(track.name for track in used).most_common(1)[0] if used else ("", 0)
        if count > 1:
            raise UserError(f"{source}: {count} objects are named {twice}: give them other class names or numbers")
        if to == "got10k":
            written = _write_got10k(used, built, left)
        elif used:
            written = _write_cvat(used, built / file.name) if to == "cvat" else _write_mot(used, built)
        if not any(built.iterdir()):
            raise UserError(f"{source}: there is no object to convert{_report(left)}")
        _publish(built, folder, overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return f"{written} written to {output}{_report(left)}"


def _report(left: Counter) -> str:
    reasons = [f"{reason}: {count}" for reason, count in left.items() if count]
    return f"; left out: {', '.join(reasons)}" if reasons else ""


def _count(number: int, noun: str) -> str:
    """`1 track`, `2 tracks`, `2 boxes`."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun == 'box' else 's'}"


def _open_frames(form: str, source: Path, frames: str | os.PathLike | None, staging: Path) -> list[Path]:
    """The video's images in order, at least one; those of a video file are written into a folder of its name."""
    inside = source if source.is_dir() else source.parent
    places = {"cvat": ["images"], "yolo": ["images", "."], "mot": ["img1"]}.get(form, [])
    place = next((inside / each for each in places if (inside / each).is_dir() and list_images(inside / each)), None)
    if frames is None and place is None:
        raise UserError(
            f"{source}: there are no frames beside it: name the video or the folder of its images by --frames"
        )
    place = place if frames is None else Path(frames)
    if place.is_file():
        capture, video, count = cv2.VideoCapture(str(place)), place, 0
        (place := staging / place.name).mkdir()
        while (frame := capture.read()[1]) is not None:
            count += 1
            if not cv2.imwrite(str(place / f"{count:08d}.jpg"), frame):
                raise UserError(f"cannot write the frames of {video} into {place}: make room there")
    images = list_images(place) if place.is_dir() else []
    if not images:
        raise UserError(f"{frames or place} is no video that OpenCV reads, and no folder of images: correct the path")
    return images


def _publish(built: Path, folder: Path, overwrite: bool) -> None:
    """Move what was built into a folder; the list of sequences is added to the one there."""
    new = sorted(path for path in built.iterdir() if path.name != LIST)
    if taken := [path.name for path in new if (folder / path.name).exists() and not overwrite]:
        raise UserError(f"{folder / taken[0]} exists: choose another output or --prefix, or replace it by --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    listed = sorted(each.parent.name for each in folder.glob("*/groundtruth.txt"))
    for path in new:
        if (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        path.replace(folder / path.name)
    if (built / LIST).is_file():
        old = folder / LIST
        listed = parse_names(read_text(old), old) if old.is_file() else listed
        write_text(old, "".join(f"{name}\n" for name in dict.fromkeys([*listed, *read_text(built / LIST).split()])))


def _link(image: Path, place: Path) -> None:
    try:
        os.link(image.resolve(), place)
    except OSError:  # another file system, or one without links
        shutil.copyfile(image, place)


def _text(value: float) -> str:
    """Four digits behind the point, as in GOT-10k, without zeros at the end."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _write_got10k(tracks: list[Track], folder: Path, left: Counter) -> str:
    total = Counter()
    for track in tracks:
        present, cover = track.present, track.cover
        seen = np.flatnonzero(present if cover is None else present & (cover > 0))
        if len(seen) < 2:
            left["objects that are visible in fewer than two frames"] += 1
            continue
        left["boxes before the first visible frame"] += int(present[: seen[0]].sum())
        span = range(seen[0], np.flatnonzero(present)[-1] + 1)
        (place := folder / track.name).mkdir()
        for i in span:
            _link(track.images[i], place / f"{track.numbers[i] + 1:08d}{track.images[i].suffix.lower()}")
        height, width = read_image(track.images[seen[0]]).shape[:2]
        lines = {
            "groundtruth.txt": [",".join(map(_text, track.boxes[i])) for i in span],
            "absence.label": [int(not present[i]) for i in span],
            "cover.label": [cover[i] if present[i] else 0 for i in span] if cover is not None else [],
            "meta_info.ini": ["[METAINFO]", f"object_class: {track.label}", f"resolution: ({width}, {height})"],
        }
        for name in filter(lines.get, lines):
            write_text(place / name, "".join(f"{line}\n" for line in lines[name]))
        total.update(sequence=1, frame=len(span), box=int(present[span].sum()))
    if total:
        write_text(folder / LIST, "".join(f"{path.name}\n" for path in sorted(folder.glob("*/"))))
    sequences, frames, boxes = (_count(total[noun], noun) for noun in ("sequence", "frame", "box"))
    return f"{sequences} of {frames} with {boxes}"


def _write_cvat(tracks: list[Track], file: Path) -> str:
    images, width, height = _one_video(tracks)
    write_text(file, cvat_text(tracks, max(images) + 1, width, height))
    return f"{_count(len(tracks), 'track')} with {_count(sum(int(track.present.sum()) for track in tracks), 'box')}"


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


def _write_mot(tracks: list[Track], folder: Path) -> str:
    images, width, height = _one_video(tracks)
    (folder / "img1").mkdir()
    for number, image in images.items():
        _link(image, folder / "img1" / f"{number + 1:06d}{(suffix := image.suffix.lower())}")
    files = mot_files(tracks, max(images) + 1, width, height, suffix)
    for name, text in files.items():
        write_text(folder / name, text)
    boxes = files["gt/gt.txt"].count("\n")
    return f"{_count(len(tracks), 'track')} of {_count(len(images), 'frame')} with {_count(boxes, 'box')}"


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
        "gt/gt.txt": "".join(f"{','.join(map(str, row))}\n" for row in sorted(rows)),
        "gt/labels.txt": "".join(f"{label}\n" for label in labels),
        "seqinfo.ini": "".join(["[Sequence]\n", *(f"{key}={value}\n" for key, value in facts.items())]),
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
    return dict(sorted(images.items())), width, height


def _ids(tracks: list[Track], least: int) -> list[int]:
    """The numbers at the end of the tracks' names, where each has one of its own; else they are counted."""
    found = [int(match[1]) for track in tracks if (match := re.search(r"_(\d{1,9})$", track.name, re.ASCII))]
    found = found if len(set(found)) == len(tracks) else list(range(least, least + len(tracks)))
    return [number + max(0, least - min(found)) for number in found]
