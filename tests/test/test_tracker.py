"""Tracking: the published system's first steps, and the images and boxes that users have."""

import numpy as np
import pytest
import torch
from PIL import Image

from lib.config import load_config
from lib.data import images, storage
from lib.data.registry import load_dataset
from lib.models import build_model
from lib.test.evaluation.sequences import track_sequence
from lib.test.tracker import create_tracker, update_intervals
from lib.test.tracker.engines.pytorch import torch_engine
from lib.test.tracker.stark import BoxEngine, StarkTracker
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from tests.golden.fill import image
from tests.golden_cases import VARIANTS, golden, reference_model
from tests.test.web.made_clips import scene

SHARPENED = ("box_head.conv5_tl.weight", "box_head.conv5_br.weight", "box_head.conv_tower.2.weight")


def reference_tracker(variant: str, device: str = "cpu") -> StarkTracker:
    """The tracker of `golden/tracker.npz`: reference weights, the corner head's last convolution sharpened."""
    model = reference_model(variant)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in SHARPENED:
                parameter.mul_(30)
    cfg = load_config(*VARIANTS[variant][:2])
    engine = BoxEngine(torch_engine(model, cfg, device))
    return StarkTracker(engine, cfg, [200] if variant == "stark_st50" else ())


@pytest.fixture(scope="module")
def lightning() -> StarkTracker:
    return reference_tracker("stark_lightning")


@pytest.mark.parametrize("variant", ["stark_s50", "stark_st50", "stark_lightning"])
def test_first_steps_are_the_published_ones(variant):
    expected, tracker, frame = golden("tracker"), reference_tracker(variant), image("track.frame", 360, 480)
    for i, box in enumerate(expected["inits"]):
        tracker.initialize(frame, {"init_bbox": box.tolist()})
        out = tracker.track(np.roll(frame, (3 * (i + 1), 5 * (i + 1)), (0, 1)))
        # The sharpened random weights turn a rounding of one part in ten million into a hundredth of a pixel,
        # and in the largest region into a fifth.
        np.testing.assert_allclose(out["target_bbox"], expected[variant][i], atol=0.5 if i == 5 else 0.05)
        if variant == "stark_st50":
            assert out["conf_score"] == pytest.approx(expected["stark_st50_conf"][i], abs=1e-4)
        assert out["conf_kind"] == ("score" if variant == "stark_st50" else "peak")
        assert 1 / 400 < out["conf_score"] <= 1


def test_unusual_boxes_track(lightning):
    frame = image("track.frame", 360, 480)
    # Partly outside, under a pixel, larger than the image, long and thin.
    for box in ([-30, -20, 60, 50], [0.2, 0.3, 0.5, 0.4], [-200, -200, 2000, 2000], [0, 100, 480, 2]):
        lightning.initialize(frame, {"init_bbox": box})
        for _ in range(2):
            x, y, w, h = lightning.track(frame)["target_bbox"]
            assert min(w, h) >= 10
            assert -w < x < 480
            assert -h < y < 360


def test_test_sets_are_decoded_only_where_the_network_looks_with_equal_boxes(tmp_path, monkeypatch):
    """A picture to draw on is decoded whole."""
    folder = tmp_path / "one"
    folder.mkdir()
    for i in range(6):
        Image.fromarray(scene(i, (640, 480))).save(folder / f"{i}.jpg", quality=90)
    (folder / "groundtruth.txt").write_text("\n".join(["40,60,40,40"] * 6))
    (sequence,) = load_dataset(f"folder:{tmp_path}")
    tracker, whole, parts = create_tracker("stark_lightning_X_trt", "mini", engine="torch"), [], []
    drawn, _ = track_sequence(tracker, sequence, lambda *_: None)

    def decoded(original, kept):
        return lambda *args: kept.append(original(*args)) or kept[-1]

    monkeypatch.setattr(storage, "decode_image", decoded(images.decode_image, whole))
    monkeypatch.setattr(images, "decode_part", decoded(images.decode_part, parts))
    assert np.array_equal(track_sequence(tracker, sequence)[0], drawn)
    assert not whole
    assert images.turbojpeg() is None or 0 < sum(part.size for part in parts) < 5 * 640 * 480 * 3 / 2


