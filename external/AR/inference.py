"""Alpha-Refine rewritten for tracking: the same function with fewer operations.

At the shallow levels the scores are enlarged, and a convolution mixes their channels; at the end a map is doubled and a
convolution makes one channel of it. Both steps are linear, so the channels are mixed first, where maps are small, once
for each of the kernel's nine cells; then all is shifted, enlarged and added up in two matrix products.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from external.AR.features import STRIDE
from external.AR.network import AlphaRefine
from external.AR.segmentation import WIDTH, Enlarge, ScoresAndFeatures, doubling
from lib.models.inference import prepare_for_tracking


@torch.no_grad()
def prepare_for_masks(model: AlphaRefine, size: int) -> AlphaRefine:
    """Rewrite a network in place, and set it to evaluation; gives it back.

    Its outputs stay the same to rounding. It cannot be trained, nor its state dict be loaded, afterwards.

    Args:
        model: with its weights.
        size: of the crops in which it finds masks, as configured.
    """
    prepare_for_tracking(model)
    for level, stride in (("layer3", 8), ("layer2", 4)):
        model.refiner.TSE[level] = MixedFirst(model.refiner.TSE[level], size // STRIDE, size // stride)
    model.refiner.project = MaskFirst(model.refiner.project, size)
    return model


class ConvolvedEnlargement(nn.Module):
    """A convolution of 3x3 cells over an enlarged square map.

    (B, C, h, h) to (B, Cout, H, H), without the convolution's bias.

    Args:
        weight: (Cout, C, 3, 3).
        matrix: (H, h), enlarges one side.
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
