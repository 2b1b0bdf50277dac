"""Masks of frames: weights by their published names, the tracker around a tracker, the demo."""

import copy

import cv2
import numpy as np
import pytest

from lib.config import load_config
from lib.models.alpha_refine import AlphaRefine
from lib.test.tracker.classic import StillTracker
from lib.test.tracker.engines import Engine
from lib.test.tracker.refiner import MaskTracker, Refiner, with_masks
from lib.test.video.demo import video_demo
from lib.test.video.output import VIDEO
from lib.test.video.source import open_source
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from tests.golden.fill import fill, image


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with weights of the configuration `small`, never trained."""
    path = tmp_path_factory.mktemp("weights") / "small.pth.tar"
    save_checkpoint(path, {"net": fill(AlphaRefine(load_config("alpha_refine", "small"))).state_dict()})
    return path


def test_masks_are_where_the_box_is_and_their_threshold_is_the_configurations(weights):
    refiner = with_masks(StillTracker(), "small", weights, "cpu").refiner
    frame, box = image("frame", 120, 160), [70.0, 40, 20, 10]
    refiner.initialize(frame, box)
    refiner.cfg.TEST.MASK_THRESHOLD = 0.0
    found = refiner.mask(frame, box)
    region = np.zeros((120, 160), bool)
    region[35:55, 60:100] = True
    assert found[region].any()
    assert not found[~region].any()
    refiner.cfg.TEST.MASK_THRESHOLD = 1.0
    assert not refiner.mask(frame, box).any()
    refiner.kernels = refiner.kernels * np.nan
    with pytest.raises(UserError, match="not finite"):
        refiner.mask(frame, box)


def _brightness(crop, box):
    x, y, w, h = box[0].round().astype(int)
    return [crop[0, y : y + h, x : x + w].mean(keepdims=True)]


# An engine without a network: the object's pixels are at least as bright as it was.
BRIGHTEST = Engine(
    "brightest", _brightness, lambda crop, shown: [(crop[..., 0] >= shown.item() - 10).astype(np.float32)]
)


def squares():
    """A dark frame with a grey and a white square."""
    frame = np.zeros((80, 120, 3), np.uint8)
    frame[20:40, 20:40], frame[30:50, 70:90] = 90, 250
    return frame


def test_each_copy_has_its_own_object():
    pristine = MaskTracker(StillTracker(), Refiner(BRIGHTEST, load_config("alpha_refine", "small")))
    grey, white = copy.copy(pristine), pristine.spawn()
    grey.initialize(squares(), {"init_bbox": [20, 20, 20, 20]})
    white.initialize(squares(), {"init_bbox": [70, 30, 20, 20]})
    for tracker, part in ((grey, np.s_[20:40, 20:40]), (white, np.s_[30:50, 70:90])):
        result, wanted = tracker.track(squares()), np.zeros((80, 120), bool)
        wanted[part] = True
        assert (result["mask"] != wanted).sum() <= 80  # a pixel along the border
        assert result["target_bbox"] == [part[1].start, part[0].start, 20, 20]
    assert pristine.refiner.kernels is None


def test_the_demo_draws_masks(place, tmp_path, monkeypatch):
    frames, output, asked = tmp_path / "frames", tmp_path / "out", []
    frames.mkdir()
    for i in range(3):
        cv2.imwrite(str(frames / f"{i}.png"), squares())
    how = {"no_window": True, "device": "cpu", "precision": "fp32"}
    with pytest.raises(UserError, match="no weights of alpha_refine"):
        video_demo("still", "x", str(frames), [70, 30, 20, 20], refine="baseline", **how)
    made = BRIGHTEST, load_config("alpha_refine", "small")
    monkeypatch.setattr("lib.test.tracker.refiner.create_engine", lambda *given: asked.append(given) or made)
    how |= {"refine": "small", "refine_checkpoint": "some file", "refine_precision": "bf16"}
    video_demo("still", "x", str(frames), [70, 30, 20, 20], output=output, **how)
    assert asked == [("alpha_refine", "small", "some file", "cpu", "torch", "bf16")]
    shown = [frame.astype(int) for frame in open_source(str(output / VIDEO)).frames]
    # The square's middle is green from the second frame on, white before.
    assert shown[0][40, 80].min() > 200
    red, green, blue = shown[2][40, 80]
    assert green > 200 > max(blue, red)
    assert np.abs(shown[2][60, 30] - shown[0][60, 30]).max() < 30
