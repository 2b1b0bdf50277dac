"""Alpha-Refine (Yan et al., "Alpha-Refine: Boosting Tracking Performance by Precise Bounding Box Estimation",
CVPR 2021) with its mask branch, as it refined STARK's boxes for VOT2020.

The object is shown once, in a reference crop; each cell of its box becomes a kernel. In every frame the kernels are
compared with the crop about the tracker's box, and a segmentation network turns the scores into a mask.
"""

from easydict import EasyDict
from torch import Tensor, nn

from external.AR.features import COMPARED, STRIDE, build_features
from external.AR.pooling import precise_roi_pool
from external.AR.segmentation import SCORES, SegmentationNetwork
from lib.config import ConfigError
from lib.utils.boxes import xywh_to_xyxy

CELLS = 12  # bins of the reference's box along each side


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


class AlphaRefine(nn.Module):
    """The network; its state dict has the published names.

    Args:
        cfg: the effective configuration of the script `alpha_refine`.
        pretrained: start the backbone from ImageNet weights.

    Raises:
        ConfigError: an unknown backbone, or a crop's size that does not suit the strides.
    """

    def __init__(self, cfg: EasyDict, pretrained: bool = False) -> None:
        super().__init__()
        for region in ("SEARCH", "TEMPLATE"):
            size = cfg.DATA[region].SIZE
            if size % 32:
                raise ConfigError(f"'DATA.{region}.SIZE' ({size}) must be divisible by 32, the largest stride")
        self.feature_extractor = build_features(cfg, pretrained)
        self.neck = Neck()
        self.refiner = SegmentationNetwork(self.feature_extractor.levels)
        self.frozen_norm = cfg.TRAIN.FREEZE_BACKBONE_BN
        for name, parameter in self.feature_extractor.named_parameters():
            parameter.requires_grad_(not name.startswith("fc."))

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
