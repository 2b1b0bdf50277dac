"""Backbones at stride 16 and which of their layers learn."""

from collections.abc import Sequence

import torch
from easydict import EasyDict
from torch import Tensor, nn

from ..config import ConfigError, option
from .efficientnet_lite import EfficientNetLite0
from .layers import RepVGGBlock
from .pretrained import load_imagenet
from .resnet import DEPTHS, ResNetBody


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


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device has hardware for bf16 products; emulated bf16 is slower than fp32."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def build_backbone(cfg: EasyDict, pretrained: bool) -> Backbone:
    """The backbone of a configuration; `pretrained` loads ImageNet weights (a checkpoint brings its own).

    Raises:
        ConfigError: options that contradict each other, or that name layers that the backbone lacks.
        UserError: ImageNet weights are wanted and missing; the message says where to put the file.
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
