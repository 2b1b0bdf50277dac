"""STARK-Lightning's graphs in the published layout: its names of files, inputs and outputs, and its shapes.

The other variants follow them. A graph takes one normalised crop at a time, in fp32, and its mask:

    backbone_bottleneck_pe.onnx   img_z (1, 3, Ht, Wt), mask_z (1, Ht, Wt) bool, True on padding
                                  -> feat (Lt, 1, C), mask (1, Lt) bool, pos (Lt, 1, C)
    complete.onnx                 img_x (1, 3, H, W), mask_x (1, H, W) bool, and of each template
                                  feat_vec_z, mask_vec_z, pos_vec_z (the second one's end in 1)
                                  -> outputs_coord (1, Nq, 4) cxcywh in fractions of the crop;
                                     with a confidence also pred_logits (1, Nq, 1)

Trackers run the graphs of `lib.models.export`, which do not compute with masks.
"""

from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.export import plain_copy, write_graph
from lib.models.parts import output_names
from lib.models.stark import Tokens
from lib.utils.tensors import NestedTensor

TEMPLATE_FILE = "backbone_bottleneck_pe.onnx"
SEARCH_FILE = "complete.onnx"
TEMPLATE_OUTPUTS = ("feat", "mask", "pos")


class TemplateGraph(nn.Module):
    """Backbone, bottleneck and position encoding of a template."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crop (1, 3, Ht, Wt) and mask (1, Ht, Wt) to features (Lt, 1, C), padding (1, Lt), positions (Lt, 1, C)."""
        tokens = self.model.encode_template(NestedTensor(image, mask))
        return tokens.feature.transpose(0, 1), tokens.padding, tokens.position.transpose(0, 1)


class SearchGraph(nn.Module):
    """The whole network except the templates' backbone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, mask: Tensor, *templates: Tensor) -> tuple[Tensor, ...]:
        """Crop (1, 3, H, W), mask (1, H, W) and the outputs of `TemplateGraph` for each template to boxes (1, Nq, 4).

        Where the network predicts a confidence, also its logits (1, Nq, 1).
        """
        parts = [templates[i : i + 3] for i in range(0, len(templates), 3)]
        regions = [Tokens(f.transpose(0, 1), p.transpose(0, 1), padding) for f, padding, p in parts]
        search = self.model.encode_search(NestedTensor(image, mask))
        output = self.model.predict(regions, search)
        return tuple(output[name] for name in output_names(self.model))


def search_inputs(templates: int) -> list[str]:
    """The names of the search graph's inputs, in order."""
    ends = ["", *(str(i) for i in range(1, templates))]
    return ["img_x", "mask_x", *(f"{name}_vec_z{end}" for end in ends for name in TEMPLATE_OUTPUTS)]


def search_outputs(model: nn.Module) -> list[str]:
    """The names of the search graph's outputs, in order."""
    return ["outputs_coord", *output_names(model)[1:]]


def export_template(model: nn.Module, cfg: EasyDict, path: Path) -> None:
    """Write the template graph of a network, which stays as it is.

    Raises:
        UserError: the file cannot be written.
    """
    inputs = dict(zip(("img_z", "mask_z"), _blank(cfg.DATA.TEMPLATE.SIZE), strict=True))
    write_graph(TemplateGraph(plain_copy(model)), inputs, TEMPLATE_OUTPUTS, path)


def export_search(model: nn.Module, cfg: EasyDict, path: Path) -> None:
    """Write the search graph of a network, which stays as it is.

    Raises:
        UserError: the file cannot be written.
    """
    plain = plain_copy(model)
    with torch.no_grad():
        template = TemplateGraph(plain)(*_blank(cfg.DATA.TEMPLATE.SIZE))
    arguments = (*_blank(cfg.DATA.SEARCH.SIZE), *template * model.template_count)
    inputs = dict(zip(search_inputs(model.template_count), arguments, strict=True))
    write_graph(SearchGraph(plain), inputs, search_outputs(model), path)


def _blank(size: int) -> tuple[Tensor, Tensor]:
    """A crop and a mask in which nothing is padded."""
    return torch.zeros(1, 3, size, size), torch.zeros(1, size, size, dtype=torch.bool)
