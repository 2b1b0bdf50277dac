"""One tracker an object."""

import numpy as np
import pytest
import trax

from lib.test.vot20.regions import box_of_region
from lib.test.vot20.stark_vot20 import ObjectTrackers
from tests.test.vot20.fake_tracker import MovingTracker

IMAGE = np.zeros((60, 80, 3), np.uint8)


def shown(*boxes):
    return [(trax.Rectangle.create(*box), {}) for box in boxes]


def boxes_of(answer):
    return [box_of_region(region) for region, _ in answer]


def test_each_object_keeps_its_own_state_and_its_place_in_the_answer():
    trackers = ObjectTrackers(MovingTracker(), trax.Region.MASK)
    assert boxes_of(trackers.initialize(IMAGE, shown([10, 10, 5, 5], [40, 20, 8, 6]))) == [
        [10, 10, 5, 5],
        [40, 20, 8, 6],
    ]
    # A third one appears; it is answered as it was shown.
    assert boxes_of(trackers.update(IMAGE, shown([2, 3, 4, 5]))) == [[11, 11, 5, 5], [41, 21, 8, 6], [2, 3, 4, 5]]
    answer = trackers.update(IMAGE, [])
    assert boxes_of(answer) == [[12, 12, 5, 5], [42, 22, 8, 6], [3, 4, 4, 5]]
    assert [properties["confidence"] for _, properties in answer] == pytest.approx([0.9, 0.9, 0.95])
    assert {region.type for region, _ in answer} == {trax.Region.MASK}


def test_a_new_sequence_forgets_the_objects_of_the_last_one():
    trackers = ObjectTrackers(MovingTracker(), trax.Region.RECTANGLE)
    trackers.initialize(IMAGE, shown([10, 10, 5, 5], [40, 20, 8, 6]))
    trackers.initialize(IMAGE, shown([30, 30, 5, 5]))
    assert boxes_of(trackers.update(IMAGE, [])) == [[31, 31, 5, 5]]


def test_a_tracker_without_a_score_has_no_confidence():
    from lib.test.tracker.still import StillTracker

    trackers = ObjectTrackers(StillTracker(), trax.Region.RECTANGLE)
    trackers.initialize(IMAGE, shown([10, 10, 5, 5]))
    assert [properties for _, properties in trackers.update(IMAGE, [])] == [{}]
