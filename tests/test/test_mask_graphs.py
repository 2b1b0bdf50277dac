"""Alpha-Refine's engines compute what its network computes."""

import copy

import numpy as np
import openvino
import pytest
import torch

from lib.config import load_config
from lib.models.alpha_refine import AlphaRefine
from lib.models.export import export_graphs
from lib.test.tracker.engines import graph_engine
from lib.test.tracker.engines.openvino import core
from lib.test.tracker.engines.pytorch import torch_engine
from lib.test.tracker.export import MASK, OVERLAP, TOLERANCES, compare_engines, export
from lib.test.tracker.quantise import calibrate
from lib.utils.checkpoint import save_checkpoint
from tests.golden.fill import fill, image


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
    folder = tmp_path_factory.mktemp("graphs")
    export_graphs(model, cfg, folder)
    return model, cfg, folder, (reference, box, crop), (kernels.numpy(), mask.numpy())


def tame(model, logits):
    """Random weights make logits of billions, all of one sign; half of the mask is now the object's."""
    last, scale = model.refiner.project.conv2, 2 / logits.std()
    last.weight.mul_(scale)
    last.bias.copy_((last.bias - logits.median()) * scale)


def engine_of(case, name, precision="fp32"):
    model, cfg, folder, *_ = case
    if name == "torch":
        return torch_engine(copy.deepcopy(model), cfg, "cpu", precision)
    return graph_engine(name, folder, "cpu", precision)


def mask_of(engine, reference, box, crop):
    """Kernels (144, C) and the mask (S, S)."""
    (kernels,) = engine.template(reference[None], box[None])
    (mask,) = engine.search(crop[None], kernels)
    assert mask.dtype == np.float32
    return kernels[0], mask[0]


@pytest.mark.parametrize("name", ["torch", "onnx", "openvino"])
def test_engines_agree_with_the_network(case, name):
    engine = engine_of(case, name)
    assert engine.name == f"{name} fp32"
    _, _, _, inputs, (kernels, mask) = case
    found = mask_of(engine, *inputs)
    np.testing.assert_allclose(found[0], kernels[0], atol=1e-4 * np.abs(kernels).mean())
    np.testing.assert_allclose(found[1], mask, atol=1e-3)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_graphs_take_several_crops_at_a_time(case, name, monkeypatch):
    monkeypatch.setattr(openvino.Model, "reshape", lambda *_: None)  # trackers have one crop
    engine = engine_of(case, name)
    _, _, _, (reference, box, crop), _ = case
    references, boxes = np.stack([reference, crop, reference]), np.stack([box, box + 9, box / 2])
    images = np.stack([crop, reference, crop[::-1]])
    (kernels,) = engine.template(references, boxes)
    (masks,) = engine.search(images, kernels)
    assert masks.shape == (3, 128, 128)
    for i in range(3):
        alone = mask_of(engine, references[i], boxes[i], images[i])
        np.testing.assert_allclose(alone[0], kernels[i], atol=1e-4 * np.abs(kernels).mean())
        np.testing.assert_allclose(alone[1], masks[i], atol=1e-3)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bf16_changes_masks_little(case, name):
    if name == "openvino" and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("no bf16 here")
    _, _, _, inputs, (_, mask) = case
    found = mask_of(engine_of(case, name, "bf16"), *inputs)[1]
    assert np.abs(found - mask).mean() < 0.1  # these weights make much of rounding


def test_int8_is_calibrated_and_changes_masks_little(case, monkeypatch):
    monkeypatch.setattr("lib.test.tracker.quantise.SEARCHES", 4)
    _, cfg, folder, (reference, box, crop), (_, mask) = case
    path = calibrate(folder, cfg, [([reference, crop], [box.tolist()])] * 9)
    found = mask_of(engine_of(case, "openvino", "int8"), reference, box, crop)[1]
    assert np.abs(found - mask).mean() < 0.2  # these weights make much of rounding
    assert path.with_suffix(".bin").stat().st_size < 0.4 * (folder / "search.onnx").stat().st_size


def test_masks_are_exported_and_compared(case, place, capsys, monkeypatch):
    monkeypatch.setattr("lib.test.tracker.export.clips_of", lambda _: [([case[3][0]] * 3, [case[3][1].tolist()])])
    save_checkpoint(place / "weights.pth.tar", {"net": case[0].state_dict()})
    given = {"checkpoint": str(place / "weights.pth.tar"), "format": "openvino", "output": place / "out"}
    assert export("alpha_refine", "small", **given) == 0
    assert {"template.xml", "search.xml"} <= {path.name for path in (place / "out").iterdir()}
    assert "3 search regions" in capsys.readouterr().out


def test_masks_of_other_weights_do_not_agree(case):
    other = copy.deepcopy(case[0])
    other.refiner.project.conv2.bias.data += 0.5
    clips = [([case[3][0]] * 3, [case[3][1].tolist()])]
    found = compare_engines(torch_engine(other, case[1]), engine_of(case, "onnx"), case[1], clips)
    assert max(found[MASK]) > TOLERANCES[MASK]
    assert max(found[OVERLAP]) > 0.01
