"""A network in two parts for tracking: the template's part runs once, the search region's part each frame.

Positions and padding biases depend on the padding of the crops alone: `lib.utils.graph_files` computes them outside.
"""

import copy

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.heads import CenterPredictor
from lib.models.position_encoding import PositionEmbeddingSine
from lib.models.stark import STARKST, Tokens
from lib.models.stark_lightning import STARKLightningXtrt
from lib.utils.graph_files import Regions
from lib.utils.tensors import NestedTensor


def regions_of(model: nn.Module, cfg: EasyDict) -> Regions:
    """Sizes and positions of a network's regions; `cfg` is the configuration it was built from."""
    sizes, stride = {"template": cfg.DATA.TEMPLATE.SIZE, "search": cfg.DATA.SEARCH.SIZE}, model.extractor.stride
    if isinstance(model, STARKLightningXtrt):
        encodings = {"template": model.pos_emb_z0, "search": model.pos_emb_x}
    else:
        encodings = dict.fromkeys(sizes, model.backbone[1])
    positions = {}
    for name, encoding in encodings.items():
        blank = torch.zeros(1, cfg.MODEL.HIDDEN_DIM, sizes[name] // stride, sizes[name] // stride)
        with torch.no_grad():
            position = copy.deepcopy(encoding).cpu().float()(blank, None)
        positions[name] = np.ascontiguousarray(position.numpy())
    sine = isinstance(encodings["search"], PositionEmbeddingSine)
    return Regions(sizes, stride, model.template_count, positions, sine)


def output_names(model: nn.Module) -> tuple[str, ...]:
    """The outputs that tracking needs: boxes, and a confidence where the network predicts one."""
    scores = isinstance(model, STARKST) or isinstance(model.box_head, CenterPredictor)
    return ("pred_boxes", "pred_logits") if scores else ("pred_boxes",)


class Parts(nn.Module):
    """The network in two parts.

    Crops are uint8 (B, H, W, 3), as they are cut from the frame; the first step normalises them.

    Args:
        model: a network with its weights, folded (see `lib.models.inference`).
        cfg: the configuration it was built from.

    Attributes:
        kept: names of the tensors that `template` gives.
        outputs: names of the tensors that `search` gives, as in the network's own output.
    """

    kept = ("feature",)

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        super().__init__()
        self.model, self.regions, self.outputs = model, regions_of(model, cfg), output_names(model)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def template(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Template crops (B, Ht, Wt, 3) uint8 to their features (B, Lt, C)."""
        return (self.model.encode_template(self._pixels(crops)).feature,)

    def search(self, crops: Tensor, bias: Tensor | None, position: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        """Search crops (B, H, W, 3) uint8 to the tensors of `outputs`, in fp32.

        Args:
            bias: (B or 1, L), added to the logits of attention, of templates and search region; or None.
            position: (B or 1, L, C) of templates and search region.
            features: (B, Lt, C) of each template.
        """
        features = (*features, self.model.encode_search(self._pixels(crops)).feature)
        template, search = ((size // self.regions.stride) ** 2 for size in self.regions.sizes.values())
        lengths = [template] * (len(features) - 1) + [search]
        positions = position.to(features[-1].dtype).split(lengths, dim=1)
        biases = [None] * len(features) if bias is None else bias.split(lengths, dim=1)
        *templates, region = (Tokens(*each) for each in zip(features, positions, biases, strict=True))
        output = self.model.predict(templates, region)
        return tuple(output[name].float() for name in self.outputs)

    def _pixels(self, crops: Tensor) -> NestedTensor:
        """Crops (B, H, W, 3) uint8 to the network's input (B, 3, H, W)."""
        pixels = crops.permute(0, 3, 1, 2).float() * self.scale + self.shift
        return NestedTensor(pixels.to(self.model.bottleneck.weight.dtype))
