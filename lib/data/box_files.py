"""Text files of annotation: boxes, flags, regions of VOT, attributes, as data sets and trackers write them.

Numbers may be separated by commas, semicolons, tabs or spaces; a byte-order mark, Windows line ends
and empty lines at the end are accepted. Anything else that is not a box is refused by file and line.
"""

import math
import os
import re
from pathlib import Path

import numpy as np

from ..utils.errors import UserError
from ..utils.files import read_text

# Possessive, so that a long row of digits is refused at once.
_NUMBER_PATTERN = r"[+-]?(?:nan|(?:\d++(?:\.\d*+)?+|\.\d++)(?:e[+-]?\d++)?+)"
_SEPARATOR_PATTERN = r"(?:[ \t]*+[,;][ \t]*+|[ \t]++)"
_BOX_PATTERN = rf"[ \t]*+{_SEPARATOR_PATTERN.join([_NUMBER_PATTERN] * 4)}[ \t]*+"
_NUMBER = re.compile(_NUMBER_PATTERN, re.IGNORECASE | re.ASCII)
_SEPARATOR = re.compile(_SEPARATOR_PATTERN)
_BOXES = re.compile(rf"{_BOX_PATTERN}(?:\n{_BOX_PATTERN})*+", re.IGNORECASE | re.ASCII)
_PLAIN_FLAGS = re.compile(r"-?\d{1,6}(?:,-?\d{1,6})*+", re.ASCII)  # nearly all files; 20 times as fast
_LARGEST = 1e7  # pixels; beyond it a value is damage, and areas would overflow

UAV123 = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")
TNL2K = ("CM", "ROT", "DEF", "FOC", "IV", "OV", "POC", "VC", "SV", "BC", "MB", "ARC", "LR", "FM", "AS", "TC", "MS")


def read_boxes(path: str | os.PathLike, allow_nan: bool = True) -> np.ndarray:
    """`parse_boxes` of a file, which may also be missing."""
    return parse_boxes(read_text(path), path, allow_nan)


def parse_boxes(text: str, source: str | os.PathLike, allow_nan: bool = True) -> np.ndarray:
    """The boxes in a text of one xywh box a line: (N, 4) float64, N at least 1; `source` is the file, for messages.

    A `UserError` where the text is empty, or a line is not four numbers; nan marks frames without a box in annotations.
    """
    lines = _lines(text, source)
    text = "\n".join(lines)
    if not _BOXES.fullmatch(text):
        number, line = next((number, line) for number, line in enumerate(lines, 1) if not _BOXES.fullmatch(line))
        raise UserError(f"{source}, line {number}: {line.strip()[:60]!r} is not x, y, width, height")
    boxes = np.fromstring(text.replace(",", " ").replace(";", " "), np.float64, sep=" ").reshape(-1, 4)
    bad = np.abs(boxes) > _LARGEST if allow_nan else ~(np.abs(boxes) <= _LARGEST)
    if bad.any():
        raise UserError(f"{source}, line {bad.any(axis=1).argmax() + 1}: nan, or a number too large to be in pixels")
    return boxes


def parse_flags(text: str, source: str | os.PathLike) -> np.ndarray:
    """Whole numbers, one a line or all in one (absence, occlusion, cover labels): (N,) int64; else as `parse_boxes`."""
    lines = _lines(text, source)
    if _PLAIN_FLAGS.fullmatch(plain := ",".join(lines)):
        return np.fromstring(plain, np.int64, sep=",")
    flags = []
    for number, line in enumerate(lines, start=1):
        values = line_numbers(line)
        if values is None or not all(value.is_integer() for value in values):
            raise UserError(f"{source}, line {number}: {line.strip()[:60]!r} is not whole numbers")
        flags += values
    return np.array(flags, dtype=np.int64)


def line_numbers(line: str) -> list[float] | None:
    """The numbers of one line, as boxes are written; None where anything in it is not a number in pixels."""
    fields = _SEPARATOR.split(line.strip())
    if not all(_NUMBER.fullmatch(field) for field in fields):
        return None
    values = [float(field) for field in fields]
    return None if any(abs(value) > _LARGEST for value in values) else values


def parse_regions(text: str, source: str | os.PathLike) -> np.ndarray:
    """The boxes (N, 4) xywh in a VOT annotation, one region a line; else as `parse_boxes`.

    A line is `x,y,w,h`; or a polygon `x1,y1,x2,y2,x3,y3,…`; or a mask `mx,y,w,h,run,run,…` of runs of zeros and ones
    in turn, row by row within the rectangle; or one number, which stands for a frame without a region. Polygons and
    masks become the smallest box around them, nan where there is none.
    """
    boxes = []
    for number, line in enumerate(_lines(text, source), start=1):
        region = line.strip()
        mask = region[:1] in ("m", "M")
        values = line_numbers(region[1:] if mask else region)
        box = None if values is None else _mask_box(values) if mask else _shape_box(values)
        if box is None:
            raise UserError(f"{source}, line {number}: {region[:60]!r} is not a VOT rectangle, polygon or mask")
        boxes.append(box)
    return np.array(boxes, dtype=np.float64)


