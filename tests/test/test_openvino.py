"""What OpenVINO does to the process it runs in, and the first layers that it computes in fp32."""

import resource
import subprocess
import sys

import numpy as np
import openvino
import openvino.opset13 as operations
import pytest

from lib.test.tracker.engines.openvino import core, first_layers, open_graph, save_model
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY

DROPPED_IN_ANOTHER_THREAD = """
import gc, os, signal, sys, threading
from pathlib import Path
from lib.test.tracker.engines.openvino import open_graph

kept = [open_graph(Path(sys.argv[1]))]

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


def test_a_processor_without_bf16(monkeypatch, graph):
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    for precision in ("fp32", "int8"):
        open_graph(graph, precision)
    with pytest.raises(UserError, match="does not compute in bf16 on this processor"):
        open_graph(graph, "bf16")


def test_numbers_nearly_0_stay_what_they_are_outside(graph):
    smallest = np.full((1, 3), 1e-40, np.float32)
    (found,) = open_graph(graph)(smallest)
    assert found.shape == (1, 3)
    assert (smallest * np.float32(0.5) > 0).all()


def test_a_signal_is_heard_after_a_network_was_dropped_by_another_thread(graph):
    command = [sys.executable, "-c", DROPPED_IN_ANOTHER_THREAD, str(graph)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard 2\n"), done.stderr


def beginning(depthwise=True):
    """A network that begins as those for small processors do, with another input behind; its depthwise kernels cancel.

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
    if depthwise:
        kernels = rng.uniform(5, 18, (8, 1, 1, 3, 3))
        kernels[..., 2, 2] -= kernels.sum((-1, -2))
        x = operations.clamp(convolution(x, kernels), -6, 6)
    x = convolution(x, rng.uniform(1, 2, (4, 8, 1, 1)))
    x = operations.relu(operations.add(operations.reduce_sum(x, [1, 2, 3], keep_dims=False), other))
    return openvino.Model([x], [image, other])


def test_first_layers_are_those_of_networks_for_small_processors():
    assert first_layers(beginning(depthwise=False)) == []
    kinds = [each.get_type_name() for each in first_layers(beginning())]
    assert kinds == ["Convolution", "GroupConvolution", "Convolution"]


@pytest.mark.skipif("BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="no bf16 here")
def test_kernels_that_cancel_do_so_in_bf16_too(tmp_path):
    save_model(beginning(), tmp_path / "network.xml")
    image, other = np.full((1, 16, 16, 3), 93, np.uint8), np.full((1, 1), 10, np.float32)
    (found,) = open_graph(tmp_path / "network.xml", "bf16")(image, other)
    assert abs(found.item() - 10) < 0.1  # as one model in bf16 it finds 0
