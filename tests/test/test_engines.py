"""onnxruntime gives what PyTorch gives: the graphs, the tracker on them, and when they are made anew."""

import copy
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from lib.config import load_config
from lib.config.loader import EXPERIMENTS
from lib.models import build_model
from lib.models.export import SEARCH_FILE, TEMPLATE_FILE, kept_graphs
from lib.test.tracker import create_tracker, engines
from lib.test.tracker.engines import OnnxEngine, TorchEngine, create_engine, engine_device, open_graph
from lib.test.tracker.stark import SpatioTemporalTracker
from lib.utils.checkpoint import save_checkpoint
from lib.utils.crop import region_of
from lib.utils.errors import UserError
from lib.utils.tensors import NestedTensor
from tests.golden.fill import fill, image, normal, padded_mask
from tests.golden_cases import VARIANTS, golden, reference_inputs, reference_model

CPU = torch.device("cpu")
SCRIPT, CONFIG, _ = VARIANTS["stark_lightning"]
# Small networks with what the published Lightning has not.
SMALL = [
    *("MODEL.BACKBONE.TYPE=resnet18", "MODEL.HIDDEN_DIM=64"),
    *("MODEL.TRANSFORMER.ENC_LAYERS=1", "MODEL.TRANSFORMER.DEC_LAYERS=1", "MODEL.TRANSFORMER.DIM_FEEDFORWARD=64"),
    *("DATA.TEMPLATE.SIZE=64", "TEST.TEMPLATE_SIZE=64", "DATA.SEARCH.SIZE=160", "TEST.SEARCH_SIZE=160"),
]


@pytest.fixture(scope="module")
def lightning(tmp_path_factory):
    """The reference Lightning in PyTorch and in onnxruntime."""
    return both_engines(
        reference_model("stark_lightning"), load_config(SCRIPT, CONFIG), tmp_path_factory.mktemp("onnx")
    )


def both_engines(model, cfg, folder) -> tuple[TorchEngine, OnnxEngine]:
    in_onnx = create_engine("onnx", model, cfg, CPU, folder)
    return TorchEngine(model, CPU), in_onnx


@torch.no_grad()
def tamed(model):
    """Random weights make attention's logits millions, where rounding may choose another token; not so these."""
    model.bottleneck.weight.mul_(1e-3)
    return model


def assert_equal(pair, templates, search):
    """Both engines find the same; gives what PyTorch finds."""
    expected, found = (e.search([e.encode_template(t) for t in templates], search) for e in pair)
    assert set(found) == {"pred_boxes", "pred_logits"} & set(expected)
    for name, value in found.items():
        assert value.shape == expected[name].shape
        np.testing.assert_allclose(value, expected[name], atol=1e-4)
    return expected


def region(name: str, size: int, padded: bool) -> NestedTensor:
    return NestedTensor(normal(name, (1, 3, size, size)), padded_mask(f"{name}.mask", 1, size) if padded else None)


@pytest.mark.parametrize("template_padded", [False, True])
@pytest.mark.parametrize("search_padded", [False, True])
def test_lightning_on_random_crops(lightning, template_padded, search_padded):
    for i in range(3):
        template = region(f"engine.template{i}", 128, template_padded)
        assert_equal(lightning, [template], region(f"engine.search{i}", 320, search_padded))


def test_lightning_gives_the_published_boxes(lightning):
    templates, search = reference_inputs("stark_lightning")
    for i in range(2):
        one = [NestedTensor(r.tensors[i : i + 1], r.mask[i : i + 1]) for r in (*templates, search)]
        found = lightning[1].search([lightning[1].encode_template(one[0])], one[1])
        np.testing.assert_allclose(found["pred_boxes"].view(4), golden("stark_lightning")["pred_boxes"][i], atol=1e-4)


