"""What trackers say that their networks look at."""

import cv2
import numpy as np
import pytest

from lib.data.registry import SAMPLES
from lib.test.tracker import create_tracker, explains
from lib.test.tracker.classic import StillTracker
from lib.test.tracker.stark import StarkTracker
from lib.test.video.attention import draw_explanation
from lib.test.video.source import open_source
from lib.utils.crop import clip_box
from lib.utils.errors import UserError
from tests.data.made_sets import write_sequence
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


@pytest.fixture(scope="module", params=["stark_st50", "stark_lightning", "mini"])
def tracked(request) -> StarkTracker:
    """A tracker after its third frame, in which part of the search region is outside."""
    if request.param == "mini":
        tracker, frames = create_tracker(*MINI, device="cpu"), clip("bigbuckbunny", 0.5)[:3]
        box = [value / 2 for value in SAMPLES["bigbuckbunny"].box]
    else:
        tracker, frame, box = reference_tracker(request.param), image("track.frame", 360, 480), [300, 150, 90, 60]
        frames = [np.roll(frame, (3 * i, 5 * i), (0, 1)) for i in range(3)]
    tracker.initialize(frames[0], {"init_bbox": box})
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
    if "centre_map" in explained:  # of trained weights: it lies on the object
        centre = (explained["box"][:2] + explained["box"][2:] / 2) // tracked.engine.stride
        row, column = np.unravel_index(explained["centre_map"].argmax(), explained["centre_map"].shape)
        assert np.abs(centre - [column, row]).max() <= 1
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
    # The tracker is as it was, and a spawned one has seen nothing.
    assert (tracked.state, tracked.templates) == (state, templates)
    with pytest.raises(UserError, match="call track"):
        tracked.spawn().explain()
    layers, upper = len(explained["search_attention"]), 3 + decoded + ("corner_maps" in explained)
    picture = draw_explanation(explained)
    height, width = picture.shape[:2]
    assert (height % 2, width % 2, (width + 4) // 260) == (0, 0, max(upper, count * (2 + decoded)))
    assert (draw_explanation(explained, layers) == picture).all() == (layers == 1)
    with pytest.raises(UserError, match=f"no layer {layers + 1} of attention: the network has {layers}"):
        draw_explanation(explained, layers + 1)


def test_only_torch_explains(place):
    with pytest.raises(UserError, match="needs the engine torch; this is onnx fp32"):
        create_tracker(*MINI, device="cpu", engine="onnx").explain()
    assert not explains(StillTracker())


def test_the_commands_write_pictures_and_a_video(place, tmp_path, run_script, capsys):
    box = write_sequence(tmp_path / "set", "ant", 3)[0]
    folder, words = tmp_path / "out", ["--init_bbox", *map(str, box), "--no_window"]
    source = str(tmp_path / "set" / "ant")
    assert run_script("video_demo.py", source, *words, "--output", str(folder), "--show", "attention:2") == 0
    assert {path.name for path in folder.iterdir()} == {"video.mp4", "attention.mp4", "attention"}
    assert f"wrote {folder / 'attention.mp4'}" in capsys.readouterr().out
    assert [path.name for path in sorted((folder / "attention").iterdir())] == ["00000002.jpg", "00000003.jpg"]
    shown = list(open_source(str(folder / "attention.mp4")).frames)
    picture = cv2.imread(str(folder / "attention" / "00000003.jpg"))[:, :, ::-1]
    assert len(shown) == 2
    assert np.abs(shown[1].astype(int) - picture).mean() < 8
    for wrong, message in (
        (["--show", "flow"], "--show flow is unknown: attention"),
        (["--show", "attention", "--engine", "onnx"], "on --engine torch"),
        (["--show", "attention:9"], "there is no layer 9 of attention: the network has"),
    ):
        assert run_script("video_demo.py", source, *words, "--output", str(tmp_path / "x"), *wrong) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "x").exists()
    results = tmp_path / "results"
    words = ["--dataset_name", f"folder:{tmp_path / 'set'}", "--engine", "torch", "--debug", "2"]
    assert run_script("test.py", *MINI, *words, "--results_dir", str(results)) == 0
    assert {"00000002.jpg", "00000003.jpg"} == {path.name for path in results.rglob("attention/*.jpg")}
