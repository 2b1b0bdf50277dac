"""What can be trained, by script: STARK's networks, and Alpha-Refine's, which stands beside them."""

from easydict import EasyDict
from torch import nn

from external.AR.network import AlphaRefine
from external.AR.refiner import SCRIPT as MASK_SCRIPT
from lib import models

NETWORKS: dict[str, type[nn.Module]] = {**models.NETWORKS, MASK_SCRIPT: AlphaRefine}


def build_network(script: str, cfg: EasyDict, pretrained: bool = False) -> nn.Module:
    """Build the network of a script; arguments and errors as of `lib.models.build_model`."""
    return AlphaRefine(cfg, pretrained) if script == MASK_SCRIPT else models.build_model(script, cfg, pretrained)
