"""Masks, rectangles and polygons of the toolkit to boxes and back, and one tracker an object."""

import numpy as np
import pytest
import trax

from lib.test.tracker.classic import StillTracker
from lib.test.vot20.stark_vot20 import ObjectTrackers, box_of_mask, box_of_region, region_of_box, region_of_mask
from lib.utils.errors import UserError
from tests.test.vot20.fake_tracker import MovingTracker

IMAGE = np.zeros((60, 80, 3), np.uint8)


def test_the_box_of_a_mask_holds_its_outermost_pixels():
    mask = np.zeros((20, 30), np.uint8)
    mask[4, 7] = mask[9, 3] = 1
    assert box_of_mask(mask) == [3, 4, 5, 6]
    assert box_of_mask(mask, offset=(-2, 10)) == [1, 14, 5, 6]
    with pytest.raises(UserError, match="empty"):
        box_of_mask(np.zeros((5, 5), np.uint8))


@pytest.mark.parametrize(
    ("box", "offset", "shape"),
    [
        pytest.param([3.4, 4.6, 10, 5], (3, 5), (5, 10), id="rounded"),
        pytest.param([-4, -3, 10, 8], (0, 0), (5, 6), id="over the corner"),
        pytest.param([25, 15, 10, 10], (25, 15), (5, 5), id="over the other corner"),
        pytest.param([40, 5, 10, 10], (0, 0), (1, 1), id="outside"),
        pytest.param([-20, 5, 10, 10], (0, 0), (1, 1), id="outside, left"),
    ],
)
def test_the_mask_of_a_box_is_filled_and_clipped_and_its_rectangle_is_not(box, offset, shape):
    region = region_of_box(box, trax.Region.MASK, (20, 30))
    assert (region.offset(), region.array().shape) == (offset, shape)
    assert region.array().all() == (shape != (1, 1))  # empty
    assert box_of_region(region_of_box(box, trax.Region.RECTANGLE, (20, 30))) == pytest.approx(box)


def test_a_mask_survives_the_protocol():
    mask = np.zeros((20, 30), bool)
    mask[4, 7] = mask[9, 3] = mask[6, 5] = True
    region = region_of_mask(mask)
    (x, y), found = region.offset(), region.array()
    placed = np.zeros_like(mask)
    placed[y : y + found.shape[0], x : x + found.shape[1]] = found
    assert (placed == mask).all()


def test_a_polygon_becomes_its_bounding_box_and_other_regions_are_refused():
    assert box_of_region(trax.Polygon.create([(4, 2), (10, 5), (6, 12)])) == [4, 2, 6, 10]
    with pytest.raises(UserError, match="special"):
        box_of_region(trax.Special.create(0))


def shown(*boxes):
    return [(trax.Rectangle.create(*box), {}) for box in boxes]


def boxes_of(answer):
    return [box_of_region(region) for region, _ in answer]


def test_each_object_keeps_its_own_state_and_its_place_in_the_answer():
    trackers, first = ObjectTrackers(MovingTracker(), trax.Region.MASK), ([10, 10, 5, 5], [40, 20, 8, 6])
    assert boxes_of(trackers.initialize(IMAGE, shown(*first))) == [*first]
    # A third one appears; it is answered as it was shown.
    assert boxes_of(trackers.update(IMAGE, shown([2, 3, 4, 5]))) == [[11, 11, 5, 5], [41, 21, 8, 6], [2, 3, 4, 5]]
    answer = trackers.update(IMAGE, [])
    assert boxes_of(answer) == [[12, 12, 5, 5], [42, 22, 8, 6], [3, 4, 4, 5]]
    assert [properties["confidence"] for _, properties in answer] == pytest.approx([0.9, 0.9, 0.95])
    assert {region.type for region, _ in answer} == {trax.Region.MASK}
    # A new sequence forgets the objects of the last one.
    trackers.initialize(IMAGE, shown([30, 30, 5, 5]))
    assert boxes_of(trackers.update(IMAGE, [])) == [[31, 31, 5, 5]]
    # Without a score there is no confidence.
    trackers = ObjectTrackers(StillTracker(), trax.Region.RECTANGLE)
    trackers.initialize(IMAGE, shown([10, 10, 5, 5]))
    assert [properties for _, properties in trackers.update(IMAGE, [])] == [{}]
