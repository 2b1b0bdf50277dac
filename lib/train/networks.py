"""What can be trained, by script: STARK's networks, and Alpha-Refine's, which stands beside them."""

from easydict import EasyDict
from torch import nn

from lib import models
from lib.models.alpha_refine import SCRIPT as MASK_SCRIPT
from lib.models.alpha_refine import AlphaRefine

NETWORKS: dict[str, type[nn.Module]] = {**models.NETWORKS, MASK_SCRIPT: AlphaRefine}


def build_network(script: str, cfg: EasyDict, pretrained: bool = False) -> nn.Module:
    """Build the network of a script; arguments and errors as of `lib.models.build_model`."""
    return AlphaRefine(cfg, pretrained) if script == MASK_SCRIPT else models.build_model(script, cfg, pretrained)
