"""Networks as trackers run them: folded to fewer operations, which compute the same, and in two parts.

The template's part runs once, the search region's in each frame.
"""

import copy
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from ..utils.graph_files import Regions
from ..utils.tensors import NestedTensor
from .heads import CenterPredictor, CornerPredictor
from .layers import FrozenBatchNorm2d, RepVGGBlock, scale_and_shift
from .stark import STARKST, Tokens
from .stark_lightning import STARKLightningXtrt
from .transformer import PositionEmbeddingSine


def prepare_for_tracking(model: nn.Module) -> nn.Module:
    """Fold a network in place and set it to evaluation, and return it: it can neither be trained nor loaded then."""
    return fold_norms(fold_repvgg(model.eval()))


@torch.no_grad()
def fold_norms(model: nn.Module) -> nn.Module:
    """Multiply every batch norm into the convolution that stands before it in its module, in place."""
    for module in model.modules():
        for (_, conv), (norm_name, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                conv.weight, conv.bias = (nn.Parameter(value, requires_grad=False) for value in _folded(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return model


@torch.no_grad()
def fold_repvgg(model: nn.Module) -> nn.Module:
    """Turn the branches of all RepVGG blocks into convolutions `rbr_reparam` (Ding et al., section 3.3), in place."""
    for block in model.modules():
        if not isinstance(block, RepVGGBlock) or hasattr(block, "rbr_reparam"):
            continue
        dense = block.rbr_dense.conv
        kernel, bias = _folded(*block.rbr_dense)
        kernel_1x1, bias_1x1 = _folded(*block.rbr_1x1)
        kernel, bias = kernel + F.pad(kernel_1x1, (1, 1, 1, 1)), bias + bias_1x1
        if block.rbr_identity is not None:
            scale, shift = scale_and_shift(block.rbr_identity)
            kernel, bias = kernel + F.pad(scale.diag()[..., None, None], (1, 1, 1, 1)), bias + shift
        block.rbr_reparam = nn.Conv2d(dense.in_channels, dense.out_channels, 3, dense.stride, padding=1).to(kernel)
        block.rbr_reparam.weight.copy_(kernel)
        block.rbr_reparam.bias.copy_(bias)
        del block.rbr_identity, block.rbr_dense, block.rbr_1x1
    return model


def _folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A convolution and the norm behind it as one kernel (O, I, k, k) and bias (O,)."""
    scale, shift = scale_and_shift(norm)
    bias = shift if conv.bias is None else shift + conv.bias * scale
    return conv.weight * scale.view(-1, 1, 1, 1), bias


@torch.no_grad()
def regions_of(model: nn.Module, cfg: EasyDict) -> Regions:
    """Sizes and positions of a network's regions; `cfg` is the configuration it was built from."""
    sizes, stride = {"template": cfg.DATA.TEMPLATE.SIZE, "search": cfg.DATA.SEARCH.SIZE}, model.extractor.stride
    lightning = isinstance(model, STARKLightningXtrt)
    encodings = (model.pos_emb_z0, model.pos_emb_x) if lightning else [model.backbone[1]] * 2
    positions, sine = {}, isinstance(encodings[1], PositionEmbeddingSine)
    for (name, size), encoding in zip(sizes.items(), encodings, strict=True):
        blank = torch.zeros(1, cfg.MODEL.HIDDEN_DIM, size // stride, size // stride)
        positions[name] = np.ascontiguousarray(copy.deepcopy(encoding).cpu().float()(blank, None).numpy())
    return Regions(sizes, stride, model.template_count, positions, sine, output_names(model))


def output_names(model: nn.Module) -> tuple[str, ...]:
    """The outputs that tracking needs: boxes, and what says how sure they are (an MLP alone says nothing)."""
    if isinstance(model, STARKST) or isinstance(model.box_head, CenterPredictor):
        return "pred_boxes", "pred_logits"
    return ("pred_boxes", "corner_peak") if isinstance(model.box_head, CornerPredictor) else ("pred_boxes",)


class OnCrops(nn.Module):
    """Takes crops (B, H, W, 3) uint8 as they are cut: normalising them is the first step."""

    def __init__(self, cfg: EasyDict) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def normalised(self, crops: Tensor) -> Tensor:
        """Crops (B, H, W, 3) uint8 to (B, 3, H, W) float32."""
        return crops.permute(0, 3, 1, 2).float() * self.scale + self.shift


class Parts(OnCrops):
    """A folded network in two parts."""

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        super().__init__(cfg)
        self.model, self.regions, self.outputs = model, regions_of(model, cfg), output_names(model)

    def template(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Template crops (B, Ht, Wt, 3) uint8 to their features (B, Lt, C), in fp32."""
        return (self.model.encode_template(self._pixels(crops)).feature.float(),)

    def search(self, crops: Tensor, bias: Tensor, position: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        """Search crops (B, H, W, 3) uint8 and features (B, Lt, C) of each template to the tensors `outputs`, in fp32.

        `bias` (B or 1, L) and `position` (B or 1, L, C) are of all tokens; see `lib.utils.graph_files`.
        """
        region = self.model.encode_search(self._pixels(crops)).feature
        features = [*(each.to(region.dtype) for each in features), region]
        template, search = ((size // self.regions.stride) ** 2 for size in self.regions.sizes.values())
        lengths = [template] * (len(features) - 1) + [search]
        positions = position.to(region.dtype).split(lengths, dim=1)
        biases = bias.split(lengths, dim=1)
        *templates, region = (Tokens(*each) for each in zip(features, positions, biases, strict=True))
        output = self.model.predict(templates, region)
        if "corner_peak" in self.outputs:  # the mean of both maps' highest probability
            peaks = output["corner_maps"].float().softmax(-1).amax(-1).mean(0)
            output["corner_peak"] = peaks.view(*output["pred_boxes"].shape[:2], 1)
        return tuple(output[name].float() for name in self.outputs)

    def _pixels(self, crops: Tensor) -> NestedTensor:
        return NestedTensor(self.normalised(crops).to(self.model.bottleneck.weight.dtype))
