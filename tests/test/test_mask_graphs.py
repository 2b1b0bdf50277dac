"""Alpha-Refine's engines compute what its network computes."""

import copy

import numpy as np
import openvino
import pytest
import torch

from lib.config import load_config
from lib.models.alpha_refine import AlphaRefine
from lib.test.tracker.engines.onnx import open_graph
from lib.test.tracker.engines.openvino import core
from lib.test.tracker.mask_graphs import kept_mask_graphs, mask_graphs_in
from lib.test.tracker.masks import create_mask_engine
from lib.test.tracker.quantise import calibrate_masks
from tests.golden.fill import fill, image

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A network, its configuration, a folder for graphs, inputs, and what the plain network makes of them."""
    cfg = load_config("alpha_refine", "small")
    model = fill(AlphaRefine(cfg)).eval()
    # Another box than graphs are traced with: it must be an input, and no constant.
    reference, crop, box = image("z", 128, 128), image("x", 128, 128), np.array([30, 41, 70, 52], np.float32)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))
    pixels = [(torch.from_numpy(each).permute(2, 0, 1)[None] / 255 - mean) / std for each in (reference, crop)]
    with torch.no_grad():
        kernels = model.encode_reference(pixels[0], torch.from_numpy(box)[None])
        tame(model, model.segment(kernels, pixels[1]))
        mask = model.segment(kernels, pixels[1])[0, 0].sigmoid()
    assert 0.3 < (mask > 0.5).float().mean() < 0.7
    return model, cfg, tmp_path_factory.mktemp("graphs"), (reference, box, crop), (kernels.numpy(), mask.numpy())


def tame(model, logits):
    """Random weights make logits of billions, all of one sign; half of the mask is now the object's."""
    last, scale = model.refiner.project.conv2, 2 / logits.std()
    last.weight.mul_(scale)
    last.bias.copy_((last.bias - logits.median()) * scale)


def engine_of(case, name, precision="fp32"):
    model, cfg, folder, *_ = case
    return create_mask_engine(name, copy.deepcopy(model), cfg, CPU, folder, precision)


@pytest.mark.parametrize("name", ["torch", "onnx", "openvino"])
def test_engines_agree_with_the_network(case, name):
    engine = engine_of(case, name)
    assert engine.name == f"{name} fp32"
    _, _, _, (reference, box, crop), (kernels, mask) = case
    found = engine.encode_reference(reference, box)
    np.testing.assert_allclose(found, kernels, atol=1e-4 * np.abs(kernels).mean())
    np.testing.assert_allclose(engine.segment(found, crop), mask, atol=1e-3)


def test_graphs_take_several_crops_at_a_time(case, tmp_path):
    model, cfg, _, (reference, box, crop), _ = case
    graphs = kept_mask_graphs(model, cfg, tmp_path)
    references, boxes = np.stack([reference, crop, reference]), np.stack([box, box + 9, box / 2])
    images = np.stack([crop, reference, crop[::-1]])
    for read in (lambda path: open_graph(path, None), core().read_model):
        template, search = (runner(read(path)) for path in (graphs.template, graphs.search))
        kernels = template(references, boxes)
        masks = search(images, kernels)
        assert masks.shape == (3, 128, 128)
        for i in range(3):
            one = template(references[i : i + 1], boxes[i : i + 1])
            np.testing.assert_allclose(one[0], kernels[i], atol=1e-4 * np.abs(kernels).mean())
            np.testing.assert_allclose(search(images[i : i + 1], one)[0], masks[i], atol=1e-3)


def runner(graph):
    """A function of arrays: the graph's one output."""
    if isinstance(graph, openvino.Model):
        compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda *given: compiled(list(given))[0]
    names = [each.name for each in graph.get_inputs()]
    return lambda *given: graph.run(None, dict(zip(names, given, strict=True)))[0]


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bf16_changes_masks_little(case, name):
    engine = engine_of(case, name, "bf16")
    _, _, _, (reference, box, crop), (_, mask) = case
    found = engine.segment(engine.encode_reference(reference, box), crop)
    assert found.dtype == np.float32
    assert np.abs(found - mask).mean() < 0.1  # these weights make much of rounding


def test_int8_is_calibrated_and_changes_masks_little(case, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.test.tracker.quantise.CROPS", 4)
    model, cfg, _, (reference, box, crop), (kernels, mask) = case
    graphs = kept_mask_graphs(model, cfg, tmp_path)
    calibrate_masks(graphs, cfg, [([reference, crop], [box.tolist()])] * 9)
    engine = create_mask_engine("openvino", copy.deepcopy(model), cfg, CPU, tmp_path, "int8")
    found = engine.segment(engine.encode_reference(reference, box), crop)
    assert np.abs(found - mask).mean() < 0.2  # these weights make much of rounding
    (weights,) = tmp_path.rglob("*.int8.bin")
    assert weights.stat().st_size < 0.4 * graphs.search.stat().st_size


def test_graphs_are_kept_and_belong_to_weights_and_code(case, tmp_path, monkeypatch):
    model, cfg, *_ = case
    engine = create_mask_engine("onnx", copy.deepcopy(model), cfg, CPU, tmp_path, "fp32")
    files = mask_graphs_in(model, cfg, tmp_path)
    assert {path.name for path in files.folder.iterdir()} == {"template.onnx", "search.onnx"}
    assert engine.segment is not None
    other = copy.deepcopy(model)
    other.neck.channel_attention.fc1.bias.data += 1
    assert mask_graphs_in(other, cfg, tmp_path).folder != files.folder
    monkeypatch.setattr("lib.test.tracker.mask_graphs.export_mask_graphs", None)
    create_mask_engine("onnx", copy.deepcopy(model), cfg, CPU, tmp_path, "fp32")  # writes nothing
