"""What OpenVINO does to the process it runs in."""

import resource
import subprocess
import sys

import numpy as np
import openvino
import openvino.opset13 as operations
import pytest

from lib.test.tracker.engines.openvino import OpenVinoGraph, core, hint_of, save_model
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY

DROPPED_IN_ANOTHER_THREAD = """
import gc, os, signal, sys, threading
from pathlib import Path
from lib.test.tracker.engines.openvino import OpenVinoGraph

kept = [OpenVinoGraph(Path(sys.argv[1]), "f32")]

def drop():
    kept.clear()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda number, _: print("heard", number))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.fixture
def graph(tmp_path):
    """Of one operation, as a file."""
    x = operations.parameter([1, 3], np.float32)
    save_model(openvino.Model([operations.relu(x)], [x]), tmp_path / "relu.xml")
    return tmp_path / "relu.xml"


def test_a_full_disk_is_said(graph, tmp_path):
    model = core().read_model(graph)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*full/relu.xml"):
            save_model(model, tmp_path / "full/relu.xml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "full").iterdir())


def test_a_processor_without_bf16(monkeypatch):
    class Core:
        def get_property(self, device, name):
            return ["FP32", "INT8"]

    monkeypatch.setattr("lib.test.tracker.engines.openvino.core", Core)
    assert hint_of("fp32") == hint_of("int8") == "f32"
    with pytest.raises(UserError, match="does not compute in bf16 on this processor"):
        hint_of("bf16")


def test_numbers_nearly_0_stay_what_they_are_outside(graph):
    smallest = np.full((1, 3), 1e-40, np.float32)
    (found,) = OpenVinoGraph(graph, "f32")([smallest])
    assert found.shape == (1, 3)
    assert (smallest * np.float32(0.5) > 0).all()


def test_a_signal_is_heard_after_a_network_was_dropped_by_another_thread(graph):
    command = [sys.executable, "-c", DROPPED_IN_ANOTHER_THREAD, str(graph)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard 2\n"), done.stderr
