"""The shipped small tracker gives the boxes that it gave before the networks were rewritten."""

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
# Box cxcywh and logit of three fixed pairs of crops, computed before the rewriting.
FROZEN = {
    False: (
        (0.5058118, 0.52302873, 0.24718212, 0.23404598, 1.7234449),
        (0.52513766, 0.5154765, 0.23578198, 0.3942154, -0.47490025),
        (0.38989052, 0.5084729, 0.28787777, 0.31095725, -0.6355238),
    ),
    True: (
        (0.50676215, 0.52601296, 0.24226224, 0.23884125, 1.6928816),
        (0.5231653, 0.51713425, 0.21893273, 0.4123504, -0.4837227),
        (0.39576253, 0.51499975, 0.25732705, 0.27917105, -0.57225704),
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
def test_boxes_are_those_before_the_rewriting(padded):
    assert np.abs(outputs(padded)[:, :4] - np.array(FROZEN[padded])[:, :4]).max() < 1e-4
    assert np.abs(outputs(padded)[:, 4] - np.array(FROZEN[padded])[:, 4]).max() < 1e-3
