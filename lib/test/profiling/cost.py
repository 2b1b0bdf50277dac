"""What a network costs: multiply-accumulate operations (MACs) and parameters.

Operations are counted by thop, layer by layer while the network runs, with one rule added for attention, as for the
published figures. A frame costs the backbone on its search crop, and the transformer and head;
the template's backbone runs once and is counted apart.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.attention import MultiheadAttention
from lib.models.inference import fold_norms
from lib.models.stark import Tokens
from lib.utils.errors import UserError
from lib.utils.tensors import NestedTensor

BACKBONE, RELATION, WHOLE, TEMPLATE = "backbone", "transformer_and_head", "whole", "template"


@dataclass(frozen=True)
class Cost:
    """MACs of one run, and the parameters it draws on."""

    macs: float
    parameters: int


class EncodeStage(nn.Module):
    """Backbone, bottleneck and position encoding of a region: crop (1, 3, H, W) to tokens."""

    def __init__(self, model: nn.Module, template: bool = False) -> None:
        super().__init__()
        self.model, self.template = model, template

    def forward(self, crop: Tensor) -> Tokens:
        encode = self.model.encode_template if self.template else self.model.encode_search
        return encode(NestedTensor(crop))


class RelateStage(nn.Module):
    """Transformer and head: tokens of the templates and of the search region to boxes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, templates: Sequence[Tokens], search: Tokens) -> dict[str, Tensor]:
        return self.model.predict(templates, search)


def network_costs(model: nn.Module, cfg: EasyDict) -> dict[str, Cost]:
    """What each part of a network costs, on crops without padding.

    Args:
        model: the network; in the end it is as it was.
        cfg: the configuration it was built from.

    Returns:
        By part: `backbone` (on the search crop, with bottleneck), `transformer_and_head`, `whole` (the sum of the two,
        a frame), `template` (one template's backbone).

    Raises:
        UserError: thop cannot be imported.
    """
    device = next(model.parameters()).device
    template, search = (
        torch.zeros(1, 3, cfg.DATA[r].SIZE, cfg.DATA[r].SIZE, device=device) for r in ("TEMPLATE", "SEARCH")
    )
    with torch.no_grad():
        tokens = EncodeStage(model, template=True)(template), EncodeStage(model)(search)
    backbone = count_macs(EncodeStage(model), search)
    relation = count_macs(RelateStage(model), [tokens[0]] * model.template_count, tokens[1])
    total = _parameters(model)
    features = _parameters(model.extractor) + _parameters(model.bottleneck)
    return {
        BACKBONE: Cost(backbone, features),
        RELATION: Cost(relation, total - features),
        WHOLE: Cost(backbone + relation, total),
        TEMPLATE: Cost(count_macs(EncodeStage(model, template=True), template), features),
    }


def count_macs(module: nn.Module, *inputs: object) -> float:
    """MACs of one call of a module.

    Raises:
        UserError: thop cannot be imported.
    """
    rules = {MultiheadAttention: _count_attention}
    # A copy, since thop leaves its counters behind; without norms, as a tracker runs it.
    return _thop().profile(fold_norms(copy.deepcopy(module)), inputs, custom_ops=rules, verbose=False)[0]


def _count_attention(module: MultiheadAttention, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Projections of queries, keys and values, similarities, weighted sums: (Lq + 2 Lk) d^2 + 2 Lq Lk d.

    The output's projection is left out, as in the published figures.
    """
    (batch, queries, dim), keys = inputs[0].shape, inputs[1].shape[1]
    module.total_ops += batch * ((queries + 2 * keys) * dim**2 + 2 * queries * keys * dim)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _thop() -> ModuleType:
    """The package, which only counting needs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it compares versions in an old way
            import thop
    except ImportError as error:
        raise UserError(
            f"counting operations needs thop and setuptools: pip install thop setuptools ({error})"
        ) from error
    return thop
