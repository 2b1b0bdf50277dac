"""The commands that profile networks, and those that export a graph and compare it."""

import copy
import json
import sys

import pytest
import torch

from lib.config import load_config
from lib.models import build_model
from lib.models.inference import fold_repvgg
from lib.test import profiling
from lib.test.profiling import check_graph, network_costs
from lib.test.tracker.export import export
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from tests.golden_cases import VARIANTS, reference_model

LIGHTNING, CONFIG, _ = VARIANTS["stark_lightning"]
QUICK = ["--script", LIGHTNING, "--config", "quickstart", "--device", "cpu", "--runs", "3", "--warmup", "0"]
COMMANDS = {
    "ORT_lightning_X_trt_backbone_bottleneck_pe.py": "backbone_bottleneck_pe.onnx",
    "ORT_lightning_X_trt_complete.py": "complete.onnx",
}


@pytest.mark.parametrize(
    ("script", "config", "backbone", "transformer", "parameters"),
    [
        ("stark_s", "baseline", 6.794, 5.291, 28.10),
        ("stark_st2", "baseline", 6.794, 6.016, 28.23),
        ("stark_st2", "baseline_R101", 14.370, 6.016, 47.17),
    ],
)
def test_published_figures(script, config, backbone, transformer, parameters):
    cfg = load_config(script, config)
    costs = network_costs(build_model(script, cfg), cfg)
    assert costs[profiling.BACKBONE]["macs"] == pytest.approx(backbone * 1e9, rel=1e-3)
    assert costs[profiling.TRANSFORMER]["macs"] == pytest.approx(transformer * 1e9, rel=1e-3)
    assert costs[profiling.WHOLE]["parameters"] == pytest.approx(parameters * 1e6, abs=5e3)


def test_folding_leaves_lightnings_published_size():
    cfg = load_config(LIGHTNING, CONFIG)
    model = build_model(LIGHTNING, cfg)
    assert network_costs(model, cfg)[profiling.WHOLE]["parameters"] == 2349986
    assert network_costs(fold_repvgg(model), cfg)[profiling.WHOLE]["parameters"] == 2151202


def test_commands_print_a_table_and_write_json(tmp_path, run_script, capsys):
    output, threads = tmp_path / "profiles" / "quick.json", torch.get_num_threads()
    command = "profile_model_lightning_X_trt.py"
    try:
        assert run_script(command, *QUICK, "--threads", "1", "--output", str(output)) == 0
    finally:
        torch.set_num_threads(threads)
    found, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert (found["script"], found["config"]) == (LIGHTNING, "quickstart")
    assert (found["machine"]["threads"], found["machine"]["device"]) == (1, "cpu")
    assert list(found["parts"]) == ["backbone", "transformer_and_head", "whole", "template"]
    for name, part in found["parts"].items():
        times = part["latency_ms"]
        assert times["runs"] == 3
        assert 0 < times["p5"] <= times["median"] <= times["p95"]
        row = next(line for line in printed.splitlines() if line.startswith(name.replace("_", " ")))
        assert f"{part['macs'] / 1e9:.3f}" in row
        assert f"{times['median']:.2f}" in row
    assert found["trained_parameters"] > found["parts"]["whole"]["parameters"]
    assert str(found["machine"]["processor"]) in printed
    assert run_script(command, *QUICK, "--output", str(output)) == 2  # it exists


def test_only_the_runs_after_the_warm_up_count_and_the_device_has_finished_when_the_clock_is_read(monkeypatch):
    """A clock that the function advances: 1000 s in the warm-up, then 1, 2, ... 101 ms."""
    now, order = [0.0], []
    monkeypatch.setattr(profiling, "_finish", lambda device: order.append(f"finish {device}"))
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: order.append("clock") or now[0])

    def work():
        now[0] += 1000 if len(order) < 3 else (order.count("work") - 2) / 1000
        order.append("work")

    found = profiling.measure(work, torch.device("cpu"), runs=101, warmup=3)
    assert order == ["work"] * 3 + ["finish cpu", "clock", "work", "finish cpu", "clock"] * 101
    assert found == pytest.approx({"median": 51, "p5": 6, "p95": 96, "runs": 101})


def test_networks_that_cannot_be_profiled_are_named(run_script, capsys, monkeypatch):
    for arguments, message in (
        (["--runs", "0"], "--runs"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--script", "alpha_refine", "--config", "small"], "not profiled"),
    ):
        assert run_script("profile_model.py", *QUICK, *arguments) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "thop", None)
    assert run_script("profile_model.py", *QUICK) == 2
    assert "pip install thop" in capsys.readouterr().err


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.pth.tar"
    save_checkpoint(path, {"net": reference_model("stark_lightning").state_dict()})
    return str(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_export_and_agree(checkpoint, tmp_path, run_script, capsys, command):
    arguments = ["--checkpoint", checkpoint, "--runs", "2", "--output", str(tmp_path)]
    assert run_script(command, *arguments) == 0
    assert "largest difference" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == [COMMANDS[command]]
    assert run_script(command, *arguments) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(("part", "factor"), [("search", 1.01), ("template", float("nan"))])
def test_another_network_is_noticed(checkpoint, tmp_path, monkeypatch, part, factor):
    """A graph of slightly other weights does not pass for the same, nor do numbers that are none."""
    published = profiling.export_published

    def export_another(part, model, cfg, path):
        another = copy.deepcopy(model)
        another.bottleneck.weight.data *= factor
        published(part, another, cfg, path)

    monkeypatch.setattr(profiling, "export_published", export_another)
    assert check_graph(part, LIGHTNING, CONFIG, checkpoint, tmp_path, runs=1) == 1


def test_graphs_that_cannot_be_checked_or_exported_are_said():
    for command, given, message in (
        (check_graph, ("search", LIGHTNING, CONFIG, None, None, False, "cpu", 0), "--runs"),
        (check_graph, ("search", "stark_st1", CONFIG), "no tracker runs networks of 'stark_st1'"),
        (export, ("stark_st1", "baseline"), "no tracker runs networks of 'stark_st1'"),
        (export, (LIGHTNING, "mini", None, "onnx", "bf16"), "onnx does not compute in bf16"),
    ):
        with pytest.raises(UserError, match=message):
            command(*given)
