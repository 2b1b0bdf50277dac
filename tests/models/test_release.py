"""Weights to give away: the mean of checkpoints, and where trackers find them."""

import subprocess
import sys

import pytest
import torch

from lib.config import load_config
from lib.models import build_model, release_checkpoint
from lib.test import tracker as trackers
from lib.test.tracker import shipped_weights, weights_path
from lib.utils.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lib.utils.workspace import REPOSITORY
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


def test_the_mean_is_written_without_what_training_needs(run, tmp_path):
    output = tmp_path / "new" / "weights.pth.tar"
    release_checkpoint(SCRIPT, "quickstart", run, output)
    content = torch.load(output, weights_only=True)
    assert content.keys() == {"net", "net_type"}
    first = load_checkpoint(run[0])["net"]
    learned = [name for name, value in first.items() if value.is_floating_point()]
    assert len(learned) > 50
    assert all(torch.allclose(content["net"][name], 1.5 * first[name]) for name in learned)


def test_nothing_is_written_over_a_file_or_for_another_network(run, tmp_path):
    output = tmp_path / "weights.pth.tar"
    with pytest.raises(CheckpointError, match=r"1\.pth\.tar does not fit the model"):
        release_checkpoint(SCRIPT, "baseline_rephead_4_lite_search5", run, output)
    output.write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="exists: move it away"):
        release_checkpoint(SCRIPT, "quickstart", run, output)
    assert output.read_bytes() == b"mine"


def test_weights_beside_a_configuration_serve_until_there_are_own_ones(run, tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    config = tmp_path / "mine.yaml"
    config.write_text((REPOSITORY / "experiments" / SCRIPT / "quickstart.yaml").read_text())
    with pytest.raises(CheckpointError, match="train first"):
        weights_path(SCRIPT, str(config))
    shipped = shipped_weights(SCRIPT, str(config))
    release_checkpoint(SCRIPT, str(config), run, shipped)
    assert weights_path(SCRIPT, str(config)) == shipped == tmp_path / "mine.pth.tar"
    own = tmp_path / "checkpoints" / "train" / SCRIPT / "mine" / "STARKLightningXtrt_ep0001.pth.tar"
    own.parent.mkdir(parents=True)
    save_checkpoint(own, load_checkpoint(shipped))
    assert weights_path(SCRIPT, str(config)) == own
    assert weights_path(SCRIPT, str(config), "given.pth.tar").name == "given.pth.tar"


def test_the_command(run, tmp_path):
    command = [sys.executable, str(REPOSITORY / "tracking" / "release_checkpoint.py"), "--script", SCRIPT]
    files = ["--checkpoints", *map(str, run), "--output", str(tmp_path / "w.pth.tar")]
    done = subprocess.run([*command, "--config", "quickstart", *files], capture_output=True, text=True, check=True)
    assert "the mean of 2 checkpoints" in done.stdout
    assert trackers.load_network(SCRIPT, load_config(SCRIPT, "quickstart"), tmp_path / "w.pth.tar")
