"""ResNet (He et al., CVPR 2016) under torchvision's names.

torchvision's own module is not used: importing it takes two seconds and 170 MB in every process that tracks.
"""

from torch import Tensor, nn

from ..config import ConfigError
from .layers import FrozenBatchNorm2d

Norm = type[nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; (B, Cin, H, W) to (B, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride, dilation)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3, 1, dilation)
        self.bn2 = norm(width)
        self.downsample = _shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Narrow, convolve, widen; (B, Cin, H, W) to (B, 4 * width, H / stride, W / stride)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = norm(width)
        # The stride is here and not in the first convolution: what published weights were trained with.
        self.conv2 = _conv(width, width, 3, stride, dilation)
        self.bn2 = norm(width)
        self.conv3 = _conv(width, 4 * width, 1)
        self.bn3 = norm(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, 4 * width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


# Kind of block, and how many of them each layer has.
DEPTHS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNetBody(nn.ModuleDict):
    """ResNet up to layer3, with frozen batch norms.

    (B, 3, H, W) to (B, 1024, H / 16, W / 16); 256 channels for ResNet-18/34, stride 8 when dilated.
    """

    def __init__(self, name: str, dilation: bool) -> None:
        block = DEPTHS[name][0]
        if dilation and block is BasicBlock:
            raise ConfigError(f"'MODEL.BACKBONE.DILATION' needs bottleneck blocks: resnet50 or resnet101, not {name}")
        super().__init__(resnet_layers(name, 3, FrozenBatchNorm2d, dilation))
        self.channels = 256 * block.expansion
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = layer(x)
        return x


def resnet_layers(name: str, count: int, norm: Norm, dilation: bool = False) -> dict[str, nn.Module]:
    """A ResNet's modules by name, in order, up to its `count`-th layer; dilation replaces layer3's stride."""
    modules: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        "bn1": norm(64),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, 2, 1),
    }
    (block, depths), inputs = DEPTHS[name], 64
    for i, depth in enumerate(depths[:count]):
        dilated, width = dilation and i == 2, 64 * 2**i
        blocks = [block(inputs, width, 1 if i == 0 or dilated else 2, 1, norm)]
        inputs = width * block.expansion
        blocks += [block(inputs, width, 1, 2 if dilated else 1, norm) for _ in range(depth - 1)]
        modules[f"layer{i + 1}"] = nn.Sequential(*blocks)
    return modules


def init_convolutions(body: nn.Module) -> None:
    """Random values as torchvision's."""
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Sequential | None:
    """Brings a block's input to the shape of its output; None where the shapes are equal."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, dilation * (size // 2), dilation, bias=False)
