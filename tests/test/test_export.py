"""Exporting for an engine: files, the comparison on real crops, int8 after calibration."""

import copy

import cv2
import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.models.alpha_refine import AlphaRefine
from lib.models.export import export_graphs
from lib.test.tracker import create_tracker, find_weights, load_network
from lib.test.tracker.engines.graphs import graph_engine
from lib.test.tracker.engines.openvino import INT8_SUFFIX
from lib.test.tracker.engines.pytorch import torch_engine
from lib.test.tracker.export import (
    BOX,
    LOGIT,
    MASK,
    OVERLAP,
    PIXELS,
    TOLERANCES,
    calibrate,
    clips_of,
    compare_engines,
    export,
)
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from tests.golden.fill import fill, image

SCRIPT = "stark_lightning_X_trt"
CFG = load_config(SCRIPT, "mini")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sequences of a moving picture, in GOT-10k layout."""
    root = tmp_path_factory.mktemp("sequences")
    frame = image("export.frame", 120, 160)
    for name in ("first", "second"):
        (root / name).mkdir()
        for i in range(12):
            cv2.imwrite(str(root / name / f"{i + 1:08d}.png"), np.roll(frame, 2 * i, 1))
        (root / name / "groundtruth.txt").write_text("".join(f"{50 + 2 * i},40,30,30\n" for i in range(12)))
    (root / "list.txt").write_text("first\nsecond\n")
    return root


@pytest.mark.parametrize(("format", "ending"), [("onnx", "onnx"), ("openvino", "xml")])
def test_fp32_agrees_and_is_written_where_it_was_asked_for(place, folder, capsys, format, ending):
    output = place / "out"
    given = {"format": format, "output": output, "frames": f"folder:{folder}"}
    assert export(SCRIPT, "mini", **given) == 0
    needed = {f"template.{ending}", f"search.{ending}", "regions.npz"}
    assert needed <= {path.name for path in output.iterdir()}
    out = capsys.readouterr().out
    assert "22 search regions of real frames" in out
    assert "logit of the confidence" in out
    with pytest.raises(UserError, match="exists; add --overwrite"):
        export(SCRIPT, "mini", **given)
    assert export(SCRIPT, "mini", overwrite=True, **given) == 0


def test_a_graph_of_other_weights_does_not_agree(folder, tmp_path):
    model = load_network(SCRIPT, CFG, find_weights(SCRIPT, "mini"))
    export_graphs(model, CFG, tmp_path)
    with torch.no_grad():
        model.box_head.score[-1].weight.mul_(-1)
    other, clips = graph_engine("openvino", tmp_path), clips_of(f"folder:{folder}")
    found = compare_engines(torch_engine(model, CFG), other, CFG, clips)
    assert [len(found[name]) for name in (BOX, PIXELS, LOGIT)] == [22] * 3
    assert max(found[BOX]) > TOLERANCES[BOX]


def test_int8_is_calibrated_on_frames(place, folder, capsys):
    with pytest.raises(UserError, match=f"make it with `python tracking/export.py --script {SCRIPT} --config mini "):
        create_tracker(SCRIPT, "mini", device="cpu", engine="openvino", precision="int8")
    assert export(SCRIPT, "mini", format="openvino", precision="int8", calibration=f"folder:{folder}") == 0
    assert "calibrating int8 on 22 search regions" in capsys.readouterr().out
    tracker = create_tracker(SCRIPT, "mini", device="cpu", engine="openvino", precision="int8")
    assert tracker.engine.name == "openvino int8"
    (plain,), (small,) = place.rglob("search.onnx"), place.rglob(f"search{INT8_SUFFIX}")
    assert small.with_suffix(".bin").stat().st_size < 0.4 * plain.stat().st_size
    with pytest.raises(UserError, match="at least two"):
        calibrate(plain.parent, CFG, [])


def test_mistakes_in_exporting_are_said(place):
    with pytest.raises(UserError, match="no tracker runs networks of 'stark_st1'"):
        export("stark_st1", "baseline")
    with pytest.raises(UserError, match="onnx does not compute in bf16"):
        export(SCRIPT, "mini", precision="bf16")


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


def test_masks_of_other_weights_do_not_agree(case):
    model, clips = copy.deepcopy(case[0]), [([case[3][0]] * 3, [case[3][1].tolist()])]
    model.refiner.project.conv2.bias.data += 0.5
    found = compare_engines(torch_engine(model, case[1]), engine_of(case, "onnx"), case[1], clips)
    assert max(found[MASK]) > TOLERANCES[MASK]
    assert max(found[OVERLAP]) > 0.01


def test_int8_is_calibrated_and_changes_masks_little(case, monkeypatch):
    monkeypatch.setattr("lib.test.tracker.export.CALIBRATED", 4)
    _, cfg, folder, (reference, box, crop), (_, mask) = case
    calibrate(folder, cfg, [([reference, crop], [box.tolist()])] * 9)
    found = mask_of(engine_of(case, "openvino", "int8"), reference, box, crop)[1]
    assert np.abs(found - mask).mean() < 0.2  # these weights make much of rounding
    assert (folder / "search.int8.bin").stat().st_size < 0.4 * (folder / "search.onnx").stat().st_size


def test_masks_are_exported_and_compared(case, place, capsys, monkeypatch):
    monkeypatch.setattr("lib.test.tracker.export.clips_of", lambda _: [([case[3][0]] * 3, [case[3][1].tolist()])])
    save_checkpoint(place / "weights.pth.tar", {"net": case[0].state_dict()})
    given = {"checkpoint": str(place / "weights.pth.tar"), "format": "openvino", "output": place / "out"}
    assert export("alpha_refine", "small", **given) == 0
    assert {"template.xml", "search.xml"} <= {path.name for path in (place / "out").iterdir()}
    assert "3 search regions" in capsys.readouterr().out
