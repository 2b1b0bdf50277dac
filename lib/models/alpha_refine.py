"""Alpha-Refine (Yan et al., "Alpha-Refine: Boosting Tracking Performance by Precise Bounding Box Estimation",
CVPR 2021) with its mask branch, as it refined STARK's boxes for VOT2020.

The object is shown once, in a reference crop; each cell of its box becomes a kernel. In every frame the kernels are
compared with the crop about the tracker's box, and a segmentation network turns the scores into a mask.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from ..config import ConfigError, option
from ..config.options import REFINE
from ..utils.tensors import xywh_to_xyxy
from .backbone import STAGES, EfficientNetLite0, init_convolutions, load_imagenet, resnet_layers

CELLS = 12  # bins of the reference's box along each side
# The level whose cells are compared, at this stride.
COMPARED, STRIDE = "layer4", 16
SCORES, WIDTH = CELLS**2, 64  # channels: a score for each cell of the reference's box; of the segmentation network


class ResNetFeatures(nn.ModuleDict):
    """ResNet-50 with ordinary norms; its classifier `fc` is in published weights and is not used.

    `levels` counts on from the stem: layer2 is the output of the module `layer1`, at stride 4.
    """

    levels: ClassVar = {"layer5": 2048, "layer4": 1024, "layer3": 512, "layer2": 256}

    def __init__(self) -> None:
        super().__init__(resnet_layers("resnet50", 4, nn.BatchNorm2d) | {"fc": nn.Linear(2048, 1000)})
        init_convolutions(self)
        self["fc"].requires_grad_(False)

    def forward(self, x: Tensor, levels: Sequence[str]) -> dict[str, Tensor]:
        """Crops (B, 3, H, W) to the maps of some levels; nothing is computed beyond the last of them."""
        x = self["maxpool"](self["relu"](self["bn1"](self["conv1"](x))))
        found = {}
        for i in range(1, max(int(level[-1]) for level in levels)):
            x = self[f"layer{i}"](x)
            if f"layer{i + 1}" in levels:
                found[f"layer{i + 1}"] = x
        return found


class LightFeatures(nn.Module):
    """EfficientNet-Lite0, whose ImageNet weights come as a package: strides 4, 8 and 16, no layer5."""

    levels: ClassVar = {"layer4": STAGES[4][-1], "layer3": STAGES[2][-1], "layer2": STAGES[1][-1]}

    def __init__(self) -> None:
        super().__init__()
        self.body = EfficientNetLite0(frozen_norm=True)

    def forward(self, x: Tensor, levels: Sequence[str]) -> dict[str, Tensor]:
        stages = self.body.stages(x)
        return {level: stages[i] for level, i in (("layer2", 1), ("layer3", 2), ("layer4", 4)) if level in levels}


FEATURES = {"resnet50": ResNetFeatures, "EfficientNet-Lite0": LightFeatures}


class SqueezeAndExcitation(nn.Module):
    """Channels weighed by what all of the map shows (Hu et al., CVPR 2018); (B, C, h, w) to the same."""

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // ratio, 1)
        self.fc2 = nn.Conv2d(channels // ratio, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * weights.sigmoid()


class NonLocal(nn.Module):
    """Attention over the map, keys and values at half its size (Wang et al., CVPR 2018); (B, C, h, w) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.g = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.MaxPool2d(2))
        self.W = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels))
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.MaxPool2d(2))
        # At the start the block changes nothing.
        nn.init.zeros_(self.W[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.theta(x).flatten(2), self.phi(x).flatten(2), self.g(x).flatten(2)  # (B, C / 2, L)
        weights = (query.transpose(1, 2) @ key).softmax(dim=-1)  # (B, h * w, h * w / 4)
        return x + self.W((value @ weights.transpose(1, 2)).unflatten(2, x.shape[-2:]))


class Neck(nn.Module):
    """Compares the reference's cells with a map, and weighs the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.channel_attention = SqueezeAndExcitation(SCORES)
        self.spatial_attention = NonLocal(SCORES)

    def forward(self, kernels: Tensor, feature: Tensor) -> Tensor:
        """Kernels (B, 144, C) and a map (B, C, h, w) to scores (B, 144, h, w): pixel-wise correlation, attention."""
        scores = (kernels @ feature.flatten(2)).unflatten(2, feature.shape[-2:])
        return self.spatial_attention(self.channel_attention(scores))


# The blocks of the segmentation network are those of Robinson et al., "Learning Fast and Robust Target Models for Video
# Object Segmentation" (CVPR 2020), and carry the names of published weights.


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
    """Scores and features of several levels to the mask; `channels` are those of the features, the deepest first.

    In each level scores join features (TSE), and channels are weighed by what the deeper level found (CAB).
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.TSE = nn.ModuleDict({level: ScoresAndFeatures(count) for level, count in channels.items()})
        self.RRB1 = nn.ModuleDict({level: Residual() for level in channels})
        self.CAB = nn.ModuleDict({level: ChannelAttention() for level in channels})
        self.RRB2 = nn.ModuleDict({level: Residual() for level in channels})
        self.project = Enlarge()

    def forward(self, scores: Tensor, features: Mapping[str, Tensor], size: int) -> Tensor:
        """Scores (B, 144, h, w) and features by level, (B, C, h', w') each, to the mask's logits (B, 1, size, size)."""
        found = None
        for level in self.TSE:
            mixed, reduced = self.TSE[level](features[level], scores)
            # Below the deepest level there is none: its features' means stand in.
            deeper = reduced.mean((2, 3), keepdim=True) if found is None else found
            found = self.RRB2[level](self.CAB[level](deeper, self.RRB1[level](mixed)))
        return self.project(found, size)


class AlphaRefine(nn.Module):
    """The network; its state dict has the published names. `pretrained` starts its backbone from ImageNet weights."""

    def __init__(self, cfg: EasyDict, pretrained: bool = False) -> None:
        super().__init__()
        for region in ("SEARCH", "TEMPLATE"):
            size = cfg.DATA[region].SIZE
            if size % 32:
                raise ConfigError(f"'DATA.{region}.SIZE' ({size}) must be divisible by 32, the largest stride")
        name = cfg.MODEL.BACKBONE.TYPE
        if name not in FEATURES:
            raise ConfigError(f"'MODEL.BACKBONE.TYPE' must be one of {', '.join(FEATURES)} for {REFINE}, not {name}")
        self.feature_extractor = FEATURES[name]()
        if pretrained and option(cfg, "MODEL.BACKBONE.PRETRAINED"):
            load_imagenet(getattr(self.feature_extractor, "body", self.feature_extractor), name)
        self.neck = Neck()
        self.refiner = SegmentationNetwork(self.feature_extractor.levels)
        self.frozen_norm = cfg.TRAIN.FREEZE_BACKBONE_BN

    def train(self, mode: bool = True) -> "AlphaRefine":
        """As usual, but that the backbone's norms keep ImageNet's statistics where the configuration says so."""
        super().train(mode)
        if mode and self.frozen_norm:
            for module in self.feature_extractor.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def encode_reference(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Kernels of the object: crops (B, 3, S, S) and boxes (B, 4) xywh in their pixels to (B, 144, C)."""
        feature = self.feature_extractor(image, [COMPARED])[COMPARED]
        return precise_roi_pool(feature, xywh_to_xyxy(boxes), CELLS, 1 / STRIDE).flatten(2).transpose(1, 2)

    def segment(self, kernels: Tensor, image: Tensor) -> Tensor:
        """The mask's logits (B, 1, S, S) in crops (B, 3, S, S), given what `encode_reference` made of the object."""
        features = self.feature_extractor(image, list(self.feature_extractor.levels))
        scores = self.neck(kernels, features[COMPARED])
        return self.refiner(scores, features, image.shape[-1])

    def forward(self, reference: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
        """Logits (B, 1, S, S) of the object's mask in `image`; arguments as of the two halves."""
        return self.segment(self.encode_reference(reference, boxes), image)


def precise_roi_pool(features: Tensor, boxes: Tensor, cells: int, scale: float) -> Tensor:
    """The mean of the interpolated features over each of `cells` x `cells` bins of a box, a box an image.

    Features (B, C, H, W), whose cells' centres are at whole coordinates and of which `scale` lie in a pixel, and boxes
    (B, 4) xyxy in pixels to (B, C, cells, cells); zeros where a box has no area.
    """
    x1, y1, x2, y2 = (boxes * scale).unbind(-1)
    rows = mean_of_hats(y1, y2, cells, features.shape[-2])  # (B, cells, H)
    columns = mean_of_hats(x1, x2, cells, features.shape[-1])  # (B, cells, W)
    # Integrals are sums of differences of nearly equal numbers: in single precision, whatever the features are in.
    with torch.autocast(features.device.type, enabled=False):
        return rows[:, None] @ features.to(rows.dtype) @ columns[:, None].transpose(-1, -2)


def mean_of_hats(start: Tensor, end: Tensor, bins: int, size: int) -> Tensor:
    """The means of the `size` hat functions max(0, 1 - |t - i|) over equal bins of the intervals from start to end.

    Start and end (B,), in cells, to (B, bins, size); zeros where the end is not beyond the start.
    """
    steps = torch.arange(bins + 1, device=start.device, dtype=start.dtype) / bins
    edges = start[:, None] + (end - start)[:, None] * steps  # (B, bins + 1)
    centres = torch.arange(size, device=start.device, dtype=start.dtype)
    t = (edges[..., None] - centres).clamp(-1, 1)
    integral = t - t * t.abs() / 2  # of a hat from its middle to t
    length = (end - start)[:, None, None] / bins
    has_area = length > 0
    return torch.where(has_area, (integral[:, 1:] - integral[:, :-1]) / torch.where(has_area, length, 1.0), 0.0)


def resize(x: Tensor, size: int) -> Tensor:
    """A square map (B, C, h, h) bilinearly at another size."""
    return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


def double(x: Tensor) -> Tensor:
    """A square map (B, C, h, h) at twice the size, bicubic.

    As two matrix products: onnxruntime takes 0.7 s for a frame's bicubic resizing.
    """
    side = int(x.shape[-1])
    matrix = F.interpolate(torch.eye(side, device=x.device)[None, None], (2 * side, side), mode="bicubic")[0, 0]
    return matrix.to(x.dtype) @ x @ matrix.T.to(x.dtype)


def _conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)
