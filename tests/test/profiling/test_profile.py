"""Operations, parameters and latency, and the commands `tracking/profile_model*.py`."""

import itertools
import json
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.config import load_config
from lib.models import build_model
from lib.models.inference import fold_repvgg
from lib.test.profiling import profile
from lib.test.profiling.profile import BACKBONE, TEMPLATE, TRANSFORMER, WHOLE, count_macs, network_costs, network_parts

LIGHTNING = "stark_lightning_X_trt"
QUICK = ["--script", LIGHTNING, "--config", "quickstart", "--device", "cpu", "--runs", "3", "--warmup", "0"]


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
    model = build_model(script, cfg)
    before = set(model.state_dict())
    costs = network_costs(model, cfg)
    assert costs[BACKBONE]["macs"] == pytest.approx(backbone * 1e9, rel=1e-3)
    assert costs[TRANSFORMER]["macs"] == pytest.approx(transformer * 1e9, rel=1e-3)
    assert costs[WHOLE]["parameters"] == pytest.approx(parameters * 1e6, abs=5e3)
    for count in ("macs", "parameters"):
        assert costs[WHOLE][count] == costs[BACKBONE][count] + costs[TRANSFORMER][count]
    assert set(model.state_dict()) == before


def test_folding_leaves_lightnings_published_size():
    cfg = load_config(LIGHTNING, "baseline_rephead_4_lite_search5")
    model = build_model(LIGHTNING, cfg)
    unfolded = network_costs(model, cfg)[WHOLE]
    folded = network_costs(fold_repvgg(model), cfg)[WHOLE]
    assert (unfolded["parameters"], folded["parameters"]) == (2349986, 2151202)
    assert folded["macs"] < unfolded["macs"]


@pytest.mark.parametrize("config", ["quickstart", "baseline_rephead_4_lite_search5"])
def test_backbones_count_as_pytorch_counts_them(config):
    """Convolutions that a module calls as functions are counted, too."""
    cfg = load_config(LIGHTNING, config, ["MODEL.BACKBONE.DTYPE=fp32"])
    model = fold_repvgg(build_model(LIGHTNING, cfg)).eval()
    part, inputs = network_parts(model, cfg)[TEMPLATE]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        part(*inputs)
    # At stride 2 EfficientNet computes a row and a column more than it uses.
    assert counter.get_total_flops() / 2 == pytest.approx(count_macs(part, inputs), rel=0.02)


def test_only_the_runs_after_the_warm_up_count(monkeypatch):
    """A clock that the function advances: 1000 s in the warm-up, then 1, 2, ... 101 ms."""
    now, calls = [0.0], itertools.count()
    monkeypatch.setattr(profile.time, "perf_counter", lambda: now[0])

    def work():
        call = next(calls)
        now[0] += 1000 if call < 3 else (call - 2) / 1000

    found = profile.measure(work, torch.device("cpu"), runs=101, warmup=3)
    assert next(calls) == 104
    assert found == pytest.approx({"median": 51, "p5": 6, "p95": 96, "runs": 101})


def test_the_device_has_finished_when_the_clock_is_read(monkeypatch):
    order = []
    monkeypatch.setattr(profile, "_finish", lambda device: order.append(f"finish {device}"))
    monkeypatch.setattr(profile.time, "perf_counter", lambda: order.append("clock") or 0.0)
    profile.measure(lambda: order.append("work"), torch.device("cpu"), runs=2, warmup=1)
    assert order == ["work", *["finish cpu", "clock", "work", "finish cpu", "clock"] * 2]


@pytest.mark.parametrize("command", ["profile_model.py", "profile_model_lightning_X_trt.py"])
def test_commands_print_a_table_and_write_json(command, tmp_path, run_script, capsys):
    output, threads = tmp_path / "profiles" / "quick.json", torch.get_num_threads()
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
    before = output.read_bytes()
    assert run_script(command, *QUICK, "--output", str(output)) == 2
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "0"], "--runs"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--script", "alpha_refine", "--config", "small"], "not profiled"),
        (["--output", __file__ + "/new.json"], "test_profile.py"),
    ],
)
def test_mistakes_are_named(arguments, message, run_script, capsys):
    assert run_script("profile_model.py", *QUICK, *arguments) == 2
    assert message in capsys.readouterr().err


def test_thop_missing(run_script, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "thop", None)
    assert run_script("profile_model.py", *QUICK) == 2
    assert "pip install thop" in capsys.readouterr().err
