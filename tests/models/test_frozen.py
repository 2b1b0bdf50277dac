"""The shipped small tracker gives the boxes that it gave when its weights were written."""

import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.models import build_model
from lib.test.tracker import shipped_weights
from lib.utils.checkpoint import load_checkpoint, load_state
from lib.utils.tensors import Preprocessor
from tests.golden.fill import image, padded_mask

SCRIPT, CONFIG = "stark_lightning_X_trt", "mini"
# Box cxcywh and logit of three fixed pairs of crops.
FROZEN = {
    False: (
        (0.480169, 0.5276762, 0.3037294, 0.2478894, 0.943553),
        (0.5243676, 0.5138452, 0.2405993, 0.3600786, -0.917264),
        (0.4356097, 0.8780948, 0.3180509, 0.2356572, -1.13426),
    ),
    True: (
        (0.4808263, 0.5313135, 0.3026955, 0.2506396, 0.8750486),
        (0.5243784, 0.5149586, 0.2426386, 0.356173, -0.8497257),
        (0.4315341, 0.8803011, 0.3011181, 0.2309319, -0.9502983),
    ),
}


def outputs(padded: bool) -> np.ndarray:
    """Boxes (3, 4) cxcywh and logits (3, 1) side by side, of three fixed pairs of crops."""
    cfg = load_config(SCRIPT, CONFIG)
    model = build_model(SCRIPT, cfg).eval()
    path = shipped_weights(SCRIPT, CONFIG)
    load_state(model, load_checkpoint(path), path)
    preprocess = Preprocessor(cfg.DATA.MEAN, cfg.DATA.STD, torch.device("cpu"))
    found = []
    for i in range(3):
        regions = []
        for name, size in (("template", cfg.DATA.TEMPLATE.SIZE), ("search", cfg.DATA.SEARCH.SIZE)):
            mask = padded_mask(f"{name}{i}", 1, size)[0].numpy() if padded else np.zeros((size, size), bool)
            regions.append(preprocess(image(f"frozen.{name}{i}", size, size), mask))
        with torch.inference_mode():
            out = model(regions[:1], regions[1])
        found.append(torch.cat((out["pred_boxes"], out["pred_logits"]), dim=2)[0, 0])
    return torch.stack(found).numpy()


@pytest.mark.parametrize("padded", [False, True])
def test_boxes_are_those_of_the_weights(padded):
    assert np.abs(outputs(padded)[:, :4] - np.array(FROZEN[padded])[:, :4]).max() < 1e-4
    assert np.abs(outputs(padded)[:, 4] - np.array(FROZEN[padded])[:, 4]).max() < 1e-3
