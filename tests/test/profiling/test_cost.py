"""Operations and parameters: the published figures, and counts made in another way."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.config import load_config
from lib.models import build_model
from lib.models.inference import fold_repvgg
from lib.test.profiling.cost import BACKBONE, RELATION, TEMPLATE, WHOLE, EncodeStage, count_macs, network_costs


@pytest.mark.parametrize(
    ("script", "config", "backbone", "relation", "parameters"),
    [
        ("stark_s", "baseline", 6.794, 5.291, 28.10),
        ("stark_st2", "baseline", 6.794, 6.016, 28.23),
        ("stark_st2", "baseline_R101", 14.370, 6.016, 47.17),
    ],
)
def test_published_figures(script, config, backbone, relation, parameters):
    cfg = load_config(script, config)
    model = build_model(script, cfg)
    before = set(model.state_dict())
    costs = network_costs(model, cfg)
    assert costs[BACKBONE].macs == pytest.approx(backbone * 1e9, rel=1e-3)
    assert costs[RELATION].macs == pytest.approx(relation * 1e9, rel=1e-3)
    assert costs[WHOLE].macs == costs[BACKBONE].macs + costs[RELATION].macs
    assert costs[WHOLE].parameters == pytest.approx(parameters * 1e6, abs=5e3)
    assert costs[WHOLE].parameters == costs[BACKBONE].parameters + costs[RELATION].parameters
    assert set(model.state_dict()) == before


def test_folding_leaves_lightnings_published_size():
    cfg = load_config("stark_lightning_X_trt", "baseline_rephead_4_lite_search5")
    model = build_model("stark_lightning_X_trt", cfg)
    unfolded = network_costs(model, cfg)[WHOLE]
    folded = network_costs(fold_repvgg(model), cfg)[WHOLE]
    assert (unfolded.parameters, folded.parameters) == (2349986, 2151202)
    assert folded.macs < unfolded.macs


@pytest.mark.parametrize("config", ["quickstart", "baseline_rephead_4_lite_search5"])
def test_backbones_count_as_pytorch_counts_them(config):
    """The convolutions that a module calls as functions are not forgotten."""
    cfg = load_config("stark_lightning_X_trt", config, ["MODEL.BACKBONE.DTYPE=fp32"])
    model = fold_repvgg(build_model("stark_lightning_X_trt", cfg)).eval()
    crop = torch.zeros(1, 3, cfg.DATA.TEMPLATE.SIZE, cfg.DATA.TEMPLATE.SIZE)
    stage = EncodeStage(model, template=True)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        stage(crop)
    # At stride 2 EfficientNet computes a row and a column more than it keeps.
    assert counter.get_total_flops() / 2 == pytest.approx(count_macs(stage, crop), rel=0.02)
    assert network_costs(model, cfg)[TEMPLATE].macs == count_macs(stage, crop)