@pytest.mark.parametrize(
    ("script", "config", "overrides"),
    [
        pytest.param("stark_st2", "baseline", SMALL, id="two templates and a score"),
        pytest.param("stark_s", "baseline", [*SMALL, "MODEL.POSITION_EMBEDDING=none"], id="no positions"),
        pytest.param("stark_s", "baseline", [*SMALL, "MODEL.POSITION_EMBEDDING=learned"], id="learned positions"),
        pytest.param(
            "stark_s", "baseline", [*SMALL, "MODEL.HEAD_TYPE=MLP", "MODEL.NUM_OBJECT_QUERIES=3"], id="three queries"
        ),
        *(
            pytest.param(SCRIPT, path.stem, ["MODEL.BACKBONE.DTYPE=fp32"], id=path.stem)
            for path in sorted((EXPERIMENTS / SCRIPT).glob("*.yaml"))
        ),
    ],
)
def test_other_networks_on_random_crops(script, config, overrides, tmp_path):
    cfg = load_config(script, config, overrides)
    pair = both_engines(tamed(fill(build_model(script, cfg))), cfg, tmp_path)
    names = ("first", "second")[: 2 if script == "stark_st2" else 1]
    scored = script == "stark_st2" or cfg.MODEL.HEAD_TYPE == "CENTER"
    for padded in (False, True):
        templates = [region(name, cfg.DATA.TEMPLATE.SIZE, padded) for name in names]
        search = region("search", cfg.DATA.SEARCH.SIZE, padded)
        expected = assert_equal(pair, templates, search)
        assert ("pred_logits" in expected) == scored


def test_graphs_are_fp32_whatever_the_network_runs_in(tmp_path):
    cfg = load_config(SCRIPT, "quickstart", ["MODEL.BACKBONE.DTYPE=bf16", "MODEL.HEAD_TYPE=CORNER_LITE"])
    model = fill(build_model(SCRIPT, cfg))
    in_torch, in_onnx = both_engines(model, cfg, tmp_path)
    assert in_torch.model.extractor.dtype == "bf16"
    in_torch.model.extractor.dtype = "fp32"
    assert_equal(
        (in_torch, in_onnx), [region("t", cfg.DATA.TEMPLATE.SIZE, False)], region("s", cfg.DATA.SEARCH.SIZE, True)
    )


