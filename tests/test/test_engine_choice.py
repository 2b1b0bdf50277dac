"""Which engine computes, with what it needs, and what it does without."""

import os
import subprocess
import sys
from pathlib import Path

import openvino
import pytest

from lib.test.tracker import create_tracker, engines, shipped_graphs
from lib.test.tracker.engines import choose_engine, engine_device, graphs
from lib.test.tracker.engines.openvino import open_graph, read_model, save_model
from lib.test.tracker.export import calibrate
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY

SCRIPT = "stark_lightning_X_trt"


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("onnxruntime", lambda _: create_tracker(SCRIPT, "mini", engine="onnx")),
        ("openvino", lambda _: create_tracker(SCRIPT, "mini", engine="openvino")),
        ("tensorrt", lambda folder: graphs.open_graph(folder / "search.onnx", "cuda", tensorrt="fp16")),
        ("nncf", lambda folder: calibrate(folder, None, [])),
    ],
)
def test_a_package_is_missing(package, use, monkeypatch, place):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        use(place)


def test_compiling_needs_a_compiler(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="C\\+\\+ compiler"):
        create_tracker(SCRIPT, "mini", device="cpu", engine="compile")


def test_auto_is_the_fastest_that_is_installed_and_says_so(place, monkeypatch, capsys):
    tracker = create_tracker(SCRIPT, "mini", device="cpu", engine="auto")
    assert tracker.engine.name == "openvino fp32"
    assert "engine: openvino fp32" in capsys.readouterr().out
    monkeypatch.setattr(engines, "installed", lambda: ["torch", "onnx"])
    assert choose_engine("auto", "cpu", "fp32") == "onnx"
    assert choose_engine("auto", "cpu", "bf16") == "torch"
    with monkeypatch.context() as patch:
        patch.setattr(engines, "_selected", lambda _: "cuda")
        patch.setattr(engines, "installed", lambda: ["torch", "tensorrt"])
        for providers, best in ((["CUDAExecutionProvider"], "torch"), (["TensorrtExecutionProvider"], "tensorrt")):
            patch.setattr("onnxruntime.get_available_providers", lambda found=providers: found)
            assert choose_engine("auto", "cuda", "fp16") == best
    for engine, precision, message in (
        ("auto", "int8", "no engine here computes in int8 on cpu; those that know it: openvino"),
        ("torch", "int8", "torch does not compute in int8; it knows fp32, bf16, fp16"),
        ("fast", "fp32", "unknown engine 'fast'"),
        ("auto", "fp8", "unknown precision 'fp8'"),
    ):
        with pytest.raises(UserError, match=message):
            choose_engine(engine, "cpu", precision)


@pytest.mark.parametrize(
    ("engine", "wanted", "best", "cuda", "expected"),
    [
        ("onnx", "auto", "cuda", False, "cpu"),
        ("onnx", "auto", "cuda", True, "cuda"),
        ("onnx", "cuda:1", "cuda", True, "cuda:1"),
        ("onnx", "auto", "mps", True, "cpu"),
        ("onnx", "cuda", "cuda", False, "cannot run on cuda: .* no CUDAExecutionProvider: install onnxruntime-gpu"),
        ("onnx", "mps", "mps", False, "the engine onnx runs on cpu or cuda, not on mps"),
        ("openvino", "auto", "cuda", False, "cpu"),
        ("openvino", "cuda", "cuda", False, "the engine openvino runs on cpu, not on cuda"),
        ("tensorrt", "auto", "cpu", False, "the engine tensorrt runs on cuda, not on cpu"),
        ("tensorrt", "auto", "cuda", True, "has no TensorrtExecutionProvider: install onnxruntime-gpu in its place"),
    ],
)
def test_devices_of_engines(monkeypatch, engine, wanted, best, cuda, expected):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"] * cuda)
    monkeypatch.setattr(engines, "_selected", lambda name: best if name == "auto" else name)
    monkeypatch.setattr(engines, "installed", lambda: [engine])
    if " " in expected:
        with pytest.raises(UserError, match=expected):
            engine_device(engine, wanted)
    else:
        assert engine_device(engine, wanted) == expected


RUN_GRAPHS = """
import gc, os, signal, sys, threading
import numpy as np
from lib.test.tracker import create_tracker
from lib.test.tracker.engines import package

frame, trackers = np.full((90, 120, 3), 90, np.uint8), []
for engine in ("openvino", "onnx"):
    trackers.append(create_tracker("stark_lightning_X_trt", "mini", engine=engine, device="cpu"))
    trackers[-1].initialize(frame, {"init_bbox": [2, 40, 30, 30]})
    trackers[-1].track(frame)
assert "torch" not in sys.modules
package("nncf", "this test")
thread = threading.Thread(target=lambda: (trackers.clear(), gc.collect()))
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda number, _: print("heard", number))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_kept_graphs_run_without_pytorch_and_nothing_is_told_to_the_makers_of_packages(place):
    """PyTorch would take half a gigabyte of memory in every process that tracks.

    The packages send reports over the network unless they are kept from it, by a number that they keep at home. A
    signal is heard after another thread dropped a network.
    """
    create_tracker(SCRIPT, "mini", device="cpu", engine="openvino")
    home = place / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    how = {"env": environment | {"HOME": str(home)}, "capture_output": True, "text": True, "cwd": REPOSITORY}
    done = subprocess.run([sys.executable, "-c", RUN_GRAPHS], **how)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["heard 2"]), done.stderr
    assert not [path for path in home.rglob("*") if path.name in (".onnxruntime", "intel")]


def test_a_processor_without_bf16(monkeypatch):
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    graph = shipped_graphs(SCRIPT, "mini") / "template.onnx"
    for precision in ("fp32", "int8"):
        open_graph(graph, precision)
    with pytest.raises(UserError, match="does not compute in bf16 on this processor"):
        open_graph(graph, "bf16")
    with pytest.raises(UserError, match="cannot write /dev/full/t.xml: File exists"):
        save_model(read_model(graph), Path("/dev/full/t.xml"))
