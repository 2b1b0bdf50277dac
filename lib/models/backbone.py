"""Backbones at stride 16 and which of their layers learn."""

from collections.abc import Sequence

import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import ConfigError, option
from lib.models.efficientnet_lite import EfficientNetLite0, convert_names
from lib.models.pretrained import imagenet_state_dict
from lib.models.repvgg import RepVGGA0
from lib.models.resnet import DEPTHS, ResNetBody
from lib.utils.checkpoint import load_state


class Backbone(nn.Module):
    """A feature extractor, the layers of it that learn, and the arithmetic it runs in.

    (B, 3, H, W) to (B, `channels`, H / `stride`, W / `stride`).
    """

    def __init__(self, body: nn.Module, trained: Sequence[str], stride: int = 16, dtype: str = "fp32") -> None:
        super().__init__()
        self.body = body
        self.channels, self.stride, self.dtype = body.channels, stride, dtype
        # Whether a sample's features are its own, whatever else is in the batch, in training, too.
        self.by_sample = not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(any(name == layer or name.startswith(layer + ".") for layer in trained))

    def forward(self, x: Tensor) -> Tensor:
        if self.dtype == "bf16" or (self.dtype == "auto" and has_fast_bf16(x.device)):
            with torch.autocast(x.device.type, torch.bfloat16):
                return self.body(x).to(x.dtype)
        return self.body(x)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 matrices in hardware; emulated bf16 is slower than fp32."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def build_backbone(cfg: EasyDict, pretrained: bool) -> Backbone:
    """The backbone of a configuration.

    Args:
        cfg: the effective configuration.
        pretrained: load ImageNet weights (only before training; a checkpoint brings its own).

    Raises:
        UserError: ImageNet weights are wanted and not to be had; the message says where to put the file.
    """
    options = cfg.MODEL.BACKBONE
    name, frozen_norm = options.TYPE, cfg.TRAIN.FREEZE_BACKBONE_BN
    trained = cfg.TRAIN.get("BACKBONE_TRAINED_LAYERS")
    stride = 16
    if name in DEPTHS:
        if not frozen_norm:
            raise ConfigError("'TRAIN.FREEZE_BACKBONE_BN' must be true with a ResNet: its batch norms are frozen ones")
        body = ResNetBody(name, options.DILATION)
        stride = 8 if options.DILATION else 16
        frozen = cfg.TRAIN.get("FREEZE_LAYERS", ["conv1", "layer1"])
        if trained is None:
            trained = [layer for layer in ("conv1", "layer1", "layer2", "layer3") if layer not in frozen]
    elif name == "RepVGG-A0":
        body = RepVGGA0(options.get("LAST_STAGE_BLOCK", 14), frozen_norm)
    else:
        body = EfficientNetLite0(frozen_norm)
    if options.DILATION and name not in DEPTHS:
        raise ConfigError(f"'MODEL.BACKBONE.DILATION' is for ResNets, not {name}")
    _check_output(options, body, stride)
    _check_layers(body, cfg.TRAIN.get("FREEZE_LAYERS", []), "FREEZE_LAYERS")
    if trained is None:
        trained = [child for child, _ in body.named_children()]
    _check_layers(body, trained, "BACKBONE_TRAINED_LAYERS")
    if pretrained and option(cfg, "MODEL.BACKBONE.PRETRAINED"):
        _load_imagenet(body, name)
    return Backbone(body, trained, stride, option(cfg, "MODEL.BACKBONE.DTYPE"))


def _check_output(options: EasyDict, body: nn.Module, stride: int) -> None:
    """The features are the last layer's, at its stride; a configuration that says otherwise is not obeyed in part."""
    last = list(dict(body.named_children()))[-1]
    if options.OUTPUT_LAYERS != [last]:
        raise ConfigError(f"'MODEL.BACKBONE.OUTPUT_LAYERS' must be [{last}] with {options.TYPE}")
    if options.get("STRIDE", stride) != stride:
        raise ConfigError(f"'MODEL.BACKBONE.STRIDE' must be {stride} with {options.TYPE}, DILATION {options.DILATION}")


def _check_layers(body: nn.Module, layers: Sequence[str], key: str) -> None:
    """A misspelled layer would silently learn, or stay as it is."""
    names = [name for name, _ in body.named_modules() if name]
    for layer in layers:
        if layer not in names:
            valid = ", ".join(name for name in names if "." not in name)
            raise ConfigError(f"'TRAIN.{key}' names '{layer}', but the backbone has {valid}")


def _load_imagenet(body: nn.Module, name: str) -> None:
    """Load ImageNet weights; only entries of layers that were cut off may be left over."""
    weights = imagenet_state_dict(name)
    if name == "EfficientNet-Lite0":
        weights = convert_names(weights)
    wanted = body.state_dict()
    kept = {key: value for key, value in weights.items() if key in wanted}
    load_state(body, kept, f"ImageNet weights of {name}")
