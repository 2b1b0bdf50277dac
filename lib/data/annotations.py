"""Annotations of videos in other tools' formats, read as tracks: one object each, with a box a frame.

A reader takes the source, the video's images in order, and a counter of all that is left out, by reason. In a track
frames are counted from 0. A `UserError` names the file and the line, track or region that is malformed.
"""

import cmath
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml

from ..utils.errors import UserError
from ..utils.files import read_text
from . import box_files, layouts
from .images import list_images, read_image
from .object_sets import Davis
from .sequence import Sequence
from .storage import Storage


@dataclass
class Track:
    """One object in N frames of a video."""

    name: str
    label: str  # its class
    images: list[Path]
    numbers: np.ndarray  # (N,) int64, the frames' numbers in the video
    boxes: np.ndarray  # (N, 4) float64 xywh in pixels; zeros where the object is absent
    cover: np.ndarray | None = None  # (N,) int64, the visible eighths; None where unknown

    @property
    def present(self) -> np.ndarray:
        """(N,) bool, the object has a box."""
        return (self.boxes[:, 2:] > 0).all(axis=1)

    @property
    def visible(self) -> np.ndarray:
        """(N,) bool, a part of the object is visible."""
        return self.present if self.cover is None else self.present & (self.cover > 0)


# Boxes of objects by name and label: frame, x, y, w, h, 1 where the box is shown, 1 where the object is also shown
# between it and the next one, visible eighths or -1.
_Keys = dict[tuple[str, str], list[tuple[float, ...]]]


