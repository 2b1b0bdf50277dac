"""What is rewritten of a graph before OpenVINO computes it in fp32."""

import numpy as np
import openvino
import openvino.opset13 as op
import pytest

from lib.test.tracker.engines.openvino import core
from lib.test.tracker.engines.products import use_fast_products
from lib.test.tracker.engines.winograd import matrices, use_winograd


def convolution(channels, outputs, size, groups=1, stride=1, padding=1, dilation=1):
    """An OpenVINO model, with weights as of a trained layer."""
    rng = np.random.default_rng(0)
    inputs = channels // groups
    kernel = rng.standard_normal((outputs, inputs, 3, 3)).astype(np.float32) * np.float32((2 / (9 * inputs)) ** 0.5)
    x = op.parameter([1, channels, *size], np.float32)
    more = ([stride] * 2, [padding] * 2, [padding] * 2, [dilation] * 2)
    if groups == 1:
        y = op.convolution(x, op.constant(kernel), *more)
    else:
        y = op.group_convolution(x, op.constant(kernel.reshape(groups, -1, *kernel.shape[1:])), *more)
    return openvino.Model([op.relu(y)], [x])


def run(model, x):
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([x])[compiled.output(0)]


def test_four_outputs_of_three_weights_from_six_products():
    inputs, weights, outputs = matrices()
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal(6), rng.standard_normal(3)
    expected = [x[i : i + 3] @ kernel for i in range(4)]
    np.testing.assert_allclose(outputs @ ((inputs @ x) * (weights @ kernel)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("outputs", "size", "groups"),
    [(256, (20, 20), 1), (384, (20, 20), 1), (128, (20, 20), 2), (256, (16, 20), 1), (256, (16, 16), 2)],
)
def test_results_are_the_convolutions(outputs, size, groups):
    model = convolution(256, outputs, size, groups)
    x = np.random.default_rng(1).standard_normal((1, 256, *size)).astype(np.float32)
    expected = run(model, x)
    assert use_winograd(model) == 1
    assert "Convolution" not in {node.get_type_name() for node in model.get_ops()}
    found = run(model, x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"padding": 0},
        {"padding": 2, "dilation": 2},
        {"size": (18, 20)},
        {"size": (8, 8)},
        {"channels": 16, "outputs": 16},  # more is moved about than is saved
        {"channels": 64, "outputs": 64, "size": (80, 80)},
    ],
)
def test_others_stay(options):
    model = convolution(**{"channels": 256, "outputs": 256, "size": (20, 20)} | options)
    assert use_winograd(model) == 0
    assert "Convolution" in {node.get_type_name() for node in model.get_ops()}


def test_maps_of_unknown_size_stay():
    model = convolution(256, 256, (20, 20))
    model.reshape([-1, 256, 20, 20])
    assert use_winograd(model) == 0


@pytest.mark.parametrize(("length", "expected"), [(2048, 1), (256, 0)])
def test_long_products_are_the_same_computed_by_another_library(length, expected):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((length, 64)).astype(np.float32) * np.float32(length**-0.5)
    x = op.parameter([1, 40, length], np.float32)
    product = op.add(op.matmul(x, op.constant(weights), False, False), op.constant(np.ones(64, np.float32)))
    model = openvino.Model([op.relu(product), product], [x])
    given = rng.standard_normal((1, 40, length)).astype(np.float32)
    assert use_fast_products(model) == expected
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([given])
    wanted = given @ weights + 1
    np.testing.assert_allclose(found[compiled.output(1)], wanted, atol=1e-4)
    np.testing.assert_allclose(found[compiled.output(0)], wanted.clip(0), atol=1e-4)
