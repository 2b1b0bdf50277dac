"""What OpenVINO does to the process it runs in, and the first layers that it computes in fp32."""

import resource
import subprocess
import sys

import numpy as np
import openvino
import openvino.opset13 as operations
import pytest

from lib.test.tracker.engines.openvino import OpenVinoGraph, core, hint_of, save_model
from lib.test.tracker.engines.openvino_cut import cut, first_layers, pad_less
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


def beginning(groups=8, depthwise=True, quantised=False):
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
    if quantised:
        x = operations.fake_quantize(x, 0.0, 6.0, 0.0, 6.0, 256)
    if depthwise:
        kernels = rng.uniform(5, 18, (groups, 8 // groups, 8 // groups, 3, 3))
        kernels[..., 2, 2] -= kernels.sum((-1, -2))
        x = operations.clamp(convolution(x, kernels), -6, 6)
    x = convolution(x, rng.uniform(1, 2, (4, 8, 1, 1)))
    x = operations.relu(operations.add(operations.reduce_sum(x, [1, 2, 3], keep_dims=False), other))
    return openvino.Model([x], [image, other])


def run(model, inputs, hint="f32"):
    """What a model computes."""
    options = {"INFERENCE_PRECISION_HINT": hint}
    return next(iter(openvino.Core().compile_model(model, "CPU", options)(inputs).values()))


def test_a_graph_in_two_computes_the_same():
    rng = np.random.default_rng(1)
    image, other = rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8), np.full((1, 1), 1e4, np.float32)
    expected = run(beginning(), [image, other])
    first, rest = cut(beginning())
    assert [len(part.inputs) for part in (first, rest)] == [1, 2]
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(first, "CPU", options).create_infer_request()
    request.infer([image])
    assert request.get_output_tensor(0).get_shape() == [1, 14, 14, 4]
    np.testing.assert_allclose(run(rest, [request.get_output_tensor(0), other]), expected, rtol=2e-3)


@pytest.mark.parametrize("other", [{"depthwise": False}, {"groups": 2}])
def test_other_networks_stay_whole(other):
    assert first_layers(beginning(**other)) == []
    assert cut(beginning(**other)) is None


def test_quantised_first_layers_stay_where_they_are():
    assert first_layers(beginning(quantised=True))
    assert cut(beginning(quantised=True)) is None


def test_kernels_that_cancel_do_so_in_bf16_too(tmp_path):
    save_model(beginning(), tmp_path / "network.xml")
    image, other = np.full((1, 16, 16, 3), 93, np.uint8), np.full((1, 1), 10, np.float32)
    (found,) = OpenVinoGraph(tmp_path / "network.xml", "bf16")([image, other])
    assert abs(found.item() - 10) < 0.1  # as one model in bf16 it finds 0


@pytest.mark.parametrize(("first", "shared", "left"), [(1, False, 0), (2, False, 2), (1, True, 2)])
def test_what_a_convolution_pads_too_much_and_drops_it_does_not_pad(first, shared, left):
    def network():
        x = operations.parameter([1, 3, 8, 8], np.float32)
        kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
        found = operations.convolution(x, kernel, [2, 2], [2, 2], [2, 2], [1, 1])
        whole = part = operations.add(found, np.ones((1, 4, 1, 1), np.float32))
        for axis in (2, 3):
            part = operations.slice(part, [first], [2**63 - 1], [1], [axis])
        return openvino.Model([part, whole] if shared else [part], [x])

    changed, crop = network(), np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    pad_less(changed)
    assert sum(each.get_type_name() == "Slice" for each in changed.get_ops()) == left
    np.testing.assert_allclose(run(changed, [crop]), run(network(), [crop]), atol=1e-5)
