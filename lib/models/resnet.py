"""ResNet (He et al., CVPR 2016) up to layer3, under torchvision's names.

torchvision's own module is not used: importing it takes two seconds and 170 MB in every process that tracks.
"""

from torch import Tensor, nn

from lib.config import ConfigError
from lib.models.layers import FrozenBatchNorm2d

# Kind of block, and how many of them layer1, layer2 and layer3 have.
DEPTHS = {
    "resnet18": ("basic", (2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6)),
    "resnet50": ("bottleneck", (3, 4, 6)),
    "resnet101": ("bottleneck", (3, 4, 23)),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; (B, Cin, H, W) to (B, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride, dilation)
        self.bn1 = FrozenBatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3, 1, dilation)
        self.bn2 = FrozenBatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Narrow, convolve, widen; (B, Cin, H, W) to (B, 4 * width, H / stride, W / stride)."""

    expansion = 4
    norm: type[nn.Module] = FrozenBatchNorm2d

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = self.norm(width)
        # The stride is here and not in the first convolution: what published weights were trained with.
        self.conv2 = _conv(width, width, 3, stride, dilation)
        self.bn2 = self.norm(width)
        self.conv3 = _conv(width, 4 * width, 1)
        self.bn3 = self.norm(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, 4 * width, stride, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNetBody(nn.ModuleDict):
    """ResNet up to layer3, with frozen batch norms.

    (B, 3, H, W) to (B, 1024, H / 16, W / 16); 256 channels for ResNet-18/34, stride 8 when dilated.
    """

    def __init__(self, name: str, dilation: bool) -> None:
        kind, (first, second, third) = DEPTHS[name]
        if dilation and kind == "basic":
            raise ConfigError(f"'MODEL.BACKBONE.DILATION' needs bottleneck blocks: resnet50 or resnet101, not {name}")
        block = BasicBlock if kind == "basic" else Bottleneck
        wide = block.expansion
        super().__init__(
            {
                "conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False),
                "bn1": FrozenBatchNorm2d(64),
                "relu": nn.ReLU(inplace=True),
                "maxpool": nn.MaxPool2d(3, 2, 1),
                "layer1": make_layer(block, 64, 64, first),
                "layer2": make_layer(block, 64 * wide, 128, second, stride=2),
                "layer3": make_layer(block, 128 * wide, 256, third, 1 if dilation else 2, 2 if dilation else 1),
            }
        )
        self.channels = 256 * wide
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self["maxpool"](self["relu"](self["bn1"](self["conv1"](x))))
        return self["layer3"](self["layer2"](self["layer1"](x)))


def make_layer(block: type, inputs: int, width: int, count: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Blocks of one width. Dilation replaces the stride; the first block is not dilated."""
    rest = [block(block.expansion * width, width, 1, dilation) for _ in range(count - 1)]
    return nn.Sequential(block(inputs, width, stride), *rest)


def _shortcut(
    inputs: int, outputs: int, stride: int, norm: type[nn.Module] = FrozenBatchNorm2d
) -> nn.Sequential | None:
    """Brings a block's input to the shape of its output; None where the shapes are equal."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, dilation * (size // 2), dilation, bias=False)
