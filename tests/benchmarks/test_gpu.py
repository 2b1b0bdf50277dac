"""The benchmark of a GPU, tried on the CPU: its parts, and what comes of those that fail or take too long."""

import json

import pytest

from benchmarks import gpu
from lib.utils.errors import UserError


def test_tests_for_a_gpu_pass_on_the_cpu():
    *_, last = gpu.tests("cpu", small=True)
    assert last["status"] == 0
    assert "1 passed" in last["result"]


def test_what_fails_is_noted_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(gpu, "SMALL", "stark_lightning_X_trt:nonsense")
    rows = list(gpu.training("cpu", small=True))
    assert [row["way"] for row in rows] == ["fp32", "bf16"]
    assert all(row["error"].startswith("ConfigError: ") for row in rows)


def test_a_part_that_takes_too_long_is_stopped_and_the_others_are_saved(monkeypatch, tmp_path):
    parts = {"loader": (gpu.load, 0.5), "tracking": gpu.PARTS["tracking"]}
    monkeypatch.setattr(gpu, "PARTS", parts)
    output = tmp_path / "gpu.json"
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cpu", "--small", "--output", str(output)])
    gpu.main()
    late, *tracked = json.loads(output.read_text())["rows"]
    assert late == {"part": "loader", "error": "stopped after its 0.5 seconds"}
    assert [row["way"] for row in tracked] == ["torch:fp32", "onnx:fp32"]
    assert all(row["frames/s"] == pytest.approx(1e3 / row["ms"]) for row in tracked)


def test_the_device_must_exist(monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cuda:99"])
    with pytest.raises(UserError, match="cuda:99"):
        gpu.main()
