"""The segmentation network of Alpha-Refine: from correlation scores and features to a mask.

The blocks are those of Robinson et al., "Learning Fast and Robust Target Models for Video Object Segmentation"
(CVPR 2020), and carry the names of published weights. From the deepest level to the shallowest: the scores join the
reduced features (TSE), a residual block (RRB), channels are weighed by what the deeper level found (CAB), a
residual block; in the end the mask is enlarged.
"""

from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCORES, WIDTH = 144, 64  # channels: a score for each cell of the reference's box; what the network works with


class ScoresAndFeatures(nn.Module):
    """TSE: features (B, C, h, h) are reduced, and scores (B, 144, h', h') mixed into them; (B, 64, h, h) comes out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        mixed = SCORES + WIDTH
        self.reduce = nn.Sequential(_conv(channels, WIDTH, 1), nn.ReLU(), _conv(WIDTH, WIDTH, 1))
        self.transform = nn.Sequential(
            *(_conv(mixed, mixed, 3), nn.ReLU(), _conv(mixed, mixed, 3), nn.ReLU()),
            *(_conv(mixed, WIDTH, 3), nn.ReLU()),
        )

    def forward(self, feature: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """What was mixed, and the reduced features themselves."""
        reduced = self.reduce(feature)
        return self.transform(torch.cat((reduced, resize(scores, feature.shape[-1])), dim=1)), reduced


class Residual(nn.Module):
    """RRB: (B, 64, h, w) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1x1 = _conv(WIDTH, WIDTH, 1)
        self.bblock = nn.Sequential(
            *(_conv(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU()),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1x1(x)
        return (x + self.bblock(x)).relu()


class ChannelAttention(nn.Module):
    """CAB: weighs the channels of a level by its own and the deeper level's means, and adds the deeper level."""

    def __init__(self) -> None:
        super().__init__()
        self.convreluconv = nn.Sequential(_conv(2 * WIDTH, WIDTH, 1), nn.ReLU(), _conv(WIDTH, WIDTH, 1))

    def forward(self, deeper: Tensor, shallower: Tensor) -> Tensor:
        """Deeper (B, 64, h', w') and shallower (B, 64, h, w) level to (B, 64, h, w)."""
        means = torch.cat((shallower.mean((2, 3), keepdim=True), deeper.mean((2, 3), keepdim=True)), dim=1)
        return shallower * self.convreluconv(means).sigmoid() + resize(deeper, shallower.shape[-1])


class Enlarge(nn.Module):
    """(B, 64, h, w) to logits (B, 1, size, size): twice doubled with convolutions between and after, then resized."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(WIDTH, WIDTH // 2, 3)
        self.conv2 = _conv(WIDTH // 2, 1, 3)

    def forward(self, x: Tensor, size: int) -> Tensor:
        x = self.conv1(double(x)).relu()
        return self.conv2(resize(double(x), size))


class SegmentationNetwork(nn.Module):
    """Scores and features of several levels to the mask; `channels` are those of the features, the deepest first."""

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.levels = tuple(channels)
        self.TSE = nn.ModuleDict({level: ScoresAndFeatures(count) for level, count in channels.items()})
        self.RRB1 = nn.ModuleDict({level: Residual() for level in channels})
        self.CAB = nn.ModuleDict({level: ChannelAttention() for level in channels})
        self.RRB2 = nn.ModuleDict({level: Residual() for level in channels})
        self.project = Enlarge()

    def forward(self, scores: Tensor, features: Mapping[str, Tensor], size: int) -> Tensor:
        """Scores (B, 144, h, w) and features by level, (B, C, h', w') each, to the mask's logits (B, 1, size, size)."""
        found = None
        for level in self.levels:
            mixed, reduced = self.TSE[level](features[level], scores)
            # Below the deepest level there is none: its features' means stand in.
            deeper = reduced.mean((2, 3), keepdim=True) if found is None else found
            found = self.RRB2[level](self.CAB[level](deeper, self.RRB1[level](mixed)))
        return self.project(found, size)


def resize(x: Tensor, size: int) -> Tensor:
    """A square map (B, C, h, h) bilinearly at another size."""
    return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


def double(x: Tensor) -> Tensor:
    """A square map (B, C, h, h) at twice the size: bicubic (Keys, a = -0.75), borders replicated.

    Two matrix products, which are several times as fast on a CPU as PyTorch's interpolation, and the same everywhere.
    """
    matrix = doubling(x.shape[-1], x.device, x.dtype)
    return matrix @ x @ matrix.T


@lru_cache(maxsize=16)
def doubling(size: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """The matrix (2 * size, size) by which `double` enlarges one side; do not write to it.

    It is kept on its device: a copy in each step would wait for it.
    """
    with torch.inference_mode(False):  # it may serve for training next
        matrix = F.interpolate(torch.eye(size)[None, None], (2 * size, size), mode="bicubic", align_corners=False)
        return matrix[0, 0].to(device, dtype)


def _conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


class ConvolvedEnlargement(nn.Module):
    """A convolution of 3x3 cells, without its bias, over an enlarged square map: (B, C, h, h) to (B, Cout, H, H).

    Of the convolution's `weight` (Cout, C, 3, 3) and of a `matrix` (H, h) that enlarges one side.
    """

    def __init__(self, weight: Tensor, matrix: Tensor) -> None:
        super().__init__()
        outputs, inputs = weight.shape[:2]
        self.outputs = outputs
        self.mix = nn.Conv2d(inputs, 9 * outputs, 1, bias=False)
        self.mix.weight = nn.Parameter(weight.permute(0, 2, 3, 1).reshape(-1, inputs, 1, 1).contiguous())
        # What lies one cell before, at, and one cell after each place of the enlarged side; beyond it there is nothing.
        shifted = [F.pad(matrix, (0, 0, 1 - i, i - 1)) for i in range(3)]
        self.register_buffer("matrix", torch.cat(shifted, dim=1))  # (H, 3 h)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x).unflatten(1, (self.outputs, 3, 3))  # kernel's row and column, before the map's
        mixed = mixed.transpose(3, 4).flatten(4, 5).flatten(2, 3)
        return self.matrix @ (mixed @ self.matrix.T)


class MixedFirst(nn.Module):
    """`ScoresAndFeatures` for scores of `side` cells and features of `larger` cells a side."""

    def __init__(self, plain: ScoresAndFeatures, side: int, larger: int) -> None:
        super().__init__()
        self.reduce = plain.reduce
        first = plain.transform[0]
        self.features = nn.Conv2d(WIDTH, first.out_channels, 3, padding=1)
        self.features.weight = nn.Parameter(first.weight[:, :WIDTH].contiguous())
        self.features.bias = first.bias
        matrix = F.interpolate(torch.eye(side)[None, None], (larger, side), mode="bilinear", align_corners=False)[0, 0]
        self.scores = ConvolvedEnlargement(first.weight[:, WIDTH:], matrix)
        self.rest = plain.transform[1:]

    def forward(self, feature: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """As `ScoresAndFeatures.forward`."""
        reduced = self.reduce(feature)
        return self.rest(self.features(reduced) + self.scores(scores)), reduced


class MaskFirst(nn.Module):
    """`Enlarge` to a given size, four times that of what it gets."""

    def __init__(self, plain: Enlarge, size: int) -> None:
        super().__init__()
        self.conv1 = plain.conv1
        self.register_buffer("matrix", doubling(size // 4))
        self.mask = ConvolvedEnlargement(plain.conv2.weight, doubling(size // 2))
        self.bias = plain.conv2.bias

    def forward(self, x: Tensor, size: int) -> Tensor:
        """As `Enlarge.forward`."""
        return self.mask(self.conv1(self.matrix @ x @ self.matrix.T).relu()) + self.bias
