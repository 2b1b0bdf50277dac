"""Networks folded for inference: the same function with fewer operations.

Batch norms are multiplied into the convolutions before them, and the three branches of each RepVGG block become one
convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.layers import FrozenBatchNorm2d, scale_and_shift
from lib.models.repvgg import RepVGGBlock

# Attributes of blocks that hold a convolution and the norm behind it.
_PAIRS = (
    *((f"conv{i}", f"bn{i}") for i in range(1, 4)),
    ("conv_stem", "bn0"),
    ("expand_conv", "bn0"),
    ("depthwise_conv", "bn1"),
    ("project_conv", "bn2"),
)


def prepare_for_tracking(model: nn.Module) -> nn.Module:
    """Fold a network in place and set it to evaluation; returns it.

    Its outputs stay the same to rounding. It cannot be trained afterwards, nor load a state dict.
    """
    return fold_norms(fold_repvgg(model.eval()))


@torch.no_grad()
def fold_norms(model: nn.Module) -> nn.Module:
    """Multiply every batch norm that follows a convolution into it, in place; identities replace the norms."""
    for module in model.modules():
        children = dict(module.named_children())
        names = list(children)
        pairs = zip(names, names[1:], strict=False) if isinstance(module, nn.Sequential) else _PAIRS
        for conv_name, norm_name in pairs:
            conv, norm = children.get(conv_name), children.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                kernel, bias = _folded(conv, norm)
                conv.weight = nn.Parameter(kernel, requires_grad=False)
                conv.bias = nn.Parameter(bias, requires_grad=False)
                setattr(module, norm_name, nn.Identity())
    return model


@torch.no_grad()
def fold_repvgg(model: nn.Module) -> nn.Module:
    """Turn the branches of every RepVGG block into the convolution `rbr_reparam` (Ding et al., section 3.3), in place.

    Blocks that are folded already stay as they are. Returns the network.
    """
    for block in model.modules():
        if not isinstance(block, RepVGGBlock) or hasattr(block, "rbr_reparam"):
            continue
        dense = block.rbr_dense.conv
        kernel, bias = _folded(dense, block.rbr_dense.bn)
        kernel_1x1, bias_1x1 = _folded(block.rbr_1x1.conv, block.rbr_1x1.bn)
        kernel, bias = kernel + F.pad(kernel_1x1, (1, 1, 1, 1)), bias + bias_1x1
        if block.rbr_identity is not None:
            scale, shift = scale_and_shift(block.rbr_identity)
            kernel, bias = kernel + F.pad(scale.diag()[..., None, None], (1, 1, 1, 1)), bias + shift
        folded = nn.Conv2d(dense.in_channels, dense.out_channels, 3, dense.stride, padding=1)
        block.rbr_reparam = folded.to(kernel.device, kernel.dtype)
        block.rbr_reparam.weight.copy_(kernel)
        block.rbr_reparam.bias.copy_(bias)
        del block.rbr_identity, block.rbr_dense, block.rbr_1x1
    return model


def _folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A convolution and the norm behind it as one kernel (O, I, k, k) and bias (O,)."""
    scale, shift = scale_and_shift(norm)
    bias = shift if conv.bias is None else shift + conv.bias * scale
    return conv.weight * scale.view(-1, 1, 1, 1), bias
