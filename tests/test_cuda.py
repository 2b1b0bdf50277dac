"""Networks, training and tracking on a GPU, against the published system and a CPU.

They run on the device that STARK_TEST_DEVICE names, else on CUDA; `cpu` tries the tests themselves:

STARK_TEST_DEVICE=cpu python -m pytest -m cuda tests/test_cuda.py
"""

import dataclasses
import json
import os
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.training import make_trainer
from lib.config import load_config
from lib.data.registry import SAMPLES
from lib.models import build_model
from lib.test.analysis.metrics import box_overlap
from lib.test.tracker import create_tracker
from lib.test.tracker.engines import engine_device, installed
from lib.train.run import train
from lib.utils.errors import UserError
from lib.utils.tensors import NestedTensor
from tests.golden.fill import image
from tests.golden_cases import (
    VARIANTS,
    assert_numbers,
    golden,
    reference_inputs,
    reference_model,
    training_numbers,
    undropped,
)
from tests.test.test_engines import tamed
from tests.test.test_frozen_boxes import FROZEN, MINI, boxes, cases, clip  # noqa: F401 - `cases` is a fixture
from tests.test.test_tracker import reference_tracker
from tests.train.conftest import videos  # noqa: F401 - a fixture
from tests.train.test_nothing_lost import assert_equal_runs, final, train_with_a_break
from tests.train.tiny_runs import NO_VALIDATION, lightning

