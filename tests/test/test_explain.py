"""What trackers say that their networks look at."""

import numpy as np
import pytest

from lib.data.registry import SAMPLES
from lib.test.tracker import create_tracker
from lib.test.tracker.classic import create_baseline
from lib.test.tracker.stark import StarkTracker
from lib.utils.crop import clip_box
from lib.utils.errors import UserError
from tests.golden.fill import image
from tests.test.test_frozen_boxes import MINI, clip
from tests.test.test_tracker import reference_tracker


def box_of(tracker: StarkTracker, explained: dict[str, np.ndarray]) -> np.ndarray:
    """The box xywh in pixels of the search region that the score maps say."""
    side = len(explained["search"])
    if "centre_map" in explained:
        row, column = np.unravel_index(explained["centre_map"].argmax(), explained["centre_map"].shape)
        near = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        weights, boxes = explained["centre_map"][near][..., None], explained["cell_boxes"][near]
        box = (weights * boxes).sum((0, 1)) / weights.sum()
        return np.concatenate([box[:2] - box[2:] / 2, box[2:]])
    rows, columns = np.indices(explained["corner_maps"].shape[1:])
    offset = 0.5 if tracker.cfg.MODEL.HEAD_TYPE != "CORNER" else 0.0
    corners = [((cells + offset) * maps).sum() for maps in explained["corner_maps"] for cells in (columns, rows)]
    corners = np.array(corners) * side / len(rows)
    return np.concatenate([corners[:2], corners[2:] - corners[:2]])


@pytest.fixture(params=["stark_s50", "stark_st50", "stark_lightning", "mini"])
def tracked(request) -> StarkTracker:
    """A tracker after its third frame, in which part of the search region is outside."""
    if request.param == "mini":
        tracker, frames = create_tracker(*MINI, device="cpu"), clip("bigbuckbunny", 0.5)[:3]
        box = [value / 2 for value in SAMPLES["bigbuckbunny"].box]
    else:
        tracker, frame, box = reference_tracker(request.param), image("track.frame", 360, 480), [300, 150, 90, 60]
        frames = [np.roll(frame, (3 * i, 5 * i), (0, 1)) for i in range(3)]
    tracker.initialize(frames[0], {"init_bbox": box})
    with pytest.raises(UserError, match="call track"):
        tracker.explain()
    for each in frames[1:]:
        tracker.track(each)
    return tracker


def test_the_maps_say_the_box_and_attention_is_a_distribution(tracked):
    state, templates = list(tracked.state), list(tracked.templates)
    explained = tracked.explain()
    left, top, side = explained["region"]
    scale = side / len(explained["search"])
    np.testing.assert_allclose(box_of(tracked, explained), explained["box"], atol=0.02)
    x, y, w, h = explained["box"] * scale
    # The region is of whole pixels.
    np.testing.assert_allclose(clip_box([x + left, y + top, w, h], *tracked.frame_size), tracked.state, atol=1.0)
    cells, count = len(explained["search"]) // tracked.engine.stride, len(templates)
    small = len(explained["templates"][0]) // tracked.engine.stride
    options, decoded = tracked.cfg.MODEL.TRANSFORMER, "query_search_attention" in explained
    assert explained["templates"].shape == (count, *[small * tracked.engine.stride] * 2, 3)
    for name, layers in {"": options.get("ENC_LAYERS", 1), "query_": options.get("DEC_LAYERS", 0)}.items():
        if name and not decoded:
            assert tracked.cfg.MODEL.HEAD_TYPE != "CORNER"
            continue
        search, template = explained[f"{name}search_attention"], explained[f"{name}template_attention"]
        assert (search.shape, template.shape) == ((layers, cells, cells), (layers, count, small, small))
        np.testing.assert_allclose(search.sum((1, 2)) + template.sum((1, 2, 3)), 1, atol=1e-5)
        padded = tracked.looked[2][:: tracked.engine.stride, :: tracked.engine.stride]
        assert padded.any()
        assert (search[:, padded] == 0).all()
    if "centre_map" in explained:  # of trained weights: it lies on the object
        centre = (explained["box"][:2] + explained["box"][2:] / 2) // tracked.engine.stride
        row, column = np.unravel_index(explained["centre_map"].argmax(), explained["centre_map"].shape)
        assert np.abs(centre - [column, row]).max() <= 1
    # Nothing stays: the tracker is as it was, and a spawned one has seen nothing.
    assert (tracked.state, tracked.templates) == (state, templates)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tracked.engine.engine.watch.args[0].modules())
    with pytest.raises(UserError, match="call track"):
        tracked.spawn().explain()


def test_only_torch_explains(place):
    frame = image("track.frame", 120, 160)
    tracker = create_tracker(*MINI, device="cpu", engine="onnx")
    tracker.initialize(frame, {"init_bbox": [40, 40, 30, 30]})
    tracker.track(frame)
    with pytest.raises(UserError, match="needs the engine torch.*this is onnx fp32"):
        tracker.explain()
    assert not getattr(create_baseline("still"), "explains", False)
