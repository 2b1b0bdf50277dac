"""The commands that export a graph and compare it."""

import copy

import pytest

from lib.test.profiling import onnx_check
from lib.test.profiling.onnx_check import check_graph
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from tests.golden_cases import VARIANTS, reference_model

SCRIPT, CONFIG, _ = VARIANTS["stark_lightning"]
COMMANDS = {
    "ORT_lightning_X_trt_backbone_bottleneck_pe.py": "backbone_bottleneck_pe.onnx",
    "ORT_lightning_X_trt_complete.py": "complete.onnx",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.pth.tar"
    save_checkpoint(path, {"net": reference_model("stark_lightning").state_dict()})
    return str(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_export_and_agree(checkpoint, tmp_path, run_script, capsys, command):
    arguments = ["--checkpoint", checkpoint, "--runs", "2", "--output", str(tmp_path)]
    assert run_script(command, *arguments) == 0
    printed = capsys.readouterr().out
    assert "largest difference" in printed
    assert "onnxruntime" in printed
    assert [file.name for file in tmp_path.iterdir()] == [COMMANDS[command]]
    assert run_script(command, *arguments) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err
    if command != "ORT_lightning_X_trt_complete.py":  # the slower one
        assert run_script(command, *arguments, "--overwrite") == 0


def test_without_output_the_graph_goes_where_the_tracker_looks(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    assert check_graph("template", SCRIPT, CONFIG, checkpoint, runs=1) == 0
    (path,) = (tmp_path / "checkpoints" / "onnx" / SCRIPT / CONFIG).glob("*/backbone_bottleneck_pe.onnx")
    assert check_graph("template", SCRIPT, CONFIG, checkpoint, runs=1) == 0
    assert f"{path} holds these weights already" in capsys.readouterr().out


@pytest.mark.parametrize(("part", "factor"), [("template", 1.01), ("search", 1.01), ("template", float("nan"))])
def test_another_network_is_noticed(checkpoint, tmp_path, monkeypatch, part, factor):
    """A graph of slightly other weights does not pass for the same, nor do numbers that are none."""
    export = onnx_check.export_published

    def export_another(part, model, cfg, path):
        another = copy.deepcopy(model)
        another.bottleneck.weight.data *= factor
        export(part, another, cfg, path)

    monkeypatch.setattr(onnx_check, "export_published", export_another)
    assert check_graph(part, SCRIPT, CONFIG, checkpoint, tmp_path, runs=1) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": 0}, "--runs"),
        ({"script": "stark_st1"}, "no tracker runs"),
        ({"config": "nothing"}, "no configuration"),
        ({"checkpoint": "nowhere.pth.tar"}, "nowhere"),
    ],
)
def test_mistakes_are_said(changes, message):
    with pytest.raises(UserError, match=message):
        check_graph(**({"part": "search", "script": SCRIPT, "config": CONFIG} | changes))
