"""Which engine computes, with what it needs, and what it does without."""

import os
import subprocess
import sys

import numpy as np
import openvino
import openvino.opset13 as operations
import pytest

from lib.test.tracker import create_tracker, engines
from lib.test.tracker.engines import PRECISIONS_OF, choose_engine, engine_device, graphs
from lib.test.tracker.engines.openvino import core, first_layers, open_graph, save_model
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
    with pytest.raises(UserError, match="no engine here computes in int8 on cpu; those that know it: openvino"):
        choose_engine("auto", "cpu", "int8")


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("onnx", "bf16", "the engine onnx does not compute in bf16; it knows fp32"),
        ("torch", "int8", "torch does not compute in int8; it knows fp32, bf16, fp16"),
        ("fast", "fp32", "unknown engine 'fast'"),
        ("auto", "fp8", "unknown precision 'fp8'"),
    ],
)
def test_engines_know_their_precisions(engine, precision, message):
    assert all(choose_engine(name, "cpu", each) == name for name, known in PRECISIONS_OF.items() for each in known)
    with pytest.raises(UserError, match=message):
        choose_engine(engine, "cpu", precision)


@pytest.mark.parametrize(
    ("wanted", "best", "providers", "expected"),
    [
        ("auto", "cuda", ["CPUExecutionProvider"], "cpu"),
        ("auto", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda"),
        ("cuda:1", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda:1"),
        ("auto", "mps", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cpu"),
        ("cuda", "cuda", ["CPUExecutionProvider"], UserError),
        ("mps", "mps", ["CPUExecutionProvider"], UserError),
    ],
)
def test_devices_of_onnxruntime(monkeypatch, wanted, best, providers, expected):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    monkeypatch.setattr(engines, "_selected", lambda name: best if name == "auto" else name)
    if expected is UserError:
        with pytest.raises(UserError, match="onnx"):
            engine_device("onnx", wanted)
    else:
        assert engine_device("onnx", wanted) == expected


def test_kept_graphs_run_without_pytorch_and_nothing_is_told_to_the_makers_of_packages(place):
    """PyTorch would take half a gigabyte of memory in every process that tracks.

    The packages send reports over the network unless they are kept from it, by a number that they keep at home.
    """
    create_tracker(SCRIPT, "mini", device="cpu", engine="openvino")
    code = """if True:
        import sys
        import numpy as np
        from lib.test.tracker import create_tracker
        from lib.test.tracker.engines import package
        frame = np.full((90, 120, 3), 90, np.uint8)
        for engine in ("openvino", "onnx"):
            tracker = create_tracker("stark_lightning_X_trt", "mini", engine=engine, device="cpu")
            tracker.initialize(frame, {"init_bbox": [2, 40, 30, 30]})
            print(tracker.track(frame)["target_bbox"])
        assert "torch" not in sys.modules
        package("nncf", "this test")
    """
    home = place / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    first, second = ([float(v) for v in line.strip("[]").split(",")] for line in done.stdout.splitlines()[:2])
    np.testing.assert_allclose(first, second, atol=0.01)
    assert not [path for path in home.rglob("*") if path.name in (".onnxruntime", "intel")]


@pytest.fixture
def graph(tmp_path):
    """Of one operation, as a file."""
    x = operations.parameter([1, 3], np.float32)
    save_model(openvino.Model([operations.relu(x)], [x]), tmp_path / "relu.xml")
    return tmp_path / "relu.xml"


def test_a_processor_without_bf16(monkeypatch, graph):
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    for precision in ("fp32", "int8"):
        open_graph(graph, precision)
    with pytest.raises(UserError, match="does not compute in bf16 on this processor"):
        open_graph(graph, "bf16")


DROPPED_IN_ANOTHER_THREAD = """
import gc, os, signal, sys, threading
from pathlib import Path
from lib.test.tracker.engines.openvino import open_graph

kept = [open_graph(Path(sys.argv[1]))]
thread = threading.Thread(target=lambda: (kept.clear(), gc.collect()))
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda number, _: print("heard", number))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_signal_is_heard_after_a_network_was_dropped_by_another_thread(graph):
    command = [sys.executable, "-c", DROPPED_IN_ANOTHER_THREAD, str(graph)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard 2\n"), done.stderr


@pytest.mark.skipif("BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="no bf16 here")
def test_kernels_that_cancel_do_so_in_bf16_too(tmp_path):
    """A network that begins as those for small processors do, with another input behind.

    On an image of one colour its output is the other input: each kernel of the depthwise convolution adds up to 0.
    """
    rng = np.random.default_rng(0)
    image, other = operations.parameter([1, 16, 16, 3], np.uint8), operations.parameter([1, 1], np.float32)

    def convolution(x, kernel):
        make = operations.group_convolution if kernel.ndim == 5 else operations.convolution
        found = make(x, kernel.astype(np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
        return operations.add(found, np.zeros((1, *found.shape[1:2], 1, 1), np.float32))

    x = operations.transpose(operations.convert(image, "f32"), [0, 3, 1, 2])
    x = convolution(x, rng.uniform(0.01, 0.02, (8, 3, 1, 1)))
    kernels = rng.uniform(5, 18, (8, 1, 1, 3, 3))
    kernels[..., 2, 2] -= kernels.sum((-1, -2))
    x = operations.clamp(convolution(x, kernels), -6, 6)
    x = convolution(x, rng.uniform(1, 2, (4, 8, 1, 1)))
    x = operations.relu(operations.add(operations.reduce_sum(x, [1, 2, 3], keep_dims=False), other))
    model = openvino.Model([x], [image, other])
    kinds = [each.get_type_name() for each in first_layers(model)]
    assert kinds == ["Convolution", "GroupConvolution", "Convolution"]
    save_model(model, tmp_path / "network.xml")
    picture, number = np.full((1, 16, 16, 3), 93, np.uint8), np.full((1, 1), 10, np.float32)
    (found,) = open_graph(tmp_path / "network.xml", "bf16")(picture, number)
    assert abs(found.item() - 10) < 0.1  # as one model in bf16 it finds 0