def test_impossible_boxes_are_said_at_once_and_change_nothing(lightning):
    frame, begin = image("track.frame", 360, 480), {"init_bbox": [50, 40, 30, 30]}
    lightning.initialize(frame, begin)
    expected = lightning.track(frame)
    lightning.initialize(frame, begin)
    for box, message in (
        ([0, 0, 1e200, 1e200], "no region can be cut around the box"),
        ([600, 500, 20, 20], "outside the 480x360 image"),
        ([10, 10, 0, 5], "above 0"),
        ([10, float("nan"), 4, 5], "finite"),
        ("here", "four numbers"),
    ):
        with pytest.raises(UserError, match=message):
            lightning.initialize(frame, {"init_bbox": box})
    assert lightning.track(frame) == expected


def test_image_kinds(lightning):
    frame = image("track.frame", 120, 160)
    grey = frame[:, :, 0]
    box = {"init_bbox": [50, 40, 30, 30]}

    def step(picture):
        lightning.initialize(picture, box)
        return lightning.track(picture)["target_bbox"]

    colour = step(frame)
    assert step(np.dstack((frame, np.full_like(grey, 7)))) == colour
    assert step(frame.astype(np.uint16) << 8) == colour
    assert step(grey) == step(grey[:, :, None]) == step(np.dstack((grey, grey, grey)))
    for wrong in (frame.astype(np.float32), frame[:, :, :2], frame[:0], None):
        with pytest.raises(UserError, match="image"):
            step(wrong)


def test_frames_may_change_size(lightning):
    """The box is scaled with the frame."""
    frame = image("track.frame", 360, 480)
    lightning.initialize(frame, {"init_bbox": [400, 300, 60, 50]})
    for height, width in ((90, 120), (360, 480), (1, 1), (200, 900)):
        x, y, w, h = lightning.track(frame[:1, :1].repeat(height, 0).repeat(width, 1))["target_bbox"]
        assert 0 <= x < width
        assert 0 <= y < height
        assert min(w, width) == w
        assert min(h, height) == h
    small, large = image("track.frame", 120, 160), image("track.frame", 240, 480)
    lightning.initialize(small, {"init_bbox": [50, 40, 30, 30]})
    found = lightning.track(large)
    lightning.initialize(small, {"init_bbox": [50, 40, 30, 30]})
    lightning.state, lightning.frame_size = [150, 80, 90, 60], (240, 480)
    assert lightning.track(large) == found


def test_each_dynamic_template_is_replaced_after_its_interval_when_the_score_is_high(tmp_path, monkeypatch):
    changes = ["DATA.MAX_SAMPLE_INTERVAL=[1, 2]", "DATA.TEMPLATE.NUMBER=3"]
    save_checkpoint(tmp_path / "w.pth.tar", {"net": reference_model("stark_st50").state_dict()})
    tracker = create_tracker("stark_st", "baseline", tmp_path / "w.pth.tar", device="cpu", overrides=changes)
    look, frame = tracker._look, image("track.frame", 120, 160)
    for confidence, expected in ((0.5, [[False] * 3] * 2), (0.9, [[False, True, False], [False, True, True]])):
        monkeypatch.setattr(tracker, "_look", lambda *how, sure=confidence: (look(*how)[0], sure))
        tracker.initialize(frame, {"init_bbox": [50, 40, 30, 30]})
        given, replaced = tracker.templates[0], []
        for _ in range(2):
            tracker.track(frame)
            replaced.append([each is not given for each in tracker.templates])
        assert replaced == expected
    assert tracker.templates[1] is tracker.templates[2]
    assert update_intervals(tracker.cfg, "trackingnet") == [1, 2]
    cfg = load_config("stark_st2", "baseline", ["DATA.MAX_SAMPLE_INTERVAL=[77]"])
    assert [update_intervals(cfg, name) for name in ("trackingnet", "VOT20", "mine")] == [[25], [10], [77]]


