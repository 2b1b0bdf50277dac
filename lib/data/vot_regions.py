"""Annotations of VOT sequences: rectangles, polygons and masks, as boxes."""

import math

import numpy as np

from lib.data.box_files import line_numbers, text_lines
from lib.utils.errors import UserError


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
