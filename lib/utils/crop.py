"""Cutting regions out of frames, and moving boxes and masks between frame and region.

Boxes are xywh in pixels. A tracker's region is the square around a box's centre whose side is `factor` times the square
root of the box's area. A mask's region has `STRETCH` times the width and the height of the box. Both are scaled to a
square crop; outside the frame it is black. All raise `CropError` for a box without area or with absurd coordinates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .errors import UserError

STRETCH = 2.0  # what published weights of Alpha-Refine were trained with
# A region with a longer side is sampled without building it first: at factor 5 the region of an object that fills a
# 4K frame would take a gigabyte.
LARGEST_BUILT_SIDE = 4096
_LARGEST_COORDINATE = 1e8  # a larger one is damage
_LARGEST_STRETCHED = 2**28  # pixels; twice the region around a box that fills an 8K frame


class CropError(UserError):
    """A box around which no region can be cut."""


@dataclass(frozen=True)
class Region:
    """A rectangle of a frame, of which a square crop is made; it may lie partly or wholly outside the frame."""

    left: int  # in whole pixels of the frame, as the next three
    top: int
    width: int
    height: int
    size: int  # side of the crop
    rows: tuple[int, int]  # pixels of padding above and below the frame
    columns: tuple[int, int]  # and left and right of it

    @classmethod
    def around(cls, box: Sequence[float], factor: float, size: int, height: int, width: int) -> "Region":
        """The square region around a box in a frame of that height and width."""
        left, top, side = region_of(box, factor)
        return cls(left, top, side, side, size, _padding(top, side, height), _padding(left, side, width))

    @property
    def scale(self) -> float:
        """From pixels of the frame to pixels of the crop, along x."""
        return self.size / self.width

    @property
    def x(self) -> tuple[int, int]:
        """First column of the frame that is in the region, and the one after the last; none where they are equal."""
        return self.left + self.columns[0], self.left + self.width - self.columns[1]

    @property
    def y(self) -> tuple[int, int]:
        """The same for rows."""
        return self.top + self.rows[0], self.top + self.height - self.rows[1]

    def mirrored(self, width: int) -> "Region":
        """The same region where the frame of that width is mirrored."""
        return replace(self, left=width - self.left - self.width, columns=self.columns[::-1])

    def mask(self) -> np.ndarray:
        """(size, size) bool, True where a pixel of the crop draws on padding."""
        padded = []
        for (before, after), side in ((self.rows, self.height), (self.columns, self.width)):
            position = _positions(side, self.size).clip(0, side - 1)
            padded.append((np.floor(position) < before) | (np.ceil(position) >= side - after))
        return padded[0][:, None] | padded[1]

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The crop (size, size, 3) or (size, size) from a frame (H, W, 3) or (H, W), uint8."""
        return self.scaled(image[slice(*self.y), slice(*self.x)])

    def scaled(self, inside: np.ndarray) -> np.ndarray:
        """The crop from that part of the frame which is in the region."""
        if inside.size == 0:
            return np.zeros((self.size, self.size, *inside.shape[2:]), np.uint8)
        if inside.strides[1] < 0:  # a mirrored frame, which OpenCV does not take
            inside = np.ascontiguousarray(inside)
        if max(self.width, self.height) > LARGEST_BUILT_SIDE:
            sides = ((self.width, self.columns[0]), (self.height, self.rows[0]))
            x, y = ((_positions(side, self.size) - before).astype(np.float32) for side, before in sides)
            return cv2.remap(inside, *np.meshgrid(x, y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        if max(*self.rows, *self.columns):
            inside = cv2.copyMakeBorder(inside, *self.rows, *self.columns, cv2.BORDER_CONSTANT)
        return cv2.resize(inside, (self.size, self.size))


def region_of(box: Sequence[float], factor: float) -> tuple[int, int, int]:
    """Left, top and side, in whole pixels, of the square region around a box."""
    x, y, w, h = _checked(box)
    side = max(1, math.ceil(math.sqrt(w * h) * factor))
    return round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side


def sample_target(
    image: np.ndarray, box: Sequence[float], factor: float, output_size: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """Cut the square region around a box from an image (H, W, 3) uint8.

    Gives the crop (S, S, 3) uint8, the scale from image to crop pixels, and the mask (S, S) bool, True on padding.
    """
    region = Region.around(box, factor, output_size, *image.shape[:2])
    return region.cut(image), region.scale, region.mask()


def shows_nothing(mask: np.ndarray, cells: int) -> bool:
    """Whether a crop is all padding at a feature size of `cells` a side, so that nothing is left to attend to."""
    step = mask.shape[0] // cells
    return bool(mask[::step, ::step].all())


def box_to_crop(
    box: Sequence[float], around: Sequence[float], scale: float | tuple[float, float], output_size: int
) -> np.ndarray:
    """A box in the crop cut around another, whose scale is one or two (x, y): (4,) float64 xywh in its pixels."""
    (x, y, w, h), (ax, ay, aw, ah) = (np.asarray(each, np.float64).tolist() for each in (box, around))
    middle, (scale_x, scale_y) = (output_size - 1) / 2, scale if isinstance(scale, tuple) else (scale, scale)
    cx, cy = middle + (x + w / 2 - ax - aw / 2) * scale_x, middle + (y + h / 2 - ay - ah / 2) * scale_y
    w, h = w * scale_x, h * scale_y
    return np.array((cx - w / 2, cy - h / 2, w, h))


def box_to_image(box: Sequence[float], around: Sequence[float], resize_factor: float, output_size: int) -> list[float]:
    """A predicted box, cxcywh in fractions of the crop cut around `around` (xywh), as xywh in the image."""
    cx, cy, w, h = (float(v) * output_size / resize_factor for v in box)
    half = 0.5 * output_size / resize_factor
    x, y = around[0] + 0.5 * around[2] - half, around[1] + 0.5 * around[3] - half
    return [cx + x - 0.5 * w, cy + y - 0.5 * h, w, h]


def clip_box(box: Sequence[float], height: int, width: int, margin: int = 10) -> list[float]:
    """Keep a box xywh in the image, at least `margin` pixels of it (fewer where the image is smaller)."""
    x1, y1, w, h = (float(v) for v in box)
    x2, y2 = x1 + w, y1 + h
    margin_x, margin_y = min(margin, width), min(margin, height)
    x1, x2 = min(max(0.0, x1), width - margin_x), min(max(margin_x, x2), width)
    y1, y2 = min(max(0.0, y1), height - margin_y), min(max(margin_y, y2), height)
    return [x1, y1, max(margin_x, x2 - x1), max(margin_y, y2 - y1)]


def stretched_region(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Left, top, width and height, in whole pixels, of a mask's region around a box."""
    x, y, w, h = _checked(box)
    width, height = math.ceil(STRETCH * w), math.ceil(STRETCH * h)
    if width * height > _LARGEST_STRETCHED:
        raise CropError(f"box {[x, y, w, h]} is larger than any image")
    return round(x + 0.5 * w - 0.5 * width), round(y + 0.5 * h - 0.5 * height), width, height


def stretched_crop(image: np.ndarray, box: Sequence[float], size: int) -> np.ndarray:
    """Cut a mask's region around a box: an image (H, W, 3) or (H, W) uint8 to (size, size, 3) or (size, size)."""
    left, top, width, height = stretched_region(box)
    rows, columns = _padding(top, height, image.shape[0]), _padding(left, width, image.shape[1])
    return Region(left, top, width, height, size, rows, columns).cut(image)


def box_in_crop(box: Sequence[float], around: Sequence[float], size: int) -> np.ndarray:
    """A box of the image in the crop of a mask's region around another: (4,) float32 xywh in pixels of the crop."""
    _, _, width, height = stretched_region(around)
    return box_to_crop(box, around, (size / width, size / height), size).astype(np.float32)


def mask_in_image(mask: np.ndarray, around: Sequence[float], image_size: tuple[int, int]) -> np.ndarray:
    """A mask (S, S) float32 of the region around a box, as (height, width) of the image; zero outside the region."""
    left, top, width, height = stretched_region(around)
    placed = np.zeros(image_size, np.float32)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, image_size[1]), min(top + height, image_size[0])
    if x1 < x2 and y1 < y2:
        placed[y1:y2, x1:x2] = cv2.resize(mask, (width, height))[y1 - top : y2 - top, x1 - left : x2 - left]
    return placed


def _checked(box: Sequence[float]) -> list[float]:
    values = [float(value) for value in box]
    if not all(abs(value) < _LARGEST_COORDINATE for value in values) or min(values[2:]) <= 0:
        raise CropError(f"no region can be cut around the box {values}: it has no area, or is no x, y, w, h in pixels")
    return values


def _padding(start: int, side: int, extent: int) -> tuple[int, int]:
    """Pixels of padding before and after the image along an axis; after it one more than needed, as in training."""
    return min(max(0, -start), side), min(max(start + side - extent + 1, 0), side)


def _positions(side: int, output_size: int) -> np.ndarray:
    """For bilinear scaling of `side` pixels: where each output pixel's centre lies between the source pixels'."""
    return (np.arange(output_size) + 0.5) * (side / output_size) - 0.5
