"""Which engine computes, with what it needs, and what it does without."""

import os
import subprocess
import sys

import numpy as np
import pytest

from lib.config import load_config
from lib.test.tracker import create_tracker, engines, exported, weights_path
from lib.test.tracker.engines import PRECISIONS_OF, choose_engine, engine_device, installed
from lib.test.tracker.engines.onnx import onnxruntime
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY

SCRIPT = "stark_lightning_X_trt"


def test_nothing_is_told_to_the_makers_of_packages(place):
    """They send reports over the network unless they are kept from it, by a number that they keep at home."""
    folder = exported(SCRIPT, "mini", load_config(SCRIPT, "mini"), weights_path(SCRIPT, "mini"))
    code = """if True:
        import sys
        from pathlib import Path
        from lib.test.tracker.engines.onnx import open_graph
        from lib.test.tracker.engines.openvino import openvino
        from lib.test.tracker.quantise import load_nncf
        open_graph(Path(sys.argv[1]))
        openvino()
        load_nncf()
    """
    home = place / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "template.onnx")],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in home.rglob("*") if path.name in (".onnxruntime", "intel")]


@pytest.mark.parametrize("package", ["onnxruntime", "openvino", "tensorrt"])
def test_a_package_is_missing(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    engine = {"onnxruntime": "onnx"}.get(package, package)
    if engine == "tensorrt":
        from lib.test.tracker.engines.tensorrt import build

        with pytest.raises(UserError, match="pip install tensorrt"):
            build("search.onnx", "fp16")
        return
    with pytest.raises(UserError, match=f"pip install {package}"):
        create_tracker(SCRIPT, "mini", engine=engine)


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


def test_engines_know_their_precisions():
    assert set(PRECISIONS_OF) >= {name for name in installed() if name != "auto"}
    for engine, known in PRECISIONS_OF.items():
        for precision in engines.PRECISIONS:
            if precision in known:
                assert choose_engine(engine, "cpu", precision) == engine
            else:
                with pytest.raises(UserError, match=f"{engine} does not compute in {precision}"):
                    choose_engine(engine, "cpu", precision)
    with pytest.raises(UserError, match="unknown engine 'fast'"):
        choose_engine("fast", "cpu", "fp32")
    with pytest.raises(UserError, match="unknown precision 'fp8'"):
        choose_engine("auto", "cpu", "fp8")


@pytest.mark.parametrize(
    ("wanted", "best", "providers", "expected"),
    [
        ("auto", "cuda", ["CPUExecutionProvider"], "cpu"),
        ("auto", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda"),
        ("cuda:1", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda:1"),
        ("cpu", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cpu"),
        ("auto", "mps", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cpu"),
        ("cuda", "cuda", ["CPUExecutionProvider"], UserError),
        ("mps", "mps", ["CPUExecutionProvider"], UserError),
    ],
)
def test_devices_of_onnxruntime(monkeypatch, wanted, best, providers, expected):
    monkeypatch.setattr(onnxruntime(), "get_available_providers", lambda: providers)
    monkeypatch.setattr(engines, "_selected", lambda name: best if name == "auto" else name)
    if expected is UserError:
        with pytest.raises(UserError, match="onnx"):
            engine_device("onnx", wanted)
    else:
        assert engine_device("onnx", wanted) == expected


def test_kept_graphs_run_without_pytorch(place):
    """It would take half a gigabyte of memory in every process that tracks."""
    create_tracker(SCRIPT, "mini", device="cpu", engine="openvino")
    code = """if True:
        import sys
        import numpy as np
        from lib.test.tracker import create_tracker
        frame = np.full((90, 120, 3), 90, np.uint8)
        for engine in ("openvino", "onnx"):
            tracker = create_tracker("stark_lightning_X_trt", "mini", engine=engine, device="cpu")
            tracker.initialize(frame, {"init_bbox": [2, 40, 30, 30]})
            print(tracker.track(frame)["target_bbox"])
        assert "torch" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    first, second = ([float(v) for v in line.strip("[]").split(",")] for line in done.stdout.splitlines())
    np.testing.assert_allclose(first, second, atol=0.01)
