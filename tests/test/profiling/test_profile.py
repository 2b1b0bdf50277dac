"""Latency and the profiling commands."""

import itertools
import json
import runpy
import sys

import pytest
import torch

from lib.test.profiling import latency, profile
from lib.test.profiling.latency import measure
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY

QUICK = ("stark_lightning_X_trt", "quickstart")


def test_only_the_runs_after_the_warm_up_count(monkeypatch):
    """A clock that the function advances: 1000 s in the warm-up, then 1, 2, ... 101 ms."""
    now, calls = [0.0], itertools.count()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])

    def work():
        call = next(calls)
        now[0] += 1000 if call < 3 else (call - 2) / 1000

    found = measure(work, torch.device("cpu"), runs=101, warmup=3)
    assert next(calls) == 104
    assert (found.median, found.p5, found.p95, found.runs) == (
        pytest.approx(51),
        pytest.approx(6),
        pytest.approx(96),
        101,
    )


def test_the_device_has_finished_when_the_clock_is_read(monkeypatch):
    order = []
    monkeypatch.setattr(latency, "_finish", lambda device: order.append(f"finish {device}"))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: order.append("clock") or 0.0)
    measure(lambda: order.append("work"), torch.device("cpu"), runs=2, warmup=1)
    assert order == ["work", *["finish cpu", "clock", "work", "finish cpu", "clock"] * 2]


def test_command_prints_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    output = tmp_path / "profiles" / "quick.json"
    threads = torch.get_num_threads()
    arguments = ["--config", "quickstart", "--device", "cpu", "--runs", "3", "--warmup", "0", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["profile", *arguments, "--output", str(output)])
    try:
        profile.main("Profile.", *QUICK)
    finally:
        torch.set_num_threads(threads)
    found, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert (found["script"], found["config"]) == QUICK
    assert found["machine"]["threads"] == 1
    assert found["machine"]["device"] == "cpu"
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
    with pytest.raises(UserError, match="exists"):
        profile.main("Profile.", *QUICK)
    assert output.read_bytes() == before


@pytest.mark.parametrize("command", ["profile_model.py", "profile_model_lightning_X_trt.py"])
def test_commands_start(command, monkeypatch, capsys):
    arguments = ["--script", QUICK[0], "--config", QUICK[1], "--device", "cpu", "--runs", "1", "--warmup", "0"]
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(REPOSITORY / "tracking" / command), run_name="__main__")
    assert caught.value.code == 0
    assert "transformer and head" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": 0}, "--runs"),
        ({"warmup": -1}, "--warmup"),
        ({"threads": 0}, "--threads"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"config": "quickstar"}, "did you mean"),
        ({"script": "stark"}, "unknown script"),
    ],
)
def test_command_says_what_is_wrong(changes, message):
    arguments = {"script": QUICK[0], "config": QUICK[1], "device": "cpu", "runs": 1, "warmup": 0}
    arguments |= {"threads": None, "output": None} | changes
    with pytest.raises(UserError, match=message):
        profile.profile_command(**arguments)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/new\.json"):
        profile.profile_command(*QUICK, "cpu", runs=1, warmup=0, threads=None, output=tmp_path / "file" / "new.json")


def test_thop_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "thop", None)
    with pytest.raises(UserError, match="pip install thop"):
        profile.profile_network(*QUICK, device="cpu", runs=1, warmup=0)
