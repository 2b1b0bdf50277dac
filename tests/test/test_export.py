"""Exporting for an engine: files, the comparison on real crops, int8 after calibration."""

import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.models.alpha_refine import AlphaRefine
from lib.models.export import export_graphs
from lib.test.tracker import create_tracker, find_weights, load_network
from lib.test.tracker.engines import Engine
from lib.test.tracker.engines.graphs import graph_engine
from lib.test.tracker.engines.openvino import INT8_SUFFIX, core
from lib.test.tracker.engines.pytorch import torch_engine
from lib.test.tracker.export import BOX, LOGIT, MASK, OVERLAP, PIXELS, TOLERANCES, compare_engines, export
from lib.test.tracker.quantise import SEARCHES, calibrate, clips_of, follow, record
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from lib.utils.graph_files import Regions
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


@pytest.fixture(scope="module")
def model():
    return load_network(SCRIPT, CFG, find_weights(SCRIPT, "mini"))


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


def test_a_graph_of_other_weights_does_not_agree(model, folder, tmp_path):
    export_graphs(model, CFG, tmp_path)
    other = load_network(SCRIPT, CFG, find_weights(SCRIPT, "mini"))
    with torch.no_grad():
        other.box_head.score[-1].weight.mul_(-1)
    found = compare_engines(
        torch_engine(other, CFG), graph_engine("openvino", tmp_path), CFG, clips_of(f"folder:{folder}")
    )
    assert [len(found[name]) for name in (BOX, PIXELS, LOGIT)] == [22] * 3
    assert max(found[BOX]) > TOLERANCES[BOX]


def test_int8_is_calibrated_on_frames_and_tracks(place, folder, capsys):
    with pytest.raises(UserError, match=f"make it with `python tracking/export.py --script {SCRIPT} --config mini "):
        create_tracker(SCRIPT, "mini", device="cpu", engine="openvino", precision="int8")
    assert export(SCRIPT, "mini", format="openvino", precision="int8", calibration=f"folder:{folder}") == 0
    assert "calibrating int8 on 22 search regions" in capsys.readouterr().out
    tracker = create_tracker(SCRIPT, "mini", device="cpu", engine="openvino", precision="int8")
    assert tracker.engine.name == "openvino int8"
    assert "calibrating" not in capsys.readouterr().out  # it runs what was exported
    frame = image("export.frame", 120, 160)
    tracker.initialize(frame, {"init_bbox": [50, 40, 30, 30]})
    x, y, w, h = tracker.track(frame)["target_bbox"]
    assert abs(x + w / 2 - 65) < 6
    assert abs(y + h / 2 - 55) < 6
    (plain,), (small,) = place.rglob("search.onnx"), place.rglob(f"search{INT8_SUFFIX}")
    assert small.with_suffix(".bin").stat().st_size < 0.4 * plain.stat().st_size


def test_the_inputs_of_the_search_part_are_recorded(model, folder):
    engine, templates = torch_engine(model, CFG), []
    engine = replace(engine, template=lambda *given, encode=engine.template: templates.append(given) or encode(*given))
    inputs = record(engine, CFG, clips_of(f"folder:{folder}"))
    assert len(inputs) == 22
    assert len(templates) == 4  # each begins anew at frame 10, whose box is known
    assert inputs[0][0].shape == (1, 224, 224, 3)
    with pytest.raises(UserError, match="at least two"):
        record(engine, CFG, [])


def test_each_clip_of_a_set_shows_its_own_frames(tmp_path):
    for grey, name in ((50, "first"), (200, "second")):
        (tmp_path / name).mkdir()
        for i in (1, 2):
            cv2.imwrite(str(tmp_path / name / f"{i:08d}.png"), np.full((40, 60, 3), grey, np.uint8))
        (tmp_path / name / "groundtruth.txt").write_text("5,5,20,20\n" * 2)
    (tmp_path / "list.txt").write_text("first\nsecond\n")
    assert [[frame.mean() for frame in frames] for frames, _ in clips_of(f"folder:{tmp_path}")] == [[50] * 2, [200] * 2]


def test_calibration_on_the_samples_is_replaced_by_one_on_clips_of_ones_own(tmp_path):
    (tmp_path / f"search{INT8_SUFFIX}").touch()
    calibrate(tmp_path, CFG)  # an earlier one
    with pytest.raises(UserError):
        calibrate(tmp_path, CFG, [])


def test_of_many_clips_some_are_followed():
    """Of as many as there are searches, from all over the list."""
    shown = []

    def search(crop, *_):
        shown.append(int(crop.max()))
        return [np.array([[[0.5, 0.5, 0.2, 0.2]]]), np.zeros((1, 1, 1))]

    positions = {"template": np.zeros((1, 36, 8), np.float32), "search": np.zeros((1, 196, 8), np.float32)}
    outputs = ("pred_boxes", "pred_logits")
    regions = Regions({"template": 96, "search": 224}, 16, 1, positions, sine=False, outputs=outputs)
    engine = Engine("finds the middle", lambda *_: [np.zeros(1)], search, regions)
    clips = [([np.full((60, 80, 3), i, np.uint8)] * 5, [[30, 20, 20, 20]]) for i in range(180)]
    assert len(list(follow(engine, CFG, clips, SEARCHES))) == len(set(shown)) == SEARCHES
    assert max(shown) > 170


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"script": "stark_st1", "config": "baseline"}, "no tracker runs networks of 'stark_st1'"),
        ({"script": SCRIPT, "config": "mini", "format": "coreml"}, "unknown format 'coreml'"),
        ({"script": SCRIPT, "config": "mini", "precision": "bf16"}, "onnx does not compute in bf16"),
    ],
)
def test_mistakes_in_exporting_are_said(place, arguments, message):
    with pytest.raises(UserError, match=message):
        export(**arguments)


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


def test_graphs_of_masks_take_several_crops_at_a_time(case):
    engine, (reference, box, crop) = engine_of(case, "onnx"), case[3]
    references, boxes, crops = np.stack([reference, crop]), np.stack([box, box + 9]), np.stack([crop, crop[::-1]])
    (masks,) = engine.search(crops, *engine.template(references, boxes))
    for i in range(2):
        np.testing.assert_allclose(masks[i], mask_of(engine, references[i], boxes[i], crops[i])[1], atol=1e-3)


def test_masks_of_other_weights_do_not_agree(case):
    model, clips = copy.deepcopy(case[0]), [([case[3][0]] * 3, [case[3][1].tolist()])]
    model.refiner.project.conv2.bias.data += 0.5
    found = compare_engines(torch_engine(model, case[1]), engine_of(case, "onnx"), case[1], clips)
    assert max(found[MASK]) > TOLERANCES[MASK]
    assert max(found[OVERLAP]) > 0.01


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
