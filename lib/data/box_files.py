"""Reading text files of boxes and of per-frame flags, as data sets and trackers write them.

Numbers may be separated by commas, semicolons, tabs or spaces; a byte-order mark, Windows line ends
and empty lines at the end are accepted. Anything else that is not a box is refused by file and line.
"""

import math
import os
import re
from pathlib import Path

import numpy as np

from lib.utils.errors import UserError

_NUMBER_PATTERN = r"[+-]?(?:nan|(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)"
_SEPARATOR_PATTERN = r"(?:\s*[,;]\s*|\s+)"
_NUMBER = re.compile(_NUMBER_PATTERN, re.IGNORECASE | re.ASCII)
_SEPARATOR = re.compile(_SEPARATOR_PATTERN, re.ASCII)
_BOX = re.compile(r"\s*" + _SEPARATOR_PATTERN.join([f"({_NUMBER_PATTERN})"] * 4) + r"\s*", re.IGNORECASE | re.ASCII)
# What nearly all files look like, which needs no look at each line.
_PLAIN_NUMBER = rb"-?\d+(?:\.\d+)?"
_PLAIN_BOXES = re.compile(rb"(?:" + rb",".join([_PLAIN_NUMBER] * 4) + rb"\n)+")
_PLAIN_FLAGS = re.compile(rb"(?:-?\d{1,8}[\n,])+")
_LARGEST = 1e7  # pixels; beyond it a value is damage, and areas would overflow


def read_boxes(path: str | os.PathLike, allow_nan: bool = True) -> np.ndarray:
    """Read one xywh box a line: (N, 4) float64, N at least 1.

    nan marks frames without a box in annotations; `allow_nan=False` refuses it, for results.

    Raises:
        UserError: the file is missing, is empty, or holds a line that is not four numbers.
    """
    return parse_boxes(_content(path), path, allow_nan)


def parse_boxes(data: bytes, source: str | os.PathLike, allow_nan: bool = True) -> np.ndarray:
    """The same as `read_boxes` from a file's content; `source` names it in messages."""
    boxes = _plain_boxes(data)
    if boxes is None:
        boxes = _boxes_by_line(data, source)
    if not allow_nan:
        _refuse(np.isnan(boxes), source, "nan is not allowed here")
    _refuse(np.abs(boxes) > _LARGEST, source, "a number too large to be in pixels")
    return boxes


def _plain_boxes(data: bytes) -> np.ndarray | None:
    """(N, 4) float64 of a file of numbers separated by commas; None where it has anything else in it."""
    data = data.rstrip() + b"\n"
    if not _PLAIN_BOXES.fullmatch(data):
        return None
    return np.fromstring(data.replace(b"\n", b","), np.float64, sep=",").reshape(-1, 4)


def _boxes_by_line(data: bytes, source: str | os.PathLike) -> np.ndarray:
    """(N, 4) float64 of any file of boxes."""
    rows = []
    for number, line in enumerate(text_lines(data, source), start=1):
        match = _BOX.fullmatch(line)
        if not match:
            raise UserError(f"{source}, line {number}: {line.strip()[:60]!r} is not x, y, width, height")
        rows.append(match.groups())
    return np.array(rows, dtype=np.float64)


def read_flags(path: str | os.PathLike) -> np.ndarray:
    """Read whole numbers, one a line or all in one (absence, occlusion, cover labels): (N,) int64.

    Raises:
        UserError: the file is missing, is empty, or holds something else.
    """
    return parse_flags(_content(path), path)


def parse_flags(data: bytes, source: str | os.PathLike) -> np.ndarray:
    """The same as `read_flags` from a file's content; `source` names it in messages."""
    plain = data.rstrip() + b"\n"
    if _PLAIN_FLAGS.fullmatch(plain):
        values = list(map(int, plain[:-1].replace(b"\n", b",").split(b",")))
        if max(map(abs, values)) <= _LARGEST:
            return np.array(values, dtype=np.int64)
    flags = []
    for number, line in enumerate(text_lines(data, source), start=1):
        for field in _SEPARATOR.split(line.strip()):
            value = float(field) if _NUMBER.fullmatch(field) else math.nan
            if not value.is_integer() or abs(value) > _LARGEST:
                raise UserError(f"{source}, line {number}: {field[:40]!r} is not a whole number")
            flags.append(int(value))
    return np.array(flags, dtype=np.int64)