def test_names_and_shapes_are_the_published_ones(lightning, tmp_path):
    graphs = kept_graphs(lightning[0].model, load_config(SCRIPT, CONFIG), tmp_path)

    def described(values):
        return [(value.name, value.shape, value.type) for value in values]

    floats, flags = "tensor(float)", "tensor(bool)"
    template, search = open_graph(graphs.template, CPU), open_graph(graphs.search, CPU)
    assert described(template.get_inputs()) == [("img_z", [1, 3, 128, 128], floats), ("mask_z", [1, 128, 128], flags)]
    assert described(template.get_outputs()) == [
        ("feat", [64, 1, 128], floats),
        ("mask", [1, 64], flags),
        ("pos", [64, 1, 128], floats),
    ]
    assert described(search.get_inputs()) == [
        ("img_x", [1, 3, 320, 320], floats),
        ("mask_x", [1, 320, 320], flags),
        ("feat_vec_z", [64, 1, 128], floats),
        ("mask_vec_z", [1, 64], flags),
        ("pos_vec_z", [64, 1, 128], floats),
    ]
    assert described(search.get_outputs()) == [("outputs_coord", [1, 1, 4], floats)]
    assert (graphs.template.name, graphs.search.name) == ("backbone_bottleneck_pe.onnx", "complete.onnx")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working place of its own; gives its folder."""
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    return tmp_path


def saved(model, path):
    save_checkpoint(path, {"net": model.state_dict(), "net_type": type(model).__name__, "epoch": 1})
    return path


@pytest.mark.parametrize("box", [[200, 150, 60, 50], [-15, 320, 60, 50]], ids=["inside", "at the border"])
def test_tracker_gives_the_same_boxes(place, box):
    path = saved(tamed(reference_model("stark_lightning")), place / "weights.pth.tar")
    trackers = [create_tracker(SCRIPT, CONFIG, path, device="cpu", engine=engine) for engine in ("torch", "onnx")]
    assert isinstance(trackers[1].engine, OnnxEngine)
    frame = image("track.frame", 360, 480)
    for tracker in trackers:
        tracker.initialize(frame, {"init_bbox": box})
    for i in range(1, 6):
        side = region_of(trackers[0].state, 5.0)[2]
        expected, found = (t.track(np.roll(frame, (3 * i, 5 * i), (0, 1)))["target_bbox"] for t in trackers)
        np.testing.assert_allclose(found, expected, atol=1e-4 * side)
        trackers[1].state = list(trackers[0].state)  # so that rounding does not add up
    assert len(list(place.glob(f"checkpoints/onnx/{SCRIPT}/{CONFIG}/*/*.onnx"))) == 2


def test_the_dynamic_template_is_replaced_in_onnxruntime_too(tmp_path):
    cfg = load_config("stark_st2", "baseline", SMALL)
    model = tamed(fill(build_model("stark_st2", cfg)))
    with torch.no_grad():
        model.cls_head.layers[-1].bias.fill_(20)  # sure of itself
    trackers = [SpatioTemporalTracker(e, cfg, update_interval=2) for e in both_engines(model, cfg, tmp_path)[::-1]]
    frame = image("track.frame", 240, 320)
    for tracker in trackers:
        tracker.initialize(frame, {"init_bbox": [150, 100, 60, 50]})
    for i in range(1, 5):
        found, expected = (tracker.track(np.roll(frame, 5 * i, 1)) for tracker in trackers)
        np.testing.assert_allclose(found["target_bbox"], expected["target_bbox"], atol=0.05)
        assert found["conf_score"] == pytest.approx(expected["conf_score"], abs=1e-4)
        assert (trackers[0].templates[1] is trackers[0].templates[0]) == (i < 2)


def test_graphs_are_kept_for_the_same_weights_and_made_for_new_ones(place):
    model, frame = tamed(reference_model("stark_lightning")), image("track.frame", 120, 160)
    path = saved(model, place / "weights.pth.tar")

    def step(engine):
        tracker = create_tracker(SCRIPT, CONFIG, path, device="cpu", engine=engine)
        tracker.initialize(frame, {"init_bbox": [50, 40, 30, 30]})
        return tracker.track(frame)["target_bbox"]

    def written():
        return {file: file.stat().st_mtime_ns for file in place.rglob("*.onnx")}

    first, files = step("onnx"), written()
    assert len(files) == 2
    assert step("onnx") == first
    assert written() == files
    with torch.no_grad():
        model.box_head.conv_tower[2].weight.mul_(5)  # the file's name stays, its weights do not
    saved(model, path)
    second = step("onnx")
    np.testing.assert_allclose(second, step("torch"), atol=0.05)
    assert not np.allclose(second, first, atol=0.05)
    assert len(written()) == 4
    assert files.items() <= written().items()


def test_a_graph_that_is_missing_or_damaged(tmp_path):
    model, cfg = reference_model("stark_lightning"), load_config(SCRIPT, CONFIG)
    graphs = kept_graphs(copy.deepcopy(model), cfg, tmp_path)
    whole = graphs.search.read_bytes()
    for damaged in (whole[:1000], b"", b"text"):
        graphs.search.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"cannot load .*{SEARCH_FILE}; remove it") as caught:
            create_engine("onnx", model, cfg, CPU, tmp_path)
        assert "\n" not in str(caught.value)
    graphs.search.unlink()
    create_engine("onnx", model, cfg, CPU, tmp_path)
    assert graphs.search.stat().st_size == len(whole)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"cannot write .*{TEMPLATE_FILE}"):
        create_engine("onnx", reference_model("stark_lightning"), load_config(SCRIPT, CONFIG), CPU, tmp_path / "file")


def test_onnxruntime_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        create_tracker(SCRIPT, CONFIG, "no_such_file", engine="onnx")


@pytest.mark.parametrize(
    ("wanted", "best", "providers", "expected"),
    [
        ("auto", "cuda", ["CPUExecutionProvider"], "cpu"),
        ("auto", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda"),
        ("cuda:1", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda:1"),
        ("cpu", "cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cpu"),
        ("auto", "mps", ["CUDAExecutionProvider", "CPUExecutionProvider"], "cpu"),
        ("cuda", "cuda", ["CPUExecutionProvider"], UserError),
        ("mps", "mps", ["CPUExecutionProvider"], UserError),
    ],
)
def test_devices_of_onnxruntime(monkeypatch, wanted, best, providers, expected):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(engines, "select_device", lambda name: torch.device(best if name == "auto" else name))
    if expected is UserError:
        with pytest.raises(UserError, match="onnx"):
            engine_device("onnx", wanted)
    else:
        assert engine_device("onnx", wanted) == torch.device(expected)
