"""The reference networks and their inputs, as `golden/README.md` describes them."""

from pathlib import Path

import numpy as np
from torch import nn

from lib.config import load_config
from lib.models import build_model
from lib.utils.tensors import NestedTensor
from tests.golden.fill import fill, normal, padded_mask

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = {
    "stark_s50": ("stark_s", "baseline", 1),
    "stark_st50": ("stark_st2", "baseline", 2),
    "stark_st101": ("stark_st2", "baseline_R101", 2),
    "stark_lightning": ("stark_lightning_X_trt", "baseline_rephead_4_lite_search5", 1),
}


def reference_model(variant: str, overrides: tuple[str, ...] = ()) -> nn.Module:
    """A variant with the reference weights, in training mode."""
    script, config, _ = VARIANTS[variant]
    return fill(build_model(script, load_config(script, config, overrides)))


def reference_inputs(variant: str) -> tuple[list[NestedTensor], NestedTensor]:
    """Templates and search region of the forward-pass references, batch of 2."""

    def region(name: str, mask: str, size: int) -> NestedTensor:
        return NestedTensor(normal(f"{variant}.{name}", (2, 3, size, size)), padded_mask(f"{variant}.{mask}", 2, size))

    templates = [region(f"template{i}", f"template_mask{i}", 128) for i in range(VARIANTS[variant][2])]
    return templates, region("search", "search_mask", 320)


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of one reference file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def state_lines(model: nn.Module) -> list[str]:
    """A network's state dict as the reference files have it: name, type and shape of every entry."""
    return [
        f"{name}\t{str(value.dtype).removeprefix('torch.')}\t{'x'.join(map(str, value.shape)) or 'scalar'}"
        for name, value in model.state_dict().items()
    ]
