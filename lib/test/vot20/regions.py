"""Regions of the VOT protocol and the boxes that STARK works with."""

import numpy as np
import trax

from lib.utils.errors import UserError


def box_of_mask(mask: np.ndarray, offset: tuple[int, int] = (0, 0)) -> list[float]:
    """The bounding box xywh, in pixels of the image, of a mask (H, W) whose first pixel is at `offset` (x, y).

    Raises:
        UserError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise UserError("the mask of the object is empty, so there is nothing to follow")
    x, y = columns[0] + offset[0], rows[0] + offset[1]
    return [float(x), float(y), float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1)]


def box_of_region(region: trax.Region) -> list[float]:
    """The bounding box xywh, in pixels, of a region.

    Raises:
        UserError: an empty mask, or another kind of region than a rectangle, polygon or mask.
    """
    if region.type == trax.Region.RECTANGLE:
        return [float(value) for value in region.bounds()]
    if region.type == trax.Region.POLYGON:
        corners = np.array(list(region))
        return [float(value) for value in (*corners.min(0), *np.ptp(corners, axis=0))]
    if region.type == trax.Region.MASK:
        return box_of_mask(region.array(), region.offset())
    raise UserError(f"the toolkit gave a region of the kind '{region.type}'; expected a rectangle, polygon or mask")


def region_of_box(box: list[float], kind: str, image_size: tuple[int, int]) -> trax.Region:
    """The region of a box xywh, of the kind `trax.Region.RECTANGLE` or `trax.Region.MASK`.

    A mask is filled, its corners are rounded to pixels and clipped to the image (height, width).
    """
    if kind == trax.Region.RECTANGLE:
        return trax.Rectangle.create(*box)
    x, y, w, h = box
    height, width = image_size
    left, right = np.clip([round(x), round(x + w)], 0, width)
    top, bottom = np.clip([round(y), round(y + h)], 0, height)
    mask = np.zeros(image_size, bool)
    mask[top:bottom, left:right] = True
    return region_of_mask(mask)


def region_of_mask(mask: np.ndarray) -> trax.Region:
    """The region of the image's mask (H, W) bool, which may be empty."""
    if not mask.any():
        return trax.Mask.create(np.zeros((1, 1), np.uint8), 0, 0)
    x, y, w, h = (int(value) for value in box_of_mask(mask))
    return trax.Mask.create(np.ascontiguousarray(mask[y : y + h, x : x + w], np.uint8), x, y)
