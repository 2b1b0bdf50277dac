"""What can be proven about GPUs without one: nothing is left on the CPU, and nothing in a step waits for the device.

Fake tensors have a device and a shape and no values: an operation on two devices fails, and so does what needs a value.
Gradients need a device.
"""

from itertools import repeat
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.config import load_config
from lib.models import build_model
from lib.models.export import MaskParts
from lib.models.inference import Parts, prepare_for_tracking
from lib.train.losses import BoxActor, MaskActor, ScoreActor
from lib.train.optimiser import Optimisation, choose_arithmetic

LIGHTNING = ("stark_lightning_X_trt", "baseline_rephead_4_lite_search5")
NETWORKS = [
    *(("stark_s", "baseline"), ("stark_st1", "baseline_R101"), ("stark_st2", "baseline"), LIGHTNING),
    *(("stark_lightning_X_trt", "mini"), ("alpha_refine", "baseline")),
]
ACTORS = {"alpha_refine": MaskActor, "stark_st2": ScoreActor}
CUDA = torch.device("cuda")


def on_cuda(net: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A network with fake parameters and buffers; other tensors that it holds stay, and are found."""
    for module in net.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(mode.from_tensor(value).detach().to(CUDA), value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = mode.from_tensor(value).to(CUDA)
    return net


class OnTheDevice(TorchDispatchMode):
    """Refuses tensors of the CPU, which the capture of a CUDA graph does; numbers are not meant."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, found)):
            assert not isinstance(value, Tensor) or value.dim() == 0 or value.device.type == "cuda", func
        return found


def batch_of(cfg, masks: bool) -> SimpleNamespace:
    """Two samples as a loader gives them, on the CPU."""
    template, search = cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE
    templates = cfg.DATA.TEMPLATE.get("NUMBER", 1)
    return SimpleNamespace(
        templates=[torch.zeros(2, template, template, 3, dtype=torch.uint8)] * templates,
        search=torch.zeros(2, search, search, 3, dtype=torch.uint8),
        template_masks=[torch.zeros(2, template, template, dtype=torch.bool)] * templates if masks else None,
        search_mask=torch.zeros(2, search, search, dtype=torch.bool) if masks else None,
        brightness=[torch.ones(2)] * (templates + 1),
        boxes=torch.rand(2, 4),
        template_boxes=torch.rand(2, 4),
        object_masks=torch.zeros(2, search, search, dtype=torch.bool),
        labels=torch.ones(2),
        sources=[["a"], ["b"]],
    )


@pytest.mark.parametrize(("script", "config"), NETWORKS)
def test_forward_pass_and_loss_stay_on_the_device(script, config):
    cfg = load_config(script, config)
    net, kind = build_model(script, cfg), ACTORS.get(script, BoxActor)
    with FakeTensorMode() as mode:
        actor = kind(on_cuda(net.train(), mode), cfg, CUDA)
        for dtype in (None, torch.bfloat16):
            with torch.autocast("cuda", dtype, enabled=dtype is not None):
                outcome = actor(batch_of(cfg, masks=script != "alpha_refine"))
            assert outcome.loss.device.type == "cuda"
            assert {value.device.type for value in outcome.values.values()} == {"cuda"}


@pytest.mark.parametrize(("script", "config"), NETWORKS)
def test_both_parts_of_tracking_stay_on_the_device(script, config):
    cfg = load_config(script, config)
    net = build_model(script, cfg).eval()
    parts = MaskParts(net, cfg) if script == "alpha_refine" else Parts(prepare_for_tracking(net), cfg)
    size, side = cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE
    with FakeTensorMode() as mode:
        on_cuda(parts, mode)
    with mode, OnTheDevice(), torch.no_grad():
        crop = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=CUDA)
        search = torch.zeros(1, side, side, 3, dtype=torch.uint8, device=CUDA)
        if script == "alpha_refine":
            found = parts.search(search, *parts.template(crop, torch.ones(1, 4, device=CUDA)))
        else:
            (feature,) = parts.template(crop)
            count = parts.regions.templates
            tokens = count * feature.shape[1] + (side // parts.regions.stride) ** 2
            bias, position = torch.zeros(1, tokens, device=CUDA), torch.zeros(1, tokens, feature.shape[2], device=CUDA)
            found = parts.search(search, bias, position, *repeat(feature, count))
    assert {value.device.type for value in found} == {"cuda"}


@pytest.mark.parametrize(("script", "config"), NETWORKS)
def test_validation_shows_attention_where_there_are_boxes(script, config):
    cfg = load_config(script, config)
    actor = ACTORS.get(script, BoxActor)(build_model(script, cfg).eval(), cfg, torch.device("cpu"))
    with torch.no_grad():
        outcome = actor.explained(batch_of(cfg, masks=script != "alpha_refine"))
    if not isinstance(actor, BoxActor):
        assert outcome.attention is None
        return
    assert outcome.attention.shape == outcome.maps.shape[1:]
    assert ((outcome.attention > 0) & (outcome.attention < 1)).all()
    assert (outcome.attention.sum(1) < 1).all()  # the template has the rest


@pytest.mark.parametrize(("script", "config"), NETWORKS)
def test_nothing_in_a_step_asks_for_a_value(script, config, monkeypatch):
    """Each of these would wait for a GPU."""
    cfg = load_config(script, config)
    net, cpu = build_model(script, cfg).train(), torch.device("cpu")
    actor, optimisation = ACTORS.get(script, BoxActor)(net, cfg, cpu), Optimisation(net, cfg, cpu, 1)
    batch = batch_of(cfg, masks=script != "alpha_refine")

    def waits(*_: object, **__: object) -> None:
        raise AssertionError("a step waits for the device")

    for name in ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__float__", "__int__", "__index__"):
        monkeypatch.setattr(Tensor, name, waits)
    optimisation.backward(actor(batch).loss)
    norm = optimisation.step(1, 0)
    monkeypatch.undo()
    assert torch.isfinite(norm)
    actor.checks.require()


def test_tf32_is_set_for_all_who_read_it():
    """PyTorch has two sets of flags, and its readers of one raise where only the other was set."""
    cfg, matmul, cudnn = load_config("stark_s", "baseline"), torch.backends.cuda.matmul, torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    try:
        for tf32 in (True, False):
            cfg.TRAIN.TF32 = tf32
            choose_arithmetic(nn.Identity(), cfg, CUDA)
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (tf32, tf32)
            assert (matmul.fp32_precision == "tf32", cudnn.conv.fp32_precision == "tf32") == (tf32, tf32)
            assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]
