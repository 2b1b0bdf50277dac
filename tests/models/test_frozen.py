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
        (0.484188, 0.5205119, 0.296047, 0.2354153, 0.9134874),
        (0.8315946, 0.2671891, 0.2917161, 0.4208871, -1.0876904),
        (0.4479569, 0.8753811, 0.3447273, 0.2451525, -1.1918831),
    ),
    True: (
        (0.4854714, 0.5212665, 0.3011194, 0.233124, 0.9824629),
        (0.8265468, 0.3001317, 0.3140046, 0.4352336, -1.1217251),
        (0.4345967, 0.8790083, 0.3158492, 0.2347882, -1.1994324),
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