def parse_corners(text: str, source: str | os.PathLike, count: int) -> np.ndarray:
    """The boxes (N, 4) xywh in an annotation of NfS as it is downloaded: `track left top right bottom …` a line.

    `count` is the number of frames at 30 frames a second; an annotation at 240 has eight lines for each.
    """
    corners = []
    for number, line in enumerate(_lines(text, source), start=1):
        values = line_numbers(" ".join(line.split()[1:5])) or []
        if len(values) != 4:
            raise UserError(f"{source}, line {number}: {line.strip()[:60]!r} is not track, left, top, right, bottom, …")
        corners.append(values)
    boxes = np.array(corners[::8] if len(corners) > 4 * count else corners)[:count]
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


def box_doubt(boxes: np.ndarray, width: int, height: int) -> str:
    """Why boxes (N, 4) are hardly xywh in pixels of a frame of that size; "" where nothing speaks against it."""
    x, y, w, h = boxes[np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)].T
    tiny, outside = (w < 2) & (h < 2), (x + w > 1.02 * width + 1) | (y + h > 1.02 * height + 1)
    for many, what in (
        (tiny, "are under 2 pixels; are they fractions"),
        (outside, "stick out; are they x1, y1, x2, y2"),
    ):
        if many.sum() * 2 > len(x):
            count = f"{many.sum()} of {len(x)} boxes in frames of {width}x{height}"
            return f"{count} {what}? Expected x, y, width, height in pixels"
    return ""


def _shape_box(values: list[float]) -> list[float] | None:
    """The box of a rectangle or polygon; None where it is neither."""
    if len(values) in (1, 4):
        return values if len(values) == 4 else [math.nan] * 4
    if len(values) < 6 or len(values) % 2:
        return None
    x, y = values[0::2], values[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _mask_box(values: list[float]) -> list[float] | None:
    """The box of a run-length mask; None where it is malformed."""
    if len(values) < 4 or not all(value.is_integer() for value in values):
        return None
    x, y, width, height, *runs = map(int, values)
    if min(width, height, *runs, 0) < 0 or sum(runs) > width * height:
        return None
    filled = np.flatnonzero(np.repeat(np.arange(len(runs)) % 2, runs))
    if not len(filled):
        return [math.nan] * 4
    rows, columns = np.divmod(filled, width)
    return [x + columns.min(), y + rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def flagged_attributes(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """A file with a 0 or 1 for each of `names` in order (UAV123, TNL2K); none where there is no file."""
    if not path.is_file():
        return ()
    flags = parse_flags(read_text(path), path)
    if len(flags) != len(names):
        raise UserError(f"{path} has {len(flags)} flags, expected {len(names)}: {', '.join(names)}")
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def listed_attributes(path: Path) -> tuple[str, ...]:
    """A file of names between commas or spaces (OTB's `attrs.txt`: `IV, OCC, DEF`); none where there is no file."""
    return tuple(dict.fromkeys(re.findall(r"[^\s,;]+", read_text(path)))) if path.is_file() else ()


def tagged_attributes(folder: Path) -> tuple[str, ...]:
    """VOT's `<tag>.tag` or `<tag>.label` files, a flag a frame: the tags that are set on any frame."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".tag", ".label"))
    return tuple(path.stem for path in files if parse_flags(read_text(path), path).any())


def got10k_attributes(meta_file: Path) -> tuple[str, ...]:
    """Root class and motion class of a GOT-10k `meta_info.ini`, as `motion_class=running`; none for `-`."""
    meta = read_meta(meta_file)
    return tuple(f"{key}={meta[key]}" for key in ("root_class", "motion_class") if meta.get(key, "-") not in ("", "-"))


def read_meta(meta_file: Path) -> dict[str, str]:
    """`key: value` lines of a GOT-10k `meta_info.ini`, which is no INI file to the letter; {} where there is none."""
    if not meta_file.is_file():
        return {}
    lines = (line.partition(":") for line in read_text(meta_file, errors="replace").splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}


def _lines(text: str, source: str | os.PathLike) -> list[str]:
    """The lines of a text without the empty ones at its end; at least one."""
    # Not splitlines(): it also splits at form feeds and other rare characters, so line numbers would be off.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")
    if lines == [""]:
        raise UserError(f"{source} is empty")
    return lines
