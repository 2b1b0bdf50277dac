"""Exporting for an engine: files, the comparison on real crops, int8 after calibration."""

import copy

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
from lib.test.tracker.export import BOX, LOGIT, MASK, PIXELS, TOLERANCES, calibrate, clips_of, compare_engines, export
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from tests.data.made_sets import write_sequence
from tests.golden.fill import fill, image

SCRIPT = "stark_lightning_X_trt"
CFG = load_config(SCRIPT, "mini")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sequences in GOT-10k layout."""
    root = tmp_path_factory.mktemp("sequences")
    for name in ("first", "second"):
        write_sequence(root, name, 12)
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
    for path in (output / "model.json", *output.glob("[st]*.*")):
        path.write_text("{}") if path.name == "model.json" else path.unlink()
    with pytest.raises(UserError, match="model.json exists; add --overwrite"):  # it is of another network
        export(SCRIPT, "mini", **given)


def test_a_graph_of_other_weights_does_not_agree(folder, tmp_path):
    model = load_network(SCRIPT, CFG, find_weights(SCRIPT, "mini"))
    export_graphs(model, CFG, tmp_path)
    with torch.no_grad():
        model.box_head.score[-1].weight.mul_(-1)
    other, clips = graph_engine("openvino", tmp_path), clips_of(f"folder:{folder}")
    found = compare_engines(torch_engine(model, CFG), other, CFG, clips)
    assert [len(found[name]) for name in (BOX, PIXELS, LOGIT)] == [22] * 3
    assert max(found[BOX]) > TOLERANCES[BOX]


def test_int8_is_calibrated_on_frames(place, folder, capsys, monkeypatch):
    monkeypatch.setattr("lib.test.tracker.export.CALIBRATED", 4)
    with pytest.raises(UserError, match=f"make it with `python tracking/export.py --script {SCRIPT} --config mini "):
        create_tracker(SCRIPT, "mini", device="cpu", engine="openvino", precision="int8")
    assert export(SCRIPT, "mini", format="openvino", precision="int8", calibration=f"folder:{folder}") == 0
    assert "calibrating int8 on 4 search regions" in capsys.readouterr().out
    tracker = create_tracker(SCRIPT, "mini", device="cpu", engine="openvino", precision="int8")
    assert tracker.engine.name == "openvino int8"
    (plain,), (small,) = place.rglob("search.onnx"), place.rglob(f"search{INT8_SUFFIX}")
    assert small.with_suffix(".bin").stat().st_size < 0.4 * plain.stat().st_size
    with pytest.raises(UserError, match="at least two"):
        calibrate(plain.parent, CFG, [])
    before = small.stat().st_mtime_ns  # a calibration on one's own clips stays
    given = {"format": "openvino", "precision": "int8", "frames": f"folder:{folder}"}
    assert export(SCRIPT, "mini", **given) == 0
    assert f"kept (--overwrite calibrates anew) {small}" in capsys.readouterr().out
    assert small.stat().st_mtime_ns == before
    assert export(SCRIPT, "mini", overwrite=True, **given) == 0
    assert small.stat().st_mtime_ns > before


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A network that makes masks, its configuration, a folder for graphs, and inputs."""
    cfg = load_config("alpha_refine", "small")
    model = fill(AlphaRefine(cfg)).eval()
    # Another box than graphs are traced with: it must be an input, and no constant.
    reference, crop, box = image("z", 128, 128), image("x", 128, 128), np.array([30, 41, 70, 52], np.float32)
    with torch.no_grad():
        mask = network_mask(model, cfg, reference, box, crop)
        # Random weights make logits of billions, all of one sign; half of the mask is now the object's.
        last, scale = model.refiner.project.conv2, 2 / mask.std()
        last.weight.mul_(scale)
        last.bias.copy_((last.bias - mask.median()) * scale)
    folder = tmp_path_factory.mktemp("graphs")
    export_graphs(model, cfg, folder)
    return model, cfg, folder, (reference, box, crop)


@torch.no_grad()
def network_mask(model, cfg, reference, box, crop):
    """Logits (S, S) of the plain network."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))
    pixels = [(torch.from_numpy(each).permute(2, 0, 1)[None] / 255 - mean) / std for each in (reference, crop)]
    return model.segment(model.encode_reference(pixels[0], torch.from_numpy(box)[None]), pixels[1])[0, 0]


def test_engines_agree_with_the_network_on_masks(case, monkeypatch):
    model, cfg, folder, (reference, box, crop) = case
    mask = network_mask(model, cfg, reference, box, crop).sigmoid().numpy()
    assert 0.3 < (mask > 0.5).mean() < 0.7
    clips = [([reference, crop, crop], [box.tolist()])]
    monkeypatch.setattr("lib.test.tracker.export.CALIBRATED", 4)
    calibrate(folder, cfg, clips)
    assert (folder / "search.int8.bin").stat().st_size < 0.4 * (folder / "search.onnx").stat().st_size
    engines = [torch_engine(copy.deepcopy(model), cfg), graph_engine("onnx", folder), graph_engine("openvino", folder)]
    for engine in (*engines, graph_engine("openvino", folder, precision="int8")):
        (found,) = engine.search(crop[None], *engine.template(reference[None], box[None]))
        difference = np.abs(found[0] - mask)  # these weights make much of rounding
        assert difference.mean() < 0.2 if "int8" in engine.name else difference.max() < 1e-3
    other = copy.deepcopy(model)
    other.refiner.project.conv2.bias.data += 0.5
    found = compare_engines(torch_engine(other, cfg), engines[1], cfg, clips)
    assert max(found[MASK]) > TOLERANCES[MASK]


def test_masks_are_exported_and_compared(case, place, capsys, monkeypatch):
    model, _, _, (reference, box, _) = case
    monkeypatch.setattr("lib.test.tracker.export.clips_of", lambda _: [([reference] * 3, [box.tolist()])])
    save_checkpoint(place / "weights.pth.tar", {"net": model.state_dict()})
    given = {"checkpoint": str(place / "weights.pth.tar"), "format": "openvino", "output": place / "out"}
    assert export("alpha_refine", "small", **given) == 0
    assert {"template.xml", "search.xml"} <= {path.name for path in (place / "out").iterdir()}
    assert "3 search regions" in capsys.readouterr().out
