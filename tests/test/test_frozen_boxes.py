"""The boxes of mini stay what they are, on three sequences, in every engine and precision that is installed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data.registry import SAMPLES, find_sample
from lib.test.analysis.metrics import box_overlap
from lib.test.tracker import create_tracker
from lib.test.tracker.export import export
from lib.utils.errors import UserError

MINI = ("stark_lightning_X_trt", "mini")
FROZEN = Path(__file__).with_name("frozen_boxes.json")
FRAMES = 16
# Largest difference in pixels of any number of a box: of an engine in fp32, and of PyTorch on another machine.
FP32, OTHER_MACHINES = 0.05, 0.1


def clip(name: str, scale: float) -> list[np.ndarray]:
    """The first frames of a sample, RGB."""
    video = cv2.VideoCapture(str(find_sample(name)[0]))
    read = [video.read()[1] for _ in range(FRAMES)]
    return [cv2.cvtColor(cv2.resize(frame, None, fx=scale, fy=scale), cv2.COLOR_BGR2RGB) for frame in read]


def sequences() -> dict[str, tuple[list[np.ndarray], list[float]]]:
    """Frames and first box: two clips, and one frame that moves until the object reaches over the border."""
    still = clip("bigbuckbunny", 0.25)[0]
    moved = [np.zeros_like(still) for _ in range(FRAMES)]
    for i, frame in enumerate(moved):
        frame[: len(frame) - 3 * i, : frame.shape[1] - 5 * i] = still[3 * i :, 5 * i :]
    found = {"border": (moved, [value / 4 for value in SAMPLES["bigbuckbunny"].box])}
    for name, scale in (("carphone", 1.0), ("bigbuckbunny", 0.5)):
        found[name] = clip(name, scale), [value * scale for value in SAMPLES[name].box]
    return found


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """The sequences; exported graphs have a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STARK_SAVE_DIR", str(tmp_path_factory.mktemp("save")))
        yield sequences()


@pytest.fixture(scope="module")
def in_torch(cases):
    return boxes(cases, "torch", "fp32")


def boxes(cases, engine: str, precision: str, device: str = "cpu") -> dict[str, np.ndarray]:
    """The boxes (N, 4) xywh of each sequence, from the second frame on."""
    tracker, found = create_tracker(*MINI, device=device, engine=engine, precision=precision), {}
    for name, (frames, box) in cases.items():
        tracker.initialize(frames[0], {"init_bbox": box})
        found[name] = np.array([tracker.track(frame)["target_bbox"] for frame in frames[1:]])
    return found


def test_pytorch(in_torch):
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert list(frozen) == list(in_torch)
    for name, found in in_torch.items():
        np.testing.assert_allclose(found, frozen[name], atol=OTHER_MACHINES)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_engines_in_fp32(cases, in_torch, engine):
    for name, found in boxes(cases, engine, "fp32").items():
        np.testing.assert_allclose(found, in_torch[name], atol=FP32)


@pytest.mark.parametrize(
    ("engine", "precision", "mean", "least"),
    # Measured without 8-bit products: 0.95 and 0.84 for torch in bf16, 0.87 and 0.73 for int8.
    [("torch", "bf16", 0.92, 0.78), ("openvino", "bf16", 0.92, 0.78), ("openvino", "int8", 0.84, 0.65)],
)
def test_overlap_of_other_precisions(cases, in_torch, engine, precision, mean, least):
    if precision == "int8":
        pytest.importorskip("nncf")
        export(*MINI, format="openvino", precision="int8")
    try:
        found = boxes(cases, engine, precision)
    except UserError as error:
        if "does not compute in bf16 on this processor" not in str(error):
            raise
        pytest.skip(str(error))
    for name, expected in in_torch.items():
        overlap = box_overlap(found[name], expected)
        assert np.mean(overlap) > mean
        assert np.min(overlap) > least