def line_numbers(line: str) -> list[float] | None:
    """The numbers of one line, as boxes are written; None where anything in it is not a number in pixels."""
    fields = _SEPARATOR.split(line.strip())
    if not all(_NUMBER.fullmatch(field) for field in fields):
        return None
    values = [float(field) for field in fields]
    return None if any(abs(value) > _LARGEST for value in values) else values


def _refuse(bad: np.ndarray, source: str | os.PathLike, why: str) -> None:
    """Raise for the first row of `bad` (N, 4) with a True in it."""
    rows = bad.any(axis=1)
    if rows.any():
        raise UserError(f"{source}, line {int(rows.argmax()) + 1}: {why}")


def _content(path: str | os.PathLike) -> bytes:
    """The bytes of a file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def text_lines(data: bytes, source: str | os.PathLike) -> list[str]:
    """The lines of a text file without the empty ones at its end; at least one.

    Raises:
        UserError: it is empty or not text.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not a text file: byte {error.start} is not UTF-8") from error
    # Not splitlines(): it also splits at form feeds and other rare characters, so line numbers would be off.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")
    if lines == [""]:
        raise UserError(f"{source} is empty")
    return lines


def parse_regions(data: bytes, source: str) -> np.ndarray:
    """Boxes (N, 4) xywh of a VOT annotation, one region a line.

    A line is `x,y,w,h`; or a polygon `x1,y1,x2,y2,x3,y3,…`; or a mask `mx,y,w,h,run,run,…` of runs of zeros and ones
    in turn, row by row within the rectangle; or one number, which stands for a frame without a region. Polygons and
    masks become the smallest box around them, nan where there is none.

    Args:
        data: content of the file.
        source: its name, for messages.

    Raises:
        UserError: a line is something else; the message names it.
    """
    boxes = []
    for number, line in enumerate(text_lines(data, source), start=1):
        text = line.strip()
        mask = text[:1] in ("m", "M")
        values = line_numbers(text[1:] if mask else text)
        box = None if values is None else _mask_box(values) if mask else _shape_box(values)
        if box is None:
            raise UserError(f"{source}, line {number}: {text[:60]!r} is not a VOT rectangle, polygon or mask")
        boxes.append(box)
    return np.array(boxes, dtype=np.float64)


def _shape_box(values: list[float]) -> list[float] | None:
    """The box of a rectangle or polygon; None where it is neither."""
    if len(values) == 1:
        return [math.nan] * 4
    if len(values) == 4:
        return values
    if len(values) < 6 or len(values) % 2:
        return None
    low, high = np.min([values[0::2], values[1::2]], axis=1), np.max([values[0::2], values[1::2]], axis=1)
    return [*low, *(high - low)]


def _mask_box(values: list[float]) -> list[float] | None:
    """The box of a run-length mask, found without unpacking it; None where it is malformed."""
    if len(values) < 4 or not all(value.is_integer() for value in values):
        return None
    x, y, width, height, *runs = map(int, values)
    ends = np.cumsum(runs, dtype=np.int64)
    if min(width, height, *runs, 0) < 0 or (runs and ends[-1] > width * height):
        return None
    count = len(runs) // 2
    first, last = ends[0::2][:count], ends[1::2] - 1
    filled = first <= last
    if not filled.any():
        return [math.nan] * 4
    first, last = first[filled], last[filled]
    # A run that goes on in the next row touches both sides of the rectangle.
    broken = (first // width != last // width).any()
    left, right = (0, width - 1) if broken else ((first % width).min(), (last % width).max())
    top, bottom = (first // width).min(), (last // width).max()
    return [x + left, y + top, right - left + 1, bottom - top + 1]
