"""Masks, rectangles and polygons of the toolkit to boxes and back."""

import numpy as np
import pytest
import trax

from lib.test.vot20.regions import box_of_mask, box_of_region, mask_of_box, region_of_box, region_of_mask
from lib.utils.errors import UserError


def test_the_box_of_a_mask_holds_its_outermost_pixels():
    mask = np.zeros((20, 30), np.uint8)
    mask[4, 7] = mask[9, 3] = 1
    assert box_of_mask(mask) == [3, 4, 5, 6]
    assert box_of_mask(mask, offset=(-2, 10)) == [1, 14, 5, 6]


def test_an_empty_mask_is_refused():
    with pytest.raises(UserError, match="empty"):
        box_of_mask(np.zeros((5, 5), np.uint8))


@pytest.mark.parametrize(
    ("box", "offset", "shape"),
    [
        pytest.param([3.4, 4.6, 10, 5], (3, 5), (5, 10), id="rounded"),
        pytest.param([-4, -3, 10, 8], (0, 0), (5, 6), id="over the corner"),
        pytest.param([25, 15, 10, 10], (25, 15), (5, 5), id="over the other corner"),
    ],
)
def test_the_mask_of_a_box_is_filled_and_clipped(box, offset, shape):
    mask, found = mask_of_box(box, (20, 30))
    assert found == offset
    assert mask.shape == shape
    assert mask.all()


def test_a_box_outside_the_image_is_an_empty_mask():
    mask, _ = mask_of_box([40, 5, 10, 10], (20, 30))
    assert not mask.any()


@pytest.mark.parametrize("kind", [trax.Region.MASK, trax.Region.RECTANGLE])
def test_a_box_survives_the_protocol(kind):
    region = region_of_box([5, 3, 9, 7], kind, (40, 50))
    assert region.type == kind
    assert box_of_region(region) == [5, 3, 9, 7]


def test_a_mask_survives_the_protocol():
    mask = np.zeros((20, 30), bool)
    mask[4, 7] = mask[9, 3] = mask[6, 5] = True
    region = region_of_mask(mask)
    assert region.type == trax.Region.MASK
    (x, y), found = region.offset(), region.array()
    placed = np.zeros_like(mask)
    placed[y : y + found.shape[0], x : x + found.shape[1]] = found
    assert (placed == mask).all()
    assert not region_of_mask(np.zeros((20, 30), bool)).array().any()


def test_only_the_mask_is_rounded():
    box = [5.25, 3.75, 9.5, 7.0]
    assert box_of_region(region_of_box(box, trax.Region.RECTANGLE, (40, 50))) == box
    assert box_of_region(region_of_box(box, trax.Region.MASK, (40, 50))) == [5, 4, 10, 7]


def test_a_polygon_becomes_its_bounding_box():
    assert box_of_region(trax.Polygon.create([(4, 2), (10, 5), (6, 12)])) == [4, 2, 6, 10]


def test_a_region_without_a_place_is_refused():
    with pytest.raises(UserError, match="special"):
        box_of_region(trax.Special.create(0))