NAME = os.environ.get("STARK_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "")
if not NAME:
    pytest.skip("there is no CUDA device; STARK_TEST_DEVICE=cpu tries these tests", allow_module_level=True)
DEVICE = torch.device(NAME)
ON_CUDA = DEVICE.type == "cuda"
pytestmark = pytest.mark.cuda
needs_cuda = pytest.mark.skipif(not ON_CUDA, reason=f"{NAME} has no such arithmetic or check")
# Relative bounds in less than fp32: of losses, and of the median of the largest gradients; each of them may differ by
# four times that, as some biases do. TF32 has three bits more than bf16.
BOUNDS = {"bf16": (0.03, 0.15), "tf32": (0.01, 0.05)}


@pytest.fixture(autouse=True)
def _without_tf32():
    """Each test begins in plain fp32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    set_tf32(False)
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def set_tf32(wanted: bool) -> None:
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    torch.backends.cudnn.allow_tf32 = wanted


def inputs_of(variant):
    """Templates and search region on the device."""
    templates, search = reference_inputs(variant)
    *templates, search = (NestedTensor(each.tensors.to(DEVICE), each.mask.to(DEVICE)) for each in (*templates, search))
    return templates, search


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_losses_and_gradients_are_the_published_ones(variant):
    expected, model, inputs = golden(variant), reference_model(variant).to(DEVICE), inputs_of(variant)
    with torch.no_grad():
        out = model.eval()(*inputs)
    for name in ("pred_boxes", "pred_logits")[: 1 + ("pred_logits" in expected)]:
        np.testing.assert_allclose(out[name].cpu().reshape(expected[name].shape), expected[name], atol=2e-4)
    numbers = training_numbers(variant, undropped(variant, model).to(DEVICE), *inputs)
    assert_numbers(numbers, expected, boxes=2e-4, losses=5e-3, gradients=3e-2)


@pytest.mark.parametrize("precision", ["bf16", pytest.param("tf32", marks=needs_cuda)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_less_than_fp32_stays_near(variant, precision):
    """Fresh weights: with those of the references attention's logits are thousands, and rounding decides."""
    torch.manual_seed(1)
    script, config, templates = VARIANTS[variant]
    model = tamed(undropped(variant, build_model(script, load_config(script, config))))
    expected = training_numbers(variant, model, *reference_inputs(variant))
    model.zero_grad()
    set_tf32(precision == "tf32")
    arithmetic = torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16")
    numbers = training_numbers(variant, model.to(DEVICE), *inputs_of(variant), arithmetic)
    losses, gradients = BOUNDS[precision]
    np.testing.assert_allclose(numbers["train_pred_boxes"], expected["train_pred_boxes"], atol=0.02)
    for name in ("train_giou_loss", "train_l1_loss", "train_total_loss", *["train_cls_loss"] * (templates > 1)):
        np.testing.assert_allclose(numbers[name], expected[name], rtol=losses, err_msg=name)
    largest = sorted(expected["gradients"], key=expected["gradients"].get)[-40:]
    norms, wanted = (np.array([each["gradients"][name] for name in largest]) for each in (numbers, expected))
    differences = np.abs(norms / wanted - 1)
    print(f"{variant} {precision}: gradients differ by {np.median(differences):.3f}, at most {differences.max():.3f}")
    assert np.median(differences) < gradients
    assert differences.max() < 4 * gradients


@contextmanager
def deterministic():
    """Sums of the same order each time. Attention's fused kernels have none; a count of padding warns, and is exact."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_training_that_is_killed_goes_on_to_the_same_weights(precision, videos, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    more = (NO_VALIDATION, "TRAIN.SAVE_EVERY_STEPS=1", f"TRAIN.AMP={precision}", "TRAIN.EPOCH=1")
    more += ("TRAIN.BATCH_SIZE=2", "TRAIN.ACCUM_STEPS=2", "TRAIN.NUM_WORKER=1")
    whole, broken = (
        dataclasses.replace(lightning(videos, tmp_path / part, *more), device=str(DEVICE)) for part in "ab"
    )
    with deterministic():
        train(whole)
        train_with_a_break(broken, 1, monkeypatch)
    assert_equal_runs(final(whole, 1), final(broken, 1))


@needs_cuda
@pytest.mark.parametrize("way", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", ["stark_s:baseline:2", "stark_st2:baseline:2", "stark_lightning_X_trt:mini:2"])
def test_a_step_never_waits_for_the_device(variant, way):
    """On a CPU tests/train/test_device.py looks for what would wait."""
    trainer, batches = make_trainer(variant, way, DEVICE)
    for _ in range(2):  # the first steps make what is kept
        trainer.train_step(1, batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer.train_step(1, batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.actor.checks.require()


def require(engine: str) -> None:
    """Skip a test whose engine does not run on the device."""
    try:
        if engine not in installed():
            raise UserError(f"the package of the engine {engine} is not installed")
        engine_device(engine, str(DEVICE))
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("way", ["torch:fp32", "compile:fp32", "onnx:fp32", "torch:bf16", "torch:fp16", "compile:bf16"])
def test_tracking_gives_the_boxes_of_a_cpu(way, cases):  # noqa: F811
    engine, precision = way.split(":")
    require(engine)
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    for name, found in boxes(cases, engine, precision, str(DEVICE)).items():
        if precision == "fp32":
            np.testing.assert_allclose(found, frozen[name], atol=0.2)
        else:
            assert box_overlap(found, np.array(frozen[name])).mean() > 0.92


@pytest.mark.parametrize("engine", ["torch", "compile"])
def test_objects_that_share_a_network_do_not_disturb_each_other(engine):
    require(engine)
    frames, box = clip("carphone", 1.0), list(SAMPLES["carphone"].box)
    boxes_of = {0: box, 1: [box[0] + 20, box[1] + 10, box[2] * 0.8, box[3] * 0.7]}
    first = create_tracker(*MINI, device=str(DEVICE), engine=engine)
    alone = {}
    for number, start in boxes_of.items():
        first.initialize(frames[0], {"init_bbox": start})
        alone[number] = [first.track(frame)["target_bbox"] for frame in frames[1:6]]
    together = {0: first, 1: first.spawn()}
    for number, tracker in together.items():
        tracker.initialize(frames[0], {"init_bbox": boxes_of[number]})
    for i, frame in enumerate(frames[1:6]):
        for number, tracker in together.items():
            np.testing.assert_allclose(tracker.track(frame)["target_bbox"], alone[number][i], atol=1e-3)


@pytest.mark.parametrize("variant", ["stark_s50", "stark_st50", "stark_lightning"])
def test_first_steps_of_tracking_are_the_published_ones(variant):
    expected, tracker = golden("tracker"), reference_tracker(variant, str(DEVICE))
    frame = image("track.frame", 360, 480)
    for i, box in enumerate(expected["inits"]):
        tracker.initialize(frame, {"init_bbox": box.tolist()})
        found = tracker.track(np.roll(frame, (3 * (i + 1), 5 * (i + 1)), (0, 1)))
        # The weights enlarge a rounding ten thousand times, see tests/test/test_tracker.py.
        np.testing.assert_allclose(found["target_bbox"], expected[variant][i], atol=2)
