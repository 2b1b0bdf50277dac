"""The files that a person takes home: the video with the boxes drawn in, the boxes as a table, sequences to train on.

Each writer is a generator that does a frame a step and gives the share that is done, 0 to 1; also a sentence for the
person where something is missing in the file.
"""

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from ...data.annotations import Track
from ...data.convert import cvat_text, mot_files
from ...data.images import encode_jpeg
from ...data.layouts import LIST
from ...utils.errors import UserError
from ...utils.files import atomic_path, write_text
from ..video.output import DISTINCT, VideoFile, draw_overlay, video_size
from .clips import Clip
from .objects import TrackedObject


def write_video(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float | str]:
    """The clip from its start to the last frame that has a box, the boxes drawn in, as an mp4 video."""
    end = max(max(each.boxes) for each in objects) + 1
    size = video_size(np.broadcast_to(np.uint8(0), (clip.size[1], clip.size[0], 3)))
    notes: list[str] = []
    with atomic_path(path) as temporary, closing(VideoFile(temporary, size, clip.fps)) as video:
        for index, image in _readable(clip, range(end), notes):
            shown = [each for each in objects if index in each.boxes]
            words, named = [f"frame {index + 1}"], len(objects) > 1 or objects[0].name
            for each in shown:
                if (score := each.boxes[index][4]) is not None:
                    words.append(f"{each.name or each.number}: {score:.2f}" if named else f"{score:.2f}")
            boxes = [(each.boxes[index][:4], DISTINCT[each.number - 1]) for each in shown]
            video.add(draw_overlay(image, size, "   ".join(words), boxes))
            yield (index + 1) / end
    yield from notes


def write_table(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """A line for each box: object, frame (from 1), x, y, w, h, confidence where there is one, 1 where drawn; name."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("object", "frame", "x", "y", "w", "h", "confidence", "drawn", "name"))
    for each in objects:
        for index, (*box, score) in sorted(each.boxes.items()):
            facts = ("" if score is None else f"{score:.4f}", int(index in each.drawn), each.name)
            rows.writerow((each.number, index + 1, *(f"{value:.2f}" for value in box), *facts))
    write_text(path, text.getvalue())
    yield 1.0


def write_sequences(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float | str]:
    """A zip file in GOT-10k layout, a sequence for each object: `FOLDER:` trains on it where it is unpacked.

    A sequence holds the frames from the first to the last that has a box of its object; `absence.label` has 1 for those
    between them that have none.
    """
    tracks = _tracks(clip, objects)
    first, last = min(track.numbers[0] for track in tracks), max(track.numbers[-1] for track in tracks)
    notes: list[str] = []
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for index, image in _readable(clip, range(first, last + 1), notes):
            if clip.files and clip.files[index].suffix.lower() in (".jpg", ".jpeg"):
                jpeg = clip.files[index].read_bytes()  # not compressed a second time
            else:
                jpeg = encode_jpeg(image)
            for track in tracks:
                if track.numbers[0] <= index <= track.numbers[-1]:
                    archive.writestr(f"{track.name}/{index - track.numbers[0] + 1:08d}.jpg", jpeg)
            yield (index + 1 - first) / (last + 1 - first)
        shown = [(track, track.numbers <= index) for track in tracks if track.numbers[0] <= index]
        archive.writestr(LIST, "".join(f"{track.name}\n" for track, _ in shown))
        for track, within in shown:
            lines = (",".join(f"{value:.4f}" for value in box) for box in track.boxes[within])
            archive.writestr(f"{track.name}/groundtruth.txt", "".join(f"{line}\n" for line in lines))
            absent = (f"{int(not seen)}\n" for seen in track.present[within])
            archive.writestr(f"{track.name}/absence.label", "".join(absent))
    yield from notes


def write_cvat(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """CVAT for video 1.1, as its import takes it."""
    tracks = _tracks(clip, objects)
    write_text(path, cvat_text(tracks, _count(clip, tracks), *clip.size))
    yield 1.0


def write_mot(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """A zip file in MOT 1.1 layout, without the pictures."""
    tracks = _tracks(clip, objects)
    files = mot_files(tracks, _count(clip, tracks), *clip.size, fps=round(clip.fps, 3))
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    yield 1.0


# Writer, and end of the file's name after that of the clip.
DOWNLOADS = {
    "video": (write_video, "tracked.mp4"),
    "table": (write_table, "boxes.csv"),
    "sequences": (write_sequences, "got10k.zip"),
    "cvat": (write_cvat, "cvat.xml"),
    "mot": (write_mot, "mot.zip"),
}


def _tracks(clip: Clip, objects: Sequence[TrackedObject]) -> list[Track]:
    """The objects, each from its first to its last box; zeros between them where it has none."""
    tracks = []
    for each in objects:
        numbers = np.arange(min(each.boxes), max(each.boxes) + 1)
        boxes = np.array([each.boxes.get(index, (0.0,) * 5)[:4] for index in numbers.tolist()])
        tracks.append(Track(f"{file_name(clip.name)}_{each.number}", each.name or "object", [], numbers, boxes))
    return tracks


def _readable(clip: Clip, wanted: range, notes: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """The frames with their indices, up to one that cannot be read: why goes into `notes`; an error if it is the first.

    A clip may have been changed since it was tracked, or be damaged between two boxes.
    """
    index = None
    try:
        for index, image in clip.pick(wanted):
            yield index, image
        if index != wanted[-1]:
            raise UserError(f"{clip.name} is shorter than when it was tracked")
    except UserError as error:
        if index is None:
            raise
        notes.append(f"{error}: the file that is made ends with frame {index + 1}")


def _count(clip: Clip, tracks: Sequence[Track]) -> int:
    return max(clip.total or 0, *(int(track.numbers[-1]) + 1 for track in tracks))


def file_name(name: str) -> str:
    """A clip's name as part of a file's: letters, digits, dashes; never empty, a path, or hidden."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(name).stem).strip("_")[:60] or "clip"
