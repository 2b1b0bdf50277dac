"""The plain ways that fast ones are held against compute the same."""

import numpy as np
import pytest
import torch

from benchmarks.plain import plain_network, whole_crop
from lib.config import load_config
from lib.models.layers import FrozenBatchNorm2d
from lib.utils.crop import sample_target
from tests.golden_cases import VARIANTS, reference_model
from tests.models.test_inference import regions


@pytest.mark.parametrize("variant", ["stark_st50", "stark_lightning"])
def test_the_plain_network_gives_the_same_boxes(variant):
    model, cfg = reference_model(variant).eval(), load_config(*VARIANTS[variant][:2])
    templates, search = regions(cfg, VARIANTS[variant][2], padded=True)
    plain = plain_network(model)
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in plain.modules())
    with torch.inference_mode():
        assert torch.allclose(model(templates, search)["pred_boxes"], plain(templates, search)["pred_boxes"], atol=1e-5)


@pytest.mark.parametrize("box", [[60, 40, 30, 50], [-10, -20, 60, 60], [100, 70, 40, 30]])
def test_the_plain_crop_shows_the_same(box):
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    crop, scale, mask = sample_target(image, box, 4.0, 64)
    plain_crop, plain_scale, plain_mask = whole_crop(image, box, 4.0, 64)
    assert np.abs(crop.astype(int) - plain_crop).max() <= 1
    assert scale == plain_scale
    assert (mask == plain_mask).all()
