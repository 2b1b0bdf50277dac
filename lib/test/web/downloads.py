"""The files that a person takes home: the video with the boxes drawn in, the boxes as a table, sequences to train on.

Each writer is a generator that does a frame a step and gives the share that is done, 0 to 1. It raises `UserError`
where a frame cannot be read.
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
from ...utils.errors import UserError
from ...utils.files import atomic_path, write_text
from ..video.output import DISTINCT, VideoFile, draw_overlay, video_size
from .clips import Clip
from .objects import TrackedObject

_QUALITY = 95  # of the frames to train on


def write_video(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """The clip from its start to the last frame that has a box, the boxes drawn in, as an mp4 video."""
    end = max(max(each.boxes) for each in objects) + 1
    size = video_size(np.broadcast_to(np.uint8(0), (clip.size[1], clip.size[0], 3)))
    with atomic_path(path) as temporary, closing(VideoFile(temporary, size, clip.fps)) as video:
        for index, image in _numbered(clip, 0, end):
            shown = [each for each in objects if index in each.boxes]
            scores = [(each, f"{each.scores[index]:.2f}") for each in shown if index in each.scores]
            named = len(objects) > 1 or objects[0].name
            words = [f"{each.name or each.number}: {score}" if named else score for each, score in scores]
            boxes = [(each.boxes[index], DISTINCT[each.number - 1]) for each in shown]
            canvas = draw_overlay(image, size, "   ".join([f"frame {index + 1}", *words]), boxes)
            video.add(canvas)
            yield (index + 1) / end


def write_table(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """A line for each box: object, frame (from 1), x, y, w, h, confidence where there is one, 1 where drawn; name."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("object", "frame", "x", "y", "w", "h", "confidence", "drawn", "name"))
    for each in objects:
        for index, box in sorted(each.boxes.items()):
            score = f"{each.scores[index]:.4f}" if index in each.scores else ""
            facts = (score, int(index in each.drawn), each.name)
            rows.writerow((each.number, index + 1, *(f"{v:.2f}" for v in box), *facts))
    write_text(path, text.getvalue())
    yield 1.0


def write_sequences(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """A zip file in GOT-10k layout, a sequence for each object: `FOLDER:` trains on it where it is unpacked.

    A sequence holds the frames from the first to the last that has a box of its object; `absence.label` has 1 for those
    between them that have none.
    """
    tracks = {each.number: as_track(each, clip) for each in objects}
    names = {number: track.name for number, track in tracks.items()}
    spans = {number: range(track.numbers[0], track.numbers[-1] + 1) for number, track in tracks.items()}
    first, end = min(span.start for span in spans.values()), max(span.stop for span in spans.values())
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("list.txt", "".join(f"{name}\n" for name in names.values()))
        for each in objects:
            track, folder = tracks[each.number], names[each.number]
            lines = (",".join(f"{value:.4f}" for value in box) for box in track.boxes)
            archive.writestr(f"{folder}/groundtruth.txt", "".join(f"{line}\n" for line in lines))
            archive.writestr(f"{folder}/absence.label", "".join(f"{int(not seen)}\n" for seen in track.present))
        for index, image in _numbered(clip, first, end):
            shown = [each for each in objects if index in spans[each.number]]
            if shown and clip.files and clip.files[index].suffix.lower() in (".jpg", ".jpeg"):
                jpeg = clip.files[index].read_bytes()  # not compressed a second time
            elif shown:
                jpeg = encode_jpeg(image, _QUALITY)
            for each in shown:
                archive.writestr(f"{names[each.number]}/{index - spans[each.number].start + 1:08d}.jpg", jpeg)
            yield (index + 1 - first) / (end - first)


def write_cvat(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """CVAT for video 1.1, as its import takes it."""
    write_text(path, cvat_text([as_track(each, clip) for each in objects], _count(clip, objects), *clip.size))
    yield 1.0


def write_mot(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """A zip file in MOT 1.1 layout, without the pictures."""
    tracks = [as_track(each, clip) for each in objects]
    files = mot_files(tracks, _count(clip, objects), *clip.size, fps=round(clip.fps, 3))
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


def as_track(each: TrackedObject, clip: Clip) -> Track:
    """An object from its first to its last box; zeros between them where it has none."""
    numbers = np.arange(min(each.boxes), max(each.boxes) + 1)
    boxes = np.array([each.boxes.get(index, (0.0, 0.0, 0.0, 0.0)) for index in numbers.tolist()])
    return Track(f"{file_name(clip.name)}_{each.number}", each.name or "object", [], numbers, boxes)


def _count(clip: Clip, objects: Sequence[TrackedObject]) -> int:
    return max(clip.total or 0, *(max(each.boxes) + 1 for each in objects))


def file_name(name: str) -> str:
    """A clip's name as part of a file's: letters, digits, dashes; never empty, a path, or hidden."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(name).stem).strip("_")[:60] or "clip"


def _numbered(clip: Clip, start: int, end: int) -> Iterator[tuple[int, np.ndarray]]:
    """The frames `start` to `end - 1`, and none after them, which may be damaged."""
    index = start - 1
    for index, image in zip(range(start, end), clip.frames(start), strict=False):
        yield index, image
    if index < end - 1:
        raise UserError(f"{clip.name} ended at frame {index + 1}: it was changed since it was tracked")
