"""Alpha-Refine's graphs compute the same elsewhere."""

import copy
import warnings

import numpy as np
import pytest
import torch

from external.AR.graphs import traceable_graphs
from external.AR.network import AlphaRefine
from lib.config import load_config
from tests.golden.fill import fill, normal


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Paths of both graphs, inputs, and what the plain network makes of them."""
    cfg, folder = load_config("alpha_refine", "small"), tmp_path_factory.mktemp("graphs")
    plain = fill(AlphaRefine(cfg)).eval()
    paths = []
    for graph in traceable_graphs(copy.deepcopy(plain), cfg):
        paths.append(folder / f"{graph.outputs[0]}.onnx")
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                *(graph.module, graph.arguments, str(paths[-1])),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=17,
                dynamo=False,
            )
    # Another box than the graph was traced with: it must be an input, and no constant.
    reference, crop, box = (
        normal("z", (1, 3, 128, 128)),
        normal("x", (1, 3, 128, 128)),
        torch.tensor([[30.0, 41, 70, 52]]),
    )
    with torch.no_grad():
        kernels = plain.encode_reference(reference, box)
        mask = plain.segment(kernels, crop)
    return paths, (reference.numpy(), box.numpy(), crop.numpy()), (kernels.numpy(), mask.numpy())


def check(reference, mask, case):
    _, (img_z, box, img_x), (kernels, logits) = case
    found = reference({"img_z": img_z, "box": box})
    np.testing.assert_allclose(found, kernels, atol=1e-4 * np.abs(kernels).mean())
    found = mask({"kernels": found, "img_x": img_x})
    np.testing.assert_allclose(found, logits, atol=1e-3 * np.abs(logits).mean())


def test_in_onnxruntime(case):
    import onnxruntime

    def runner(path):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda arrays: session.run(None, arrays)[0]

    check(*map(runner, case[0]), case)


def test_in_openvino(case):
    openvino = pytest.importorskip("openvino")

    def runner(path):
        model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda arrays: model(arrays)[0]

    check(*map(runner, case[0]), case)
