"""Cutting square regions out of frames, and moving boxes between frame and region.

Boxes are xywh in pixels, top-left based. A region is the square around a box's centre whose side
is `factor` times the square root of the box's area; it is scaled to `output_size` pixels, and
what lies outside the frame is black padding, marked in a mask.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lib.utils.errors import UserError

# A region with a longer side is sampled without building it first: at factor 5 the region of
# an object that fills a 4K frame would take a gigabyte.
LARGEST_BUILT_SIDE = 4096
# Beyond it a coordinate is damage.
LARGEST_COORDINATE = 1e8


class CropError(UserError):
    """A box around which no region can be cut."""


def region_of(box: Sequence[float], factor: float) -> tuple[int, int, int]:
    """Left, top and side, in whole pixels, of the region around a box.

    Raises:
        CropError: a coordinate is not finite or absurdly large, or the box has no area.
    """
    x, y, w, h = (float(v) for v in box)
    if not all(abs(v) < LARGEST_COORDINATE for v in (x, y, w, h)) or w < 0 or h < 0:
        raise CropError(f"box {[x, y, w, h]} is not four numbers of pixels with width and height of at least 0")
    side = math.ceil(math.sqrt(w * h) * factor)
    if side < 1:
        raise CropError(f"box {[x, y, w, h]} has no area: no region can be cut around it")
    return round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side


def sample_target(
    image: np.ndarray, box: Sequence[float], factor: float, output_size: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """Cut the region around a box.

    Args:
        image: (H, W, 3) uint8.
        box: xywh in pixels; may lie partly or wholly outside the image.
        factor: side of the region in units of sqrt(w * h).
        output_size: side of the crop in pixels.

    Returns:
        The crop (output_size, output_size, 3) uint8, the scale from image to crop pixels, and
        the mask (output_size, output_size) bool, True on padding.

    Raises:
        CropError: see `region_of`.
    """
    region = Region.around(box, factor, output_size, *image.shape[:2])
    return region.cut(image), region.scale, region.mask()


@dataclass(frozen=True)
class Region:
    """A region of a frame, of which a crop is made.

    Attributes:
        left, top, side: in whole pixels of the frame; may lie partly or wholly outside it.
        size: side of the crop.
        rows, columns: pixels of padding before and after the frame.
    """

    left: int
    top: int
    side: int
    size: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @classmethod
    def around(cls, box: Sequence[float], factor: float, size: int, height: int, width: int) -> "Region":
        """The region around a box in a frame of that height and width; see `sample_target`.

        Raises:
            CropError: see `region_of`.
        """
        left, top, side = region_of(box, factor)
        return cls(left, top, side, size, _padding(top, side, height), _padding(left, side, width))

    @property
    def scale(self) -> float:
        """From pixels of the frame to pixels of the crop."""
        return self.size / self.side

    @property
    def x(self) -> tuple[int, int]:
        """First column of the frame that is in the region, and the one after the last; none where they are equal."""
        return self.left + self.columns[0], self.left + self.side - self.columns[1]

    @property
    def y(self) -> tuple[int, int]:
        """The same for rows."""
        return self.top + self.rows[0], self.top + self.side - self.rows[1]

    def mirrored(self, width: int) -> "Region":
        """The same region where the frame of that width is mirrored."""
        return replace(self, left=width - self.left - self.side, columns=self.columns[::-1])

    def padded(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of the crop's rows and which of its columns draw on any padding, (size,) bool each."""
        return tuple(_resized_padding(padding, self.side, self.size) for padding in (self.rows, self.columns))

    def mask(self) -> np.ndarray:
        """(size, size) bool, True on padding."""
        rows, columns = self.padded()
        return rows[:, None] | columns[None, :]

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The crop (size, size, 3) uint8 from a frame (H, W, 3) uint8."""
        if self.side > LARGEST_BUILT_SIDE:
            return _sample_sparsely(image, (self.left, self.top, self.side), self.rows, self.columns, self.size)
        return self.scaled(image[slice(*self.y), slice(*self.x)])

    def scaled(self, inside: np.ndarray) -> np.ndarray:
        """The crop from that part of the frame which is in the region."""
        if inside.size == 0:
            return np.zeros((self.size, self.size, inside.shape[2]), np.uint8)
        if inside.strides[1] < 0:  # a mirrored frame, which OpenCV does not take
            inside = np.ascontiguousarray(inside)
        if max(*self.rows, *self.columns):
            inside = cv2.copyMakeBorder(inside, *self.rows, *self.columns, cv2.BORDER_CONSTANT)
        return cv2.resize(inside, (self.size, self.size))


def shows_nothing(mask: np.ndarray, cells: int) -> bool:
    """Whether a crop is all padding at a feature size of `cells` a side, so that nothing is left to attend to."""
    step = mask.shape[0] // cells
    return bool(mask[::step, ::step].all())


def box_to_crop(
    box: Sequence[float], around: Sequence[float], resize_factor: float, output_size: int, normalize: bool = True
) -> np.ndarray:
    """A box of the image in the crop that was cut around another box.

    Args:
        box: xywh in image pixels.
        around: xywh of the box the crop was cut around.
        resize_factor: the crop's scale.
        output_size: side of the crop in pixels.
        normalize: divide by the side.

    Returns:
        (4,) float64 xywh in fractions of the crop (in crop pixels without `normalize`).
    """
    (x, y, w, h), (ax, ay, aw, ah) = (np.asarray(each, np.float64).tolist() for each in (box, around))
    middle, unit = (output_size - 1) / 2, output_size if normalize else 1
    cx, cy = middle + (x + w / 2 - ax - aw / 2) * resize_factor, middle + (y + h / 2 - ay - ah / 2) * resize_factor
    w, h = w * resize_factor, h * resize_factor
    return np.array(((cx - w / 2) / unit, (cy - h / 2) / unit, w / unit, h / unit))


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


def _padding(start: int, side: int, extent: int) -> tuple[int, int]:
    """Pixels of padding before and after the image along one axis.

    Published weights were trained with one pixel more of it after the image than needed.
    """
    return min(max(0, -start), side), min(max(start + side - extent + 1, 0), side)


def _resized_padding(padding: tuple[int, int], side: int, output_size: int) -> np.ndarray:
    """Which of the crop's rows (or columns) draw on any padding, (output_size,) bool."""
    if padding == (0, 0):
        return np.zeros(output_size, bool)
    low, high = _neighbours(side, output_size)[:2]
    return (low < padding[0]) | (high >= side - padding[1])


