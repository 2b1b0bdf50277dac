"""Networks rewritten for tracking compute the same."""

import copy

import pytest
import torch

from lib.config import load_config
from lib.models import build_model
from lib.models.inference import OneQueryDecoder, StackedCorners, prepare_for_tracking
from lib.models.layers import FrozenBatchNorm2d
from lib.utils.tensors import NestedTensor
from tests.golden_cases import VARIANTS, reference_model


def regions(cfg, templates, padded):
    """Random crops, of which the search region is padded on one side."""
    torch.manual_seed(0)
    made = []
    for options in [cfg.DATA.TEMPLATE] * templates + [cfg.DATA.SEARCH]:
        mask = torch.zeros(1, options.SIZE, options.SIZE, dtype=torch.bool)
        mask[:, :, : options.SIZE // 3] = True
        made.append(NestedTensor(torch.randn(1, 3, options.SIZE, options.SIZE), mask if padded else None))
    return made[:-1], made[-1]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_outputs_stay(variant, padded):
    model, cfg = reference_model(variant).eval(), load_config(*VARIANTS[variant][:2])
    templates, search = regions(cfg, VARIANTS[variant][2], padded)
    with torch.inference_mode():
        before = model(templates, search)
        after = prepare_for_tracking(copy.deepcopy(model))(templates, search)
    assert torch.allclose(before["pred_boxes"], after["pred_boxes"], atol=1e-5)
    for name in {"pred_logits", "corner_maps"} & set(before):
        assert torch.allclose(before[name], after[name], atol=1e-3), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_left_to_fold(variant):
    model = prepare_for_tracking(reference_model(variant))
    kinds = {type(module) for module in model.modules()}
    assert not kinds & {torch.nn.BatchNorm2d, FrozenBatchNorm2d}
    if "lightning" not in variant:
        assert {StackedCorners, OneQueryDecoder} <= kinds


def test_the_small_backbones_norms_are_folded():
    cfg = load_config("stark_lightning_X_trt", "mini")
    model = build_model("stark_lightning_X_trt", cfg).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | FrozenBatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean)
    templates, search = regions(cfg, 1, padded=False)
    with torch.inference_mode():
        before = model(templates, search)["cell_boxes"]
        after = prepare_for_tracking(model)(templates, search)["cell_boxes"]
    assert torch.allclose(before, after, atol=1e-4)
