"""RepVGG (Ding et al., CVPR 2021): three branches while training, one 3x3 convolution after folding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.layers import FrozenBatchNorm2d, folded, made_once, scale_and_shift

# RepVGG-A0: blocks in stages 1 to 4, and what the base widths 64, 64, 128, 256 are multiplied by.
A0_BLOCKS = (2, 4, 14, 1)
A0_WIDTH = 0.75


class RepVGGBlock(nn.Module):
    """3x3 convolution, 1x1 convolution and (where shapes allow) identity, each normalised, summed, then ReLU.

    (B, Cin, H, W) to (B, Cout, H / stride, W / stride). `fold` replaces the branches by the
    single convolution `rbr_reparam` that computes the same.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, frozen_norm: bool = False, folded: bool = False
    ) -> None:
        super().__init__()
        if folded:
            self.rbr_reparam = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
            return
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        self.rbr_identity = norm(outputs) if inputs == outputs and stride == 1 else None
        self.rbr_dense = _conv_norm(inputs, outputs, 3, stride, norm)
        self.rbr_1x1 = _conv_norm(inputs, outputs, 1, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "rbr_reparam"):
            return self.rbr_reparam(x).relu()
        if isinstance(self.rbr_dense.bn, FrozenBatchNorm2d):
            # What `fold` does once, in each step: gradients reach the branches' kernels through the one they make.
            dense = self.rbr_dense.conv
            return F.conv2d(x, *made_once(self, self._joined), dense.stride, dense.padding).relu_()
        branches = self.rbr_dense(x) + self.rbr_1x1(x)
        return (branches if self.rbr_identity is None else branches + self.rbr_identity(x)).relu()

    def _joined(self) -> tuple[Tensor, Tensor]:
        """The kernel (O, I, 3, 3) and bias (O,) of the convolution that the three branches are together."""
        dense = self.rbr_dense.conv
        kernel, bias = folded(dense.weight, self.rbr_dense.bn)
        kernel_1x1, bias_1x1 = folded(self.rbr_1x1.conv.weight, self.rbr_1x1.bn)
        kernel, bias = kernel + F.pad(kernel_1x1, (1, 1, 1, 1)), bias + bias_1x1
        if self.rbr_identity is not None:
            scale, shift = scale_and_shift(self.rbr_identity)
            kernel, bias = kernel + F.pad(scale.diag()[..., None, None], (1, 1, 1, 1)), bias + shift
        return kernel, bias

    @torch.no_grad()
    def fold(self) -> None:
        """Turn the three branches into one convolution (section 3.3); a folded block stays as it is."""
        if hasattr(self, "rbr_reparam"):
            return
        dense = self.rbr_dense.conv
        kernel, bias = self._joined()
        reparam = nn.Conv2d(dense.in_channels, dense.out_channels, 3, dense.stride, padding=1)
        self.rbr_reparam = reparam.to(kernel.device, kernel.dtype)
        self.rbr_reparam.weight.copy_(kernel)
        self.rbr_reparam.bias.copy_(bias)
        del self.rbr_identity, self.rbr_dense, self.rbr_1x1


class RepVGGA0(nn.Module):
    """RepVGG-A0 to stage 3: (B, 3, H, W) to (B, 192, H / 16, W / 16)."""

    channels = 192

    def __init__(self, last_stage_blocks: int = A0_BLOCKS[2], frozen_norm: bool = True, folded: bool = False) -> None:
        super().__init__()
        options = {"frozen_norm": frozen_norm, "folded": folded}
        widths = [int(base * A0_WIDTH) for base in (64, 64, 128, 256)]
        self.stage0 = RepVGGBlock(3, widths[0], stride=2, **options)
        for stage, blocks in enumerate((A0_BLOCKS[0], A0_BLOCKS[1], last_stage_blocks), start=1):
            first = RepVGGBlock(widths[stage - 1], widths[stage], stride=2, **options)
            rest = (RepVGGBlock(widths[stage], widths[stage], **options) for _ in range(blocks - 1))
            self.add_module(f"stage{stage}", nn.Sequential(first, *rest))

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.children():
            x = stage(x)
        return x


def fold_repvgg(module: nn.Module) -> nn.Module:
    """Fold every RepVGG block of a network in place, for use after training; gives the network back."""
    for block in module.modules():
        if isinstance(block, RepVGGBlock):
            block.fold()
    return module


def _conv_norm(inputs: int, outputs: int, size: int, stride: int, norm: type[nn.Module]) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    branch = nn.Sequential()
    branch.add_module("conv", conv)
    branch.add_module("bn", norm(outputs))
    return branch
