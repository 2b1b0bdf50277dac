"""Masks of frames: weights by their published names, the tracker around a tracker, the demo."""

import copy

import cv2
import numpy as np
import pytest

from lib.config import load_config
from lib.models.alpha_refine import AlphaRefine
from lib.test.tracker import PUBLISHED_FILE, find_weights
from lib.test.tracker.classic import StillTracker
from lib.test.tracker.engines import Engine
from lib.test.tracker.refiner import MaskTracker, Refiner, create_refiner
from lib.test.video.demo import video_demo
from lib.test.video.output import VIDEO
from lib.utils.checkpoint import CheckpointError, save_checkpoint
from lib.utils.errors import UserError
from tests.golden.fill import fill, image


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with weights of the configuration `small`, never trained."""
    path = tmp_path_factory.mktemp("weights") / "small.pth.tar"
    save_checkpoint(path, {"net": fill(AlphaRefine(load_config("alpha_refine", "small"))).state_dict()})
    return path


@pytest.fixture
def saved(monkeypatch, tmp_path):
    """Where checkpoints are looked for."""
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path / "saved"))
    return tmp_path / "saved" / "checkpoints"


def test_where_weights_are_looked_for(saved, tmp_path):
    with pytest.raises(CheckpointError, match="no weights of alpha_refine baseline: .*train first, .*/AR/ARcm_"):
        find_weights("alpha_refine", "baseline")
    with pytest.raises(CheckpointError, match="train/alpha_refine/small"):
        find_weights("alpha_refine", "small")
    (saved / PUBLISHED_FILE).parent.mkdir(parents=True)
    (saved / PUBLISHED_FILE).touch()
    assert find_weights("alpha_refine", "baseline") == saved / PUBLISHED_FILE
    own = saved / "train/alpha_refine/baseline/AlphaRefine_ep0003.pth.tar"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_weights("alpha_refine", "baseline") == own
    assert find_weights("alpha_refine", "baseline", tmp_path / "given") == tmp_path / "given"


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(CheckpointError, match="does not fit the model"):
        create_refiner("baseline", weights, "cpu")


def test_crops_are_as_large_as_in_training(tmp_path, capsys):
    trained = load_config("alpha_refine", "small", ["DATA.SEARCH.SIZE=192", "DATA.TEMPLATE.SIZE=192"])
    path = tmp_path / "w.pth.tar"
    save_checkpoint(path, {"net": AlphaRefine(trained).state_dict(), "settings": {"config": trained}})
    assert create_refiner("small", path, "cpu").cfg.DATA.SEARCH.SIZE == 192
    assert "DATA.SEARCH.SIZE 192, not 128" in capsys.readouterr().out


def test_masks_are_where_the_box_is_and_their_threshold_is_the_configurations(weights):
    refiner = create_refiner("small", weights, "cpu")
    frame, box = image("frame", 120, 160), [70.0, 40, 20, 10]
    refiner.initialize(frame, box)
    found = refiner.probabilities(frame, box)
    assert found.shape == (120, 160)
    assert found.dtype == np.float32
    region = np.zeros_like(found, bool)
    region[35:55, 60:100] = True
    assert found[region].any()
    assert not found[~region].any()
    refiner.probabilities = lambda *_: np.array([[0.49, 0.51]], np.float32)
    assert refiner.mask(frame, box).tolist() == [[False, True]]


def test_a_mask_that_is_not_finite_is_an_error(weights):
    refiner = create_refiner("small", weights, "cpu")
    frame = image("frame", 60, 80)
    refiner.initialize(frame, [10, 10, 20, 20])
    refiner.kernels = refiner.kernels * np.nan
    with pytest.raises(UserError, match="not finite"):
        refiner.mask(frame, [10, 10, 20, 20])


def _brightness(crop, box):
    x, y, w, h = box[0].round().astype(int)
    return [crop[0, y : y + h, x : x + w].mean(keepdims=True)]


# An engine without a network: the object's pixels are at least as bright as it was.
BRIGHTEST = Engine(
    "brightest", _brightness, lambda crop, shown: [(crop[..., 0] >= shown.item() - 10).astype(np.float32)]
)


def squares(shift=0):
    """A dark frame with a grey and a white square."""
    frame = np.zeros((80, 120, 3), np.uint8)
    frame[20:40, 20 + shift : 40 + shift], frame[30:50, 70:90] = 90, 250
    return frame


def test_each_copy_has_its_own_object():
    pristine = MaskTracker(StillTracker(), Refiner(BRIGHTEST, load_config("alpha_refine", "small")))
    grey, white = copy.copy(pristine), copy.copy(pristine)
    grey.initialize(squares(), {"init_bbox": [20, 20, 20, 20]})
    white.initialize(squares(), {"init_bbox": [70, 30, 20, 20]})
    for tracker, part in ((grey, np.s_[20:40, 20:40]), (white, np.s_[30:50, 70:90])):
        result = tracker.track(squares())
        wanted = np.zeros((80, 120), bool)
        wanted[part] = True
        assert (result["mask"] != wanted).sum() <= 80  # a pixel along the border
        assert result["target_bbox"] == [part[1].start, part[0].start, 20, 20]
    assert grey.track(squares(shift=3))["mask"][30, 41]
    assert pristine.refiner.kernels is None


def test_the_demo_draws_masks(tmp_path, monkeypatch):
    refiner = Refiner(BRIGHTEST, load_config("alpha_refine", "small"))
    asked = []
    create = "lib.test.tracker.refiner.create_refiner"
    monkeypatch.setattr(create, lambda *given, **how: asked.append((*given, how)) or refiner)
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(3):
        cv2.imwrite(str(frames / f"{i}.png"), squares())
    output = tmp_path / "out"
    video_demo(
        *("still", "x", str(frames), [70, 30, 20, 20], False, output),
        no_window=True,
        device="cpu",
        precision="fp32",
        refine="small",
        refine_checkpoint="some file",
        refine_precision="bf16",
    )
    assert asked == [("small", "some file", {"device": "cpu", "precision": "bf16"})]
    capture = cv2.VideoCapture(str(output / VIDEO))
    shown = [capture.read()[1].astype(int) for _ in range(3)]
    # Blue, green, red of the square's middle: green from the second frame on, white before.
    assert shown[0][40, 80].min() > 200
    blue, green, red = shown[2][40, 80]
    assert green > 200 > max(blue, red)
    assert np.abs(shown[2][60, 30] - shown[0][60, 30]).max() < 30


def test_the_demo_says_where_weights_are_missing(saved, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), squares())
    with pytest.raises(UserError, match="no weights of alpha_refine"):
        video_demo("still", "x", str(tmp_path), [70, 30, 20, 20], no_window=True, device="cpu", refine="baseline")
