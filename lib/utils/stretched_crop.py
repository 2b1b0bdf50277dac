"""Regions that are scaled to a square with each side on its own, and masks on their way back to the image.

Boxes are xywh in pixels, top-left based. A region has its box's centre, and FACTOR times its width and its height.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from lib.utils.crop import LARGEST_COORDINATE, CropError

FACTOR = 2.0  # what published weights were trained with
_LARGEST_REGION = 2**28  # pixels; around a box that fills an 8K frame it has half of that


def stretched_region(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Left, top, width and height, in whole pixels, of the region around a box.

    Raises:
        CropError: a coordinate is not finite, the box has no area, or more than any image has.
    """
    x, y, w, h = (float(value) for value in box)
    if not all(abs(value) < LARGEST_COORDINATE for value in (x, y, w, h)):
        raise CropError(f"box {[x, y, w, h]} is not four numbers of pixels")
    width, height = math.ceil(FACTOR * w), math.ceil(FACTOR * h)
    if width < 1 or height < 1:
        raise CropError(f"box {[x, y, w, h]} has no area: no region can be cut around it")
    if width * height > _LARGEST_REGION:
        raise CropError(f"box {[x, y, w, h]} is larger than any image")
    return round(x + 0.5 * w - 0.5 * width), round(y + 0.5 * h - 0.5 * height), width, height


def stretched_crop(image: np.ndarray, box: Sequence[float], size: int) -> np.ndarray:
    """Cut the region around a box; outside the image it is black.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        box: xywh in pixels; may lie partly or wholly outside the image.
        size: side of the crop in pixels.

    Returns:
        (size, size, 3) or (size, size), uint8.

    Raises:
        CropError: see `stretched_region`.
    """
    left, top, width, height = stretched_region(box)
    # Published weights were trained with one pixel more of padding after the image than needed.
    before_x, after_x = max(0, -left), max(0, left + width - image.shape[1] + 1)
    before_y, after_y = max(0, -top), max(0, top + height - image.shape[0] + 1)
    inside = image[max(top, 0) : max(top + height - after_y, 0), max(left, 0) : max(left + width - after_x, 0)]
    if inside.size == 0:
        return np.zeros((size, size, *image.shape[2:]), np.uint8)
    if inside.strides[1] < 0:  # a mirrored frame, which OpenCV does not take
        inside = np.ascontiguousarray(inside)
    if max(before_y, after_y, before_x, after_x):
        inside = cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_CONSTANT)
    return cv2.resize(inside, (size, size))


def box_in_crop(box: Sequence[float], around: Sequence[float], size: int) -> np.ndarray:
    """A box of the image in the crop that was cut around another one: (4,) float32 xywh in pixels of the crop.

    Raises:
        CropError: see `stretched_region`.
    """
    _, _, width, height = stretched_region(around)
    scale = np.array([size / width, size / height])
    box, around = np.asarray(box, np.float64), np.asarray(around, np.float64)
    centre = (size - 1) / 2 + (box[:2] + box[2:] / 2 - around[:2] - around[2:] / 2) * scale
    return np.concatenate((centre - box[2:] * scale / 2, box[2:] * scale)).astype(np.float32)


def mask_in_image(mask: np.ndarray, around: Sequence[float], image_size: tuple[int, int]) -> np.ndarray:
    """A mask of a crop where the crop came from.

    Args:
        mask: (S, S) float32.
        around: xywh of the box that the crop was cut around.
        image_size: height and width of the image.

    Returns:
        (height, width) float32; zero outside the region.

    Raises:
        CropError: see `stretched_region`.
    """
    left, top, width, height = stretched_region(around)
    placed = np.zeros(image_size, np.float32)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, image_size[1]), min(top + height, image_size[0])
    if x1 < x2 and y1 < y2:
        placed[y1:y2, x1:x2] = cv2.resize(mask, (width, height))[y1 - top : y2 - top, x1 - left : x2 - left]
    return placed
