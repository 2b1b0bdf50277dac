"""Alpha-Refine as two graphs of fixed size, to be exported: one for the object, run once; one for each frame.

reference   img_z (1, 3, S, S), box (1, 4), xywh in pixels of the crop -> kernels (1, 144, C)
mask        kernels (1, 144, C), img_x (1, 3, S, S) -> mask_logits (1, 1, S, S)
"""

from dataclasses import dataclass

import torch
from easydict import EasyDict
from torch import Tensor, nn

from external.AR.inference import prepare_for_masks
from external.AR.network import AlphaRefine


class ReferenceGraph(nn.Module):
    """See `AlphaRefine.encode_reference`."""

    def __init__(self, model: AlphaRefine) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, box: Tensor) -> Tensor:
        return self.model.encode_reference(image, box)


class MaskGraph(nn.Module):
    """See `AlphaRefine.segment`."""

    def __init__(self, model: AlphaRefine) -> None:
        super().__init__()
        self.model = model

    def forward(self, kernels: Tensor, image: Tensor) -> Tensor:
        return self.model.segment(kernels, image)


@dataclass(frozen=True)
class Traceable:
    """A graph, and what is needed to trace it.

    Attributes:
        module: the graph, in evaluation.
        arguments: inputs of the right shapes.
        inputs, outputs: their names, in order.
    """

    module: nn.Module
    arguments: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@torch.no_grad()
def traceable_graphs(model: AlphaRefine, cfg: EasyDict) -> tuple[Traceable, Traceable]:
    """The reference's and the frames' graph of a network.

    Args:
        model: with its weights, on the CPU; it is rewritten for tracking.
        cfg: the configuration it was built from.
    """
    prepare_for_masks(model, cfg.DATA.SEARCH.SIZE)
    size = cfg.DATA.TEMPLATE.SIZE
    shown = torch.zeros(1, 3, size, size), torch.tensor([[size / 4, size / 4, size / 2, size / 2]])
    reference = ReferenceGraph(model).eval()
    frame = torch.zeros(1, 3, cfg.DATA.SEARCH.SIZE, cfg.DATA.SEARCH.SIZE)
    return (
        Traceable(reference, shown, ("img_z", "box"), ("kernels",)),
        Traceable(MaskGraph(model).eval(), (reference(*shown), frame), ("kernels", "img_x"), ("mask_logits",)),
    )