class _Finder:
    """An engine's stand-in that finds the brightest place of a crop, and is sure of a bright one."""

    stride, outputs = 16, ("pred_boxes", "pred_logits")

    def encode_template(self, crop, mask=None):
        return None

    def search(self, templates, crop, mask=None):
        size, bright = crop.shape[0], crop[..., 0] > 200
        rows, columns = np.nonzero(bright)
        if not len(rows):
            return {"pred_boxes": np.array([[[0.5, 0.5, 0.2, 0.2]]]), "pred_logits": np.array([[[-3.0]]])}
        (top, bottom), (left, right) = ((line.min(), line.max() + 1) for line in (rows, columns))
        box = np.array([left + right, top + bottom, 2 * (right - left), 2 * (bottom - top)]) / (2 * size)
        return {"pred_boxes": box[None, None], "pred_logits": np.array([[[3.0]]])}


@pytest.mark.parametrize(("below", "found"), [(0.6, True), (0.0, False)])
def test_an_object_that_returns_elsewhere_is_found_by_a_wider_look(below, found):
    """It leaves, and comes back three times its size away; the usual region, four sizes wide, ends at two."""
    cfg = load_config("stark_lightning_X_trt", "mini", [f"TEST.LOST_BELOW={below}"])
    tracker = StarkTracker(_Finder(), cfg)
    box, back = [100, 100, 20, 20], [160, 100, 20, 20]
    empty = np.full((240, 320, 3), 50, np.uint8)

    def shown(x, y, w, h):
        frame = empty.copy()
        frame[y : y + h, x : x + w] = 255
        return frame

    tracker.initialize(shown(*box), {"init_bbox": box})
    results = [tracker.track(frame) for frame in (shown(*box), empty, empty, shown(*back), shown(*back))]
    assert np.allclose(results[0]["target_bbox"], box, atol=1)
    assert np.allclose(results[-1]["target_bbox"], back, atol=1) == found
    assert [result.get("lost") for result in results] == ([False, True, True, True, False] if below else [None] * 5)


def test_mistakes_in_naming_a_tracker_are_said(place):
    name, config, _ = VARIANTS["stark_lightning"]
    save_checkpoint(place / "weights.pth.tar", {"net": reference_model("stark_lightning").state_dict()})
    for given, message in (
        (("stark_s", "baseline", place / "weights.pth.tar"), r"weights\.pth\.tar"),
        ((name, config), "checkpoints"),
        (("stark_x", "baseline"), "unknown tracker"),
        (("stark_s", "basline"), "did you mean 'baseline'"),
    ):
        with pytest.raises(UserError, match=message):
            create_tracker(*given, device="cpu")


def test_what_the_network_computes_is_taken_from_the_checkpoint(tmp_path, capsys):
    """A network trained with another head and region tracks without any option; `overrides` go before."""
    name, config = "stark_lightning_X_trt", "baseline_rephead_4_lite_search5"
    trained = load_config(name, config, ["MODEL.HEAD_DIM=64", "DATA.MEAN=[0.5, 0.4, 0.3]", "DATA.SEARCH.FACTOR=4.0"])
    path = tmp_path / "w.pth.tar"
    save_checkpoint(path, {"net": build_model(name, trained).state_dict(), "settings": {"config": trained}})
    tracker = create_tracker(name, config, path, device="cpu")
    assert tracker.cfg.MODEL.HEAD_DIM == 64
    assert tracker.cfg.DATA.MEAN == [0.5, 0.4, 0.3]
    assert tracker.cfg.TEST.SEARCH_FACTOR == 4.0
    assert "MODEL.HEAD_DIM 64, not 128" in capsys.readouterr().out
    tracker = create_tracker(name, config, path, device="cpu", overrides=["TEST.SEARCH_FACTOR=4.5"])
    assert tracker.cfg.TEST.SEARCH_FACTOR == 4.5
