"""Graphs of STARK-Lightning in the published layout."""

import numpy as np
import onnxruntime

from lib.config import load_config
from lib.models.export import export_published
from tests.golden_cases import VARIANTS, golden, reference_inputs, reference_model


def test_graphs_in_the_published_layout(tmp_path):
    model, cfg = reference_model("stark_lightning"), load_config(*VARIANTS["stark_lightning"][:2])
    graphs = []
    for part, name in (("template", "backbone_bottleneck_pe.onnx"), ("search", "complete.onnx")):
        export_published(part, model, cfg, tmp_path / name)
        graphs.append(onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"]))
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
    (first,), region = reference_inputs("stark_lightning")
    for i in range(2):
        (z, z_mask), (x, x_mask) = ((r.tensors[i : i + 1].numpy(), r.mask[i : i + 1].numpy()) for r in (first, region))
        found = template.run(None, {"img_z": z, "mask_z": z_mask})
        names = [each.name for each in search.get_inputs()]
        boxes = search.run(None, dict(zip(names, (x, x_mask, *found), strict=True)))[0]
        np.testing.assert_allclose(boxes.reshape(4), golden("stark_lightning")["pred_boxes"][i], atol=1e-4)
