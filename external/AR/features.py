"""What Alpha-Refine sees of a crop: the maps of a backbone at several strides."""

from collections.abc import Sequence

from easydict import EasyDict
from torch import Tensor, nn

from lib.config import ConfigError, option
from lib.models.efficientnet_lite import STAGES, EfficientNetLite0, convert_names
from lib.models.pretrained import imagenet_state_dict
from lib.models.resnet import DEPTHS, Bottleneck, make_layer
from lib.utils.checkpoint import load_state

# The level whose cells are compared, at this stride.
COMPARED, STRIDE = "layer4", 16


class LearningBottleneck(Bottleneck):
    """A block whose norms are ordinary ones, as published weights have them."""

    norm = nn.BatchNorm2d


class ResNetFeatures(nn.Module):
    """ResNet-50 under torchvision's names; its classifier `fc` is in published weights and is not used.

    `levels` counts on from the stem: layer2 is the output of the module `layer1`, at stride 4, layer5 that of
    `layer4`, at stride 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.levels = {"layer5": 2048, "layer4": 1024, "layer3": 512, "layer2": 256}
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        counts = (*DEPTHS["resnet50"][1], 3)
        inputs = (64, 256, 512, 1024)
        for i, (count, channels) in enumerate(zip(counts, inputs, strict=True)):
            stride = 1 if i == 0 else 2
            setattr(self, f"layer{i + 1}", make_layer(LearningBottleneck, channels, 64 * 2**i, count, stride))
        self.fc = nn.Linear(2048, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, levels: Sequence[str]) -> dict[str, Tensor]:
        """Crops (B, 3, H, W) to the maps of some levels; nothing is computed beyond the last of them."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        found = {}
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
            if f"layer{i + 1}" in levels:
                found[f"layer{i + 1}"] = x
            if len(found) == len(levels):
                break
        return found


class LightFeatures(nn.Module):
    """EfficientNet-Lite0, whose ImageNet weights come as a package: strides 4, 8 and 16, no layer5."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = {"layer4": STAGES[4][-1], "layer3": STAGES[2][-1], "layer2": STAGES[1][-1]}
        self.body = EfficientNetLite0(frozen_norm=True)

    def forward(self, x: Tensor, levels: Sequence[str]) -> dict[str, Tensor]:
        """See `ResNetFeatures.forward`."""
        stages = self.body.stages(x)
        return {level: stages[i] for level, i in (("layer2", 1), ("layer3", 2), ("layer4", 4)) if level in levels}


def build_features(cfg: EasyDict, pretrained: bool) -> nn.Module:
    """The feature extractor of a configuration.

    Args:
        cfg: the effective configuration.
        pretrained: load ImageNet weights (only before training; a checkpoint brings its own).

    Raises:
        UserError: an unknown backbone; ImageNet weights that are wanted and not to be had.
    """
    name = cfg.MODEL.BACKBONE.TYPE
    kinds = {"resnet50": ResNetFeatures, "EfficientNet-Lite0": LightFeatures}
    if name not in kinds:
        raise ConfigError(f"'MODEL.BACKBONE.TYPE' must be one of {', '.join(kinds)} for alpha_refine, not {name}")
    features = kinds[name]()
    if pretrained and option(cfg, "MODEL.BACKBONE.PRETRAINED"):
        weights, target = imagenet_state_dict(name), features
        if name == "EfficientNet-Lite0":
            weights, target = convert_names(weights), features.body
        load_state(target, {key: weights[key] for key in weights if key in target.state_dict()}, f"ImageNet's {name}")
    return features
