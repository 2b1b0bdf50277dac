"""Networks folded for tracking compute the same."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch

from lib.config import load_config
from lib.models.export import export_published
from lib.models.inference import Parts, prepare_for_tracking
from lib.models.layers import FrozenBatchNorm2d
from lib.test.tracker import find_weights, load_network
from lib.utils.graph_files import joined
from lib.utils.tensors import NestedTensor
from tests.golden_cases import VARIANTS, golden, reference_inputs, reference_model


def regions(cfg, templates, padded):
    """Random crops; the search region is padded on one side."""
    torch.manual_seed(0)
    made = []
    for options in [cfg.DATA.TEMPLATE] * templates + [cfg.DATA.SEARCH]:
        mask = torch.zeros(1, options.SIZE, options.SIZE, dtype=torch.bool)
        mask[:, :, : options.SIZE // 3] = True
        made.append(NestedTensor(torch.randn(1, 3, options.SIZE, options.SIZE), mask if padded else None))
    return made[:-1], made[-1]


def network(variant):
    """A variant or `mini`, with norms that are no identities."""
    if variant != "mini":
        return reference_model(variant), load_config(*VARIANTS[variant][:2])
    cfg = load_config("stark_lightning_X_trt", "mini")
    return load_network("stark_lightning_X_trt", cfg, find_weights("stark_lightning_X_trt", "mini")), cfg


@pytest.mark.parametrize("variant", ["stark_s50", "stark_st50", "stark_lightning", "mini"])
def test_folded_networks_and_their_parts_give_the_same_outputs(variant):
    model, cfg = network(variant)
    folded = prepare_for_tracking(copy.deepcopy(model.eval()))
    assert not any(isinstance(module, torch.nn.BatchNorm2d | FrozenBatchNorm2d) for module in folded.modules())
    parts = Parts(copy.deepcopy(folded), cfg)
    parts._pixels = lambda crops: NestedTensor(crops)
    for padded in (False, True):
        templates, search = regions(cfg, model.template_count, padded)
        with torch.inference_mode():
            before, after = model(templates, search), folded(templates, search)
        for name in {"pred_boxes", "pred_logits", "corner_maps", "cell_boxes"} & set(before):
            assert torch.allclose(before[name], after[name], atol=1e-3), name
        around = [
            parts.regions.attention_inputs(name, None if region.mask is None else region.mask[0].numpy())
            for name, region in [*(("template", each) for each in templates), ("search", search)]
        ]
        position, bias = map(torch.from_numpy, joined(around))
        with torch.inference_mode():
            features = [parts.template(region.tensors)[0] for region in templates]
            found = parts.search(search.tensors, bias, position, *features)
        if "corner_peak" in parts.outputs:
            after["corner_peak"] = after["corner_maps"].softmax(-1).amax(-1).mean(0).view(1, -1, 1)
        for name, value in zip(parts.outputs, found, strict=True):
            assert torch.allclose(value, after[name], atol=1e-4), name


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
