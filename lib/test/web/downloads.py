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

import cv2
import numpy as np

from ...utils.errors import UserError
from ...utils.files import atomic_path, write_text
from ..video.output import DISTINCT, VideoFile, draw_overlay, video_size
from .clips import Clip
from .trackers import TrackedObject

_QUALITY = 95  # of the frames to train on


def write_video(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """The clip from its start to the last frame that has a box, the boxes drawn in, as an mp4 video."""
    end = max(each.next for each in objects)
    size = video_size(np.broadcast_to(np.uint8(0), (clip.size[1], clip.size[0], 3)))
    with atomic_path(path) as temporary, closing(VideoFile(temporary, size, clip.fps)) as video:
        for index, image in _numbered(clip, 0, end):
            shown = [each for each in objects if each.covers(index)]
            scores = [(each.number, each.scores[index]) for each in shown if index in each.scores]
            words = [f"{number}: {score:.2f}" if len(objects) > 1 else f"{score:.2f}" for number, score in scores]
            boxes = [(each.boxes[index], DISTINCT[each.number - 1]) for each in shown]
            canvas = draw_overlay(image, size, "   ".join([f"frame {index + 1}", *words]), boxes)
            video.add(canvas)
            yield (index + 1) / end


def write_table(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """A line for each box: object, frame (from 1), x, y, w, h, confidence where there is one, 1 where it was drawn."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("object", "frame", "x", "y", "w", "h", "confidence", "drawn"))
    for each in objects:
        for index, box in each.boxes.items():
            score = f"{each.scores[index]:.4f}" if index in each.scores else ""
            rows.writerow((each.number, index + 1, *(f"{v:.2f}" for v in box), score, int(index in each.drawn)))
    write_text(path, text.getvalue())
    yield 1.0


def write_sequences(path: Path, clip: Clip, objects: Sequence[TrackedObject]) -> Iterator[float]:
    """A zip file in GOT-10k layout, a sequence for each object: `FOLDER:` trains on it where it is unpacked.

    A sequence holds the frames from the first to the last that has a box of its object.
    """
    names = {each.number: f"{file_name(clip.name)}_{each.number}" for each in objects}
    first, end = min(each.first for each in objects), max(each.next for each in objects)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("list.txt", "".join(f"{name}\n" for name in names.values()))
        for each in objects:
            lines = (",".join(f"{value:.4f}" for value in box) for box in each.boxes.values())
            archive.writestr(f"{names[each.number]}/groundtruth.txt", "".join(f"{line}\n" for line in lines))
        for index, image in _numbered(clip, first, end):
            shown = [each for each in objects if each.covers(index)]
            if shown and clip.files and clip.files[index].suffix.lower() in (".jpg", ".jpeg"):
                jpeg = clip.files[index].read_bytes()  # not compressed a second time
            elif shown:
                jpeg = encode_jpeg(image, _QUALITY)
            for each in shown:
                archive.writestr(f"{names[each.number]}/{index - each.first + 1:08d}.jpg", jpeg)
            yield (index + 1 - first) / (end - first)


# Writer, and end of the file's name after that of the clip.
DOWNLOADS = {
    "video": (write_video, "tracked.mp4"),
    "table": (write_table, "boxes.csv"),
    "sequences": (write_sequences, "got10k.zip"),
}


def file_name(name: str) -> str:
    """A clip's name as part of a file's: letters, digits, dashes; never empty, a path, or hidden."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(name).stem).strip("_")[:60] or "clip"


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """An image (H, W, 3) uint8 RGB as the content of a JPEG file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _numbered(clip: Clip, start: int, end: int) -> Iterator[tuple[int, np.ndarray]]:
    """The frames `start` to `end - 1`, and none after them, which may be damaged."""
    index = start - 1
    for index, image in zip(range(start, end), clip.frames(start), strict=False):
        yield index, image
    if index < end - 1:
        raise UserError(f"{clip.name} ended at frame {index + 1}: it was changed since it was tracked")