def read_cvat(source: Path, images: list[Path], left: Counter) -> list[Track]:
    """CVAT for video 1.1: `<track id label><box frame outside occluded xtl ytl xbr ybr/>`, linear between boxes.

    Where a track has occluded boxes, these have a cover of 4, and its others 8: CVAT does not say how much is visible.
    """
    file, found = source / "annotations.xml" if source.is_dir() else source, {}
    with _named(file):
        root = ElementTree.fromstring(read_text(file))
        nodes, size = root.findall("track"), int(root.findtext(".//size", "0"))
        if not nodes or len({node.get("task_id") for node in nodes}) > 1:
            fault = "there are several tasks" if nodes else "there is no <track>"
            raise ValueError(f"{fault}: export one task from CVAT as 'CVAT for video 1.1'")
    for node in nodes:
        with _named(f"{file}, track {node.get('id')}"):
            keys = found[f"{node.attrib['label']}_{node.attrib['id']}", node.attrib["label"]] = []
            marked = any(box.get("occluded") == "1" for box in node.findall("box"))
            for box in node.findall("box"):
                x, y, right, bottom = (float(box.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
                w, h = right - x, bottom - y
                xywh = _upright(x, y, w, h, float(box.get("rotation", 0)), pivot=complex(w, h) / 2)
                cover, shown = (4 if box.get("occluded") == "1" else 8) if marked else -1, box.get("outside") != "1"
                keys.append((int(box.attrib["frame"]), *xywh, shown, shown, cover))
            if keys and size > (last := max(keys))[0]:  # its object stays until the task ends
                keys.append((size, *last[1:5], 0, 0, last[7]))
    return _tracks(file, found, images, left)


def read_label_studio(source: Path, images: list[Path], left: Counter) -> list[Track]:
    """Label Studio's JSON: `videorectangle` regions, keyframes in percent; frames from 1, at a rate of its own.

    A keyframe that is not `enabled` shows its box, but nothing follows it. The last one lasts to the video's end.
    Of several tasks the one is taken whose video is named as the frames' folder or video file.
    """
    found, name, (height, width) = {}, images[0].parent.name, read_image(images[0]).shape[:2]
    with _named(f"{source}, read as Label Studio's JSON"):
        tasks = json.loads(read_text(source))
        named = [task for task in tasks if any(str(value).endswith(name) for value in task["data"].values())]
        chosen = tasks if len(tasks) == 1 else named
        if len(chosen) != 1:
            raise ValueError(f"{len(named)} of its {len(tasks)} tasks are of a video {name}; name the frames as one")
        results = [each["result"] for each in chosen[0]["annotations"] if not each.get("was_cancelled")] or [[]]
        regions = [region for region in results[0] if region["type"] == "videorectangle"]
    left["tasks of other videos"] += len(tasks) - 1
    left["further annotations of this video"] += len(results) - 1
    left["regions that are no video rectangles"] += len(results[0]) - len(regions)
    for region in regions:
        with _named(f"{source}, region {region.get('id')}"):
            value, keys = region["value"], {}
            total = value.get("framesCount") or len(images)
            # Label Studio rounds the duration up: a few frames more or less are no other rate.
            rate = len(images) / total if abs(total - len(images)) > max(2, len(images) / 100) else 1
            for key in value["sequence"]:
                frame = round((int(key["frame"]) - 1) * rate)
                x, y = float(key["x"]) * width / 100, float(key["y"]) * height / 100
                w, h = float(key["width"]) * width / 100, float(key["height"]) * height / 100
                xywh = _upright(x, y, w, h, float(key.get("rotation") or 0), pivot=0)
                keys[frame] = (frame, *xywh, 1, bool(key.get("enabled", True)), -1)
            label = str((value.get("labels") or ["object"])[0])
            found[f"{label}_{region['id']}", label] = list(keys.values())
    return _tracks(source, found, images, left)


def read_yolo(source: Path, images: list[Path], left: Counter) -> list[Track]:
    """YOLO: a text a frame, `class cx cy w h [confidence] [track id]` in fractions, named as the image or `…_<number>`.

    Without track ids a class is one object, if no frame has two of its boxes.
    """
    names, scale = _yolo_names(source), np.tile(read_image(images[0]).shape[1::-1], 2)
    folder, found, boxes = source / "labels" if (source / "labels").is_dir() else source, {}, []
    files = [file for file in folder.glob("*.txt") if file.name != "classes.txt"]
    stems = {image.stem: position for position, image in enumerate(images)}
    places = {file: stems[file.stem] for file in files if file.stem in stems}
    if not places:  # of a video: the number behind its name
        ordered = sorted(files, key=lambda file: (len(file.stem), file.stem))
        numbered = [file for file in ordered if re.search(r"\d$", file.stem, re.ASCII)]
        places = dict(zip(numbered, frame_numbers(numbered).tolist(), strict=True))
    left["text files of no frame"] += len(files) - len(places)
    for file, frame in sorted(places.items(), key=lambda place: place[1]):
        for _, row in _rows(file, 5, 7):
            # Ultralytics: a confidence may stand before the track id, or alone.
            track = int(row[-1]) if len(row) > 5 and row[-1].is_integer() else -1
            box = np.array([row[1] - row[3] / 2, row[2] - row[4] / 2, *row[3:5]]) * scale
            boxes.append((track, names.get(int(row[0]), f"class{row[0]:.0f}"), (frame, *box, 1, 0, -1)))
    tracked, labels = any(track >= 0 for track, _, _ in boxes), {}
    repeated = Counter((label, key[0]) for _, label, key in boxes)
    crowded = {label for (label, _), count in repeated.items() if count > 1 and not tracked}
    for track, label, key in boxes:
        if tracked and track < 0:
            left["boxes without a track id"] += 1
        elif label in crowded:
            left["boxes of classes with two boxes in a frame and no track ids"] += 1
        else:
            label = labels.setdefault(track, label) if tracked else label  # a detector may change its mind
            found.setdefault((f"{label}_{track}" if tracked else label, label), []).append(key)
    return _tracks(folder, found, images, left)


def read_mot(source: Path, images: list[Path], left: Counter) -> list[Track]:
    """MOT Challenge's `gt/gt.txt`: `frame,id,x,y,w,h[,flag[,class,visibility]]`; flag 0 marks what is to be ignored.

    Coordinates are taken as they stand, as CVAT does. CVAT's `gt/labels.txt` names the classes.
    """
    file, found, labels = source / "gt" / "gt.txt" if source.is_dir() else source, {}, {}
    listed = file.with_name("labels.txt")
    classes = dict(enumerate(read_text(listed).splitlines() if listed.is_file() else ["pedestrian"], start=1))
    for where, row in _rows(file, 6, 10):
        if not (row[0].is_integer() and row[1].is_integer()) or row[0] < 1:
            raise UserError(f"{where}: expected frame (from 1), id, x, y, w, h")
        if row[1] < 0 or (len(row) > 6 and row[6] == 0):
            left["boxes without an id" if row[1] < 0 else "boxes that are to be ignored (flag 0)"] += 1
            continue
        kind, visible = row[7:] if len(row) == 9 else (1, -1)  # of ten columns the last are 3D
        label = labels.setdefault(row[1], classes.get(kind, f"class{kind:.0f}"))
        cover = -1 if visible < 0 else max(round(8 * min(visible, 1)), int(visible > 0))
        found.setdefault((f"{label}_{row[1]:.0f}", label), []).append((row[0] - 1, *row[2:6], 1, 0, cover))
    return _tracks(file, found, images, left)


def read_davis(source: Path, images: list[Path], left: Counter) -> list[Track]:
    """DAVIS or YouTube-VOS: boxes around masks; an object's number is its index in DAVIS's palette."""
    data, tracks = Davis(str(source), Storage(source), late=True), []
    for sequence, (video, colour) in enumerate(data.sequences):
        boxes = data.info(sequence).boxes.astype(np.float64)
        images = [Path(data.source(sequence, frame)) for frame in range(len(boxes))]
        if all(track.label != video for track in tracks):
            left["frames without a mask"] += len(list_images(images[0].parent)) - len(images)
        rgb = (colour >> 16, colour >> 8 & 255, colour & 255)
        spread = sum((rgb[bit % 3] >> (7 - bit // 3) & 1) << bit for bit in range(24))
        index = rgb[0] if len(set(rgb)) == 1 else spread  # a grey mask holds its numbers as they are
        tracks.append(Track(f"{video}_{index}", video, images, frame_numbers(images), boxes))
    return tracks


def read_got10k(source: Path, images: list[Path], left: Counter) -> list[Track]:
    """A sequence in GOT-10k layout, or a folder of them; a frame's number is that of its name."""
    folders, tracks = [source], []
    if not (source / "groundtruth.txt").is_file():
        sequences = layouts.got10k(Storage(""), f"{source}/", str(source))
        folders = [sequence.frames_dir for sequence in sequences]
        left.update({f"sequences {reason}": len(names) for reason, names in sequences.left_out.items()})
    for folder in folders:
        sequence = Sequence(folder.resolve().name, "folder", folder, folder / "groundtruth.txt")
        boxes, images = np.nan_to_num(sequence.truth), list_images(folder)
        sequence.check_frames([image.name for image in images])
        absence, cover = (sequence.flags(folder / f"{name}.label") for name in ("absence", "cover"))
        boxes[(boxes[:, 2:] <= 0).any(axis=1) | (absence is not None and absence != 0)] = 0
        meta = box_files.read_meta(folder / "meta_info.ini")
        label = meta.get("object_class") or re.sub(r"_\d+$", "", sequence.name)
        tracks.append(Track(sequence.name, label, images, frame_numbers(images), boxes, cover))
    return tracks


READERS: dict[str, Callable[[Path, list[Path], Counter], list[Track]]] = {
    "cvat": read_cvat,
    "label-studio": read_label_studio,
    "yolo": read_yolo,
    "mot": read_mot,
    "davis": read_davis,
    "got10k": read_got10k,
}


def frame_numbers(files: list[Path]) -> np.ndarray:
    """(N,) the numbers at the end of frames' names, less one where none is 0; positions where names do not count up."""
    found = [re.search(r"(\d{1,9})$", file.stem, re.ASCII) for file in files]
    numbers = np.array([int(match[1]) if match else -1 for match in found])
    counts = len(files) and (numbers >= 0).all() and (np.diff(numbers) > 0).all()
    return numbers - int(numbers[0] > 0) if counts else np.arange(len(files))


def _tracks(source: Path, found: _Keys, images: list[Path], left: Counter) -> list[Track]:
    """Tracks from the boxes of their objects, with all images of the video; linear between boxes.

    An image's number is its position, or, where boxes lie beyond these, the number in its name.
    """
    last, tracks = max((key[0] for keys in found.values() for key in keys if key[5]), default=0), []
    numbers = frame_numbers(images) if last >= len(images) else np.arange(len(images))
    for (name, label), keys in found.items():
        if not keys:
            left["objects without a box"] += 1
            continue
        table = np.array(sorted(keys), dtype=np.float64)
        frames, sides, shown = table[:, 0], table[:, 1:5], table[:, 5] > 0
        if not np.isfinite(table).all():
            raise UserError(f"{source}, object {name}: a number of a box is not finite")
        if len(twice := frames[1:][np.diff(frames) == 0]):
            raise UserError(f"{source}, object {name}: two boxes in frame {twice[0]:.0f}, counted from 0: keep one")
        flat = shown & (sides[:, 2:] <= 0).any(axis=1)
        table[flat, 5:7] = 0
        left["boxes without an area"] += int(flat.sum())
        left["boxes in frames without an image"] += int((shown & ~flat & ~np.isin(frames, numbers)).sum())
        before = np.searchsorted(frames, numbers, side="right") - 1
        here = (before >= 0) & (np.where(frames[before] == numbers, table[before, 5], table[before, 6]) > 0)
        boxes = np.stack([np.interp(numbers, frames, side) for side in sides.T], axis=1) * here[:, None]
        cover = (table[before, 7] * here).astype(np.int64) if (table[:, 7] >= 0).all() else None
        tracks.append(Track(name, label, images, numbers, boxes, cover))
    return tracks


def _upright(x: float, y: float, w: float, h: float, degrees: float, pivot: complex) -> tuple[float, ...]:
    """The upright xywh around a box that is turned about `pivot`, which counts from the box's corner."""
    if not degrees:
        return x, y, w, h
    corners = (np.array([0, w, 1j * h, w + 1j * h]) - pivot) * cmath.rect(1, math.radians(degrees)) + pivot
    return x + corners.real.min(), y + corners.imag.min(), np.ptp(corners.real), np.ptp(corners.imag)


def _rows(file: Path, least: int, most: int) -> Iterator[tuple[str, list[float]]]:
    """Place (for messages) and numbers of each line that is not empty."""
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        row = box_files.line_numbers(line) if line.strip() else []
        if row is None or (row and not least <= len(row) <= most) or not all(map(math.isfinite, row)):
            raise UserError(f"{file}, line {number}: {line.strip()[:60]!r} is not {least} to {most} numbers")
        if row:
            yield f"{file}, line {number}", row


def _yolo_names(source: Path) -> dict[int, str]:
    """Names of classes in `classes.txt`, `obj.names` or `data.yaml`, in the folder or above it; {} without one."""
    for name in ("classes.txt", "obj.names", "data.yaml"):
        for file in (source / name, source.parent / name):
            if file.is_file():
                text = read_text(file)
                with _named(f"{file}, names"):
                    names = yaml.safe_load(text)["names"] if name == "data.yaml" else text.splitlines()
                    named = names.items() if isinstance(names, dict) else enumerate(names)
                    return {int(key): str(value).strip() for key, value in named}
    return {}


@contextmanager
def _named(where: object) -> Iterator[None]:
    """Errors of malformed content as a `UserError` of one line that says where."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{where}: {error} is missing") from error
    except (ValueError, TypeError, AttributeError, OverflowError, ElementTree.ParseError, yaml.YAMLError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error