def _neighbours(side: int, output_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For bilinear scaling of `side` pixels: each output pixel's two source pixels and the second's weight."""
    position = (np.arange(output_size) + 0.5) * (side / output_size) - 0.5
    low = np.floor(position).astype(np.int64)
    weight = np.where((low < 0) | (low >= side - 1), 0.0, position - low)
    low = low.clip(0, side - 1)
    # Where the second pixel has no weight it must not count as a neighbour either.
    return low, np.where(weight > 0, low + 1, low), weight


def _sample_sparsely(image, region, rows, columns, output_size) -> np.ndarray:
    """The bilinear crop from only those image rows and columns that it draws on."""
    left, top, side = region
    low, high, weight = _neighbours(side, output_size)
    picked = []
    for start, (before, after), extent in ((top, rows, image.shape[0]), (left, columns, image.shape[1])):
        taps = np.stack((low, high), axis=1).ravel()
        inside = (taps >= before) & (taps < side - after)
        weights = np.stack((1 - weight, weight), axis=1).ravel() * inside
        picked.append(((taps + start).clip(0, extent - 1), weights.astype(np.float32)))
    (y, weight_y), (x, weight_x) = picked
    taps = image[y[:, None], x[None, :]].astype(np.float32)
    taps *= weight_y[:, None, None]
    taps = taps[0::2] + taps[1::2]
    taps *= weight_x[None, :, None]
    return np.rint(taps[:, 0::2] + taps[:, 1::2]).astype(np.uint8)
