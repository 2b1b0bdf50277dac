"""Every engine gives what PyTorch gives: the graphs, the tracker on them, and when they are made anew."""

import errno
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.config import EXPERIMENTS, load_config
from lib.models import build_model
from lib.models.export import export_graphs
from lib.test.tracker import create_tracker, exported, find_weights
from lib.test.tracker.engines.graphs import graph_engine
from lib.test.tracker.engines.pytorch import CudaGraphs, torch_engine, torch_part
from lib.test.tracker.stark import BoxEngine
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError
from lib.utils.graph_files import joined
from tests.golden.fill import fill, image, padded_mask
from tests.golden_cases import VARIANTS, reference_model

SCRIPT, CONFIG, _ = VARIANTS["stark_lightning"]
# Small networks with options that the published Lightning does not have.
SMALL = [
    *("MODEL.BACKBONE.TYPE=resnet18", "MODEL.HIDDEN_DIM=64"),
    *("MODEL.TRANSFORMER.ENC_LAYERS=1", "MODEL.TRANSFORMER.DEC_LAYERS=1", "MODEL.TRANSFORMER.DIM_FEEDFORWARD=64"),
    *("DATA.TEMPLATE.SIZE=64", "TEST.TEMPLATE_SIZE=64", "DATA.SEARCH.SIZE=160", "TEST.SEARCH_SIZE=160"),
]
ON_GRAPHS = ("onnx", "openvino")


@torch.no_grad()
def tamed(model):
    """Random weights make attention's logits millions, where rounding may choose another token; not so these."""
    model.bottleneck.weight.mul_(1e-3)
    return model


def region(name: str, size: int, padded: bool):
    """A crop and its mask, or None."""
    return image(name, size, size), padded_mask(f"{name}.mask", 1, size)[0].numpy() if padded else None


@pytest.mark.parametrize(
    ("script", "config", "overrides"),
    [
        ("stark_st2", "baseline", SMALL),
        ("stark_s", "baseline", [*SMALL, "MODEL.POSITION_EMBEDDING=learned"]),
        ("stark_s", "baseline", [*SMALL, "MODEL.HEAD_TYPE=MLP", "MODEL.NUM_OBJECT_QUERIES=3"]),
        *((SCRIPT, path.stem, ["MODEL.BACKBONE.DTYPE=bf16"]) for path in sorted((EXPERIMENTS / SCRIPT).glob("*.yaml"))),
    ],
)
def test_engines_agree_on_random_crops(script, config, overrides, tmp_path):
    cfg = load_config(script, config, overrides)
    model = tamed(fill(build_model(script, cfg)))
    export_graphs(model, cfg, tmp_path)
    model.extractor.dtype = "fp32"  # as graphs are, whatever the network was trained in
    each = torch_engine(model, cfg), *(graph_engine(name, tmp_path) for name in ON_GRAPHS)
    engines = [BoxEngine(engine) for engine in each]
    names = ("first", "second")[: 2 if script == "stark_st2" else 1]
    scored = script == "stark_st2" or cfg.MODEL.HEAD_TYPE == "CENTER"
    for padded in (False, True):
        templates = [region(name, cfg.DATA.TEMPLATE.SIZE, padded) for name in names]
        search = region("search", cfg.DATA.SEARCH.SIZE, padded)
        expected, *others = (e.search([e.encode_template(*t) for t in templates], *search) for e in engines)
        assert ("pred_logits" in expected) == scored
        for found in others:
            assert set(found) == set(expected)
            for name, value in found.items():
                assert value.shape == expected[name].shape
                np.testing.assert_allclose(value, expected[name], atol=1e-4)


def test_graphs_take_several_crops_at_a_time(tmp_path):
    cfg = load_config("stark_s", "baseline", SMALL)
    export_graphs(tamed(fill(build_model("stark_s", cfg))), cfg, tmp_path)
    sizes = [cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE]
    templates, crops = (np.stack([image(f"batch{size}.{i}", size, size) for i in range(3)]) for size in sizes)
    engine = graph_engine("onnx", tmp_path)
    position, bias = joined([engine.regions.attention_inputs(name, None) for name in ("template", "search")])
    found = engine.search(crops, bias, position, *engine.template(templates))[0]
    for i in range(3):
        alone = engine.search(crops[i : i + 1], bias, position, *engine.template(templates[i : i + 1]))[0]
        np.testing.assert_allclose(found[i], alone[0], atol=1e-5)


