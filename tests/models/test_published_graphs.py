"""STARK-Lightning's graphs in the published layout: names, shapes and numbers."""

import numpy as np
import onnxruntime
import pytest

from lib.config import load_config
from lib.models.export import SEARCH_FILE, TEMPLATE_FILE, export_published
from tests.golden_cases import VARIANTS, golden, reference_inputs, reference_model


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """The reference Lightning's template and search graph."""
    folder = tmp_path_factory.mktemp("published")
    model, cfg = reference_model("stark_lightning"), load_config(*VARIANTS["stark_lightning"][:2])
    export_published("template", model, cfg, folder / TEMPLATE_FILE)
    export_published("search", model, cfg, folder / SEARCH_FILE)
    names = ("backbone_bottleneck_pe.onnx", "complete.onnx")
    return [onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"]) for name in names]


def test_the_published_boxes(graphs):
    (template,), search = reference_inputs("stark_lightning")
    for i in range(2):
        (z, z_mask), (x, x_mask) = (
            (r.tensors[i : i + 1].numpy(), r.mask[i : i + 1].numpy()) for r in (template, search)
        )
        kept = graphs[0].run(None, {"img_z": z, "mask_z": z_mask})
        names = [each.name for each in graphs[1].get_inputs()]
        found = graphs[1].run(None, dict(zip(names, [x, x_mask, *kept], strict=True)))[0]
        np.testing.assert_allclose(found.reshape(4), golden("stark_lightning")["pred_boxes"][i], atol=1e-4)


def test_names_and_shapes_are_the_published_ones(graphs):
    template, search = graphs
    kept = {"feat": [64, 1, 128], "mask": [1, 64], "pos": [64, 1, 128]}
    vectors = {f"{name}_vec_z": shape for name, shape in kept.items()}
    for values, expected in (
        (template.get_inputs(), {"img_z": [1, 3, 128, 128], "mask_z": [1, 128, 128]}),
        (template.get_outputs(), kept),
        (search.get_inputs(), {"img_x": [1, 3, 320, 320], "mask_x": [1, 320, 320], **vectors}),
        (search.get_outputs(), {"outputs_coord": [1, 1, 4]}),
    ):
        assert {value.name: value.shape for value in values} == expected
        assert all(value.type == f"tensor({'bool' if 'mask' in value.name else 'float'})" for value in values)