def test_graphs_are_kept_for_the_same_weights_and_made_for_new_ones(place):
    model, frame = tamed(reference_model("stark_lightning")), image("track.frame", 120, 160)
    path = place / "weights.pth.tar"
    save_checkpoint(path, {"net": model.state_dict()})

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
    save_checkpoint(path, {"net": model.state_dict()})
    second = step("onnx")
    np.testing.assert_allclose(second, step("torch"), atol=0.05)
    assert not np.allclose(second, first, atol=0.05)
    assert len(written()) == 4
    assert files.items() <= written().items()


@pytest.mark.parametrize("name", ON_GRAPHS)
def test_a_graph_that_is_missing_or_damaged(name, place, monkeypatch):
    cfg, weights = load_config(SCRIPT, "mini"), find_weights(SCRIPT, "mini")
    search = exported(SCRIPT, "mini", cfg, weights) / "search.onnx"
    whole = search.read_bytes()
    for damaged in (whole[:1000], b"", b"text"):
        search.write_bytes(damaged)
        with pytest.raises(UserError, match=r"cannot load .*search.onnx; remove it") as caught:
            create_tracker(SCRIPT, "mini", device="cpu", engine=name)
        assert "\n" not in str(caught.value)
    search.write_bytes(whole)
    regions = search.with_name("regions.npz")
    for damaged in (b"text", regions.read_bytes()[:-100]):
        regions.write_bytes(damaged)
        with pytest.raises(UserError, match="regions.npz is damaged; remove it to have it made anew"):
            create_tracker(SCRIPT, "mini", device="cpu", engine=name)
    regions.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.touch", refuse)
        with pytest.raises(UserError, match="cannot write the graphs to .*: Permission denied; the engine torch needs"):
            create_tracker(SCRIPT, "mini", device="cpu", engine=name)
    create_tracker(SCRIPT, "mini", device="cpu", engine=name)
    assert search.stat().st_size == len(whole)
    before = set(place.rglob("*"))
    monkeypatch.setattr("pathlib.Path.touch", refuse)
    assert create_tracker(SCRIPT, "mini", device="cpu", engine=name).engine.name == f"{name} fp32"
    assert set(place.rglob("*")) == before


def refuse(*_):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_cuda_graphs_are_captured_once_a_shape_and_computed_from_tensors_of_their_own(monkeypatch):
    """With a graph that, as a real one, computes anew from the tensors of its capture into those that it gave."""
    calls = []

    class Graph:
        def replay(self):
            own, outputs = next(entry[1:] for entry in graphs.captured.values() if entry[0] is self)
            for output, value in zip(outputs, double(*own), strict=True):
                output.copy_(value)

    @contextmanager
    def capture(graph, **_):
        assert len(calls) % 4 == 3  # the warm-up came before
        yield

    def double(x, y):
        return 2 * x.float() + y, y.clone()

    stream = SimpleNamespace(wait_stream=lambda _: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: stream)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
    graphs = CudaGraphs(lambda *inputs: (calls.append(len(inputs[0])), double(*inputs))[1], torch.device("cpu"))
    part = torch_part(lambda *inputs: [output.clone() for output in graphs(*inputs)], "cpu")  # as if from a device
    kept = []
    for i, size in enumerate((2, 3, 2, 3, 2)):
        crop, feature = np.full((size, 1), i, np.uint8), np.full((1, 1), 10.0 * i, np.float32)
        kept.append((part(crop, feature), size, i))
    for (found, feature), size, i in kept:  # two objects that take turns
        np.testing.assert_array_equal(found, np.full((size, 1), 12.0 * i))
        np.testing.assert_array_equal(feature, [[10.0 * i]])
    assert calls == [2] * 4 + [3] * 4
