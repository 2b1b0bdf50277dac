"""The trained weights in the repository: they load anywhere, and they track."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from lib import __version__
from lib.config import load_config
from lib.data.registry import load_dataset, select_sequences
from lib.test.analysis.metrics import box_overlap
from lib.test.evaluation.sequences import track_sequence
from lib.test.tracker import (
    create_tracker,
    find_weights,
    graphs_folder,
    load_network,
    shipped_graphs,
    shipped_weights,
)
from lib.test.tracker.engines.graphs import graph_engine
from lib.test.tracker.engines.openvino import core
from lib.test.tracker.engines.pytorch import torch_engine
from lib.test.tracker.export import BOX, PIXELS, clips_of, compare_engines
from lib.utils.graph_files import ABOUT
from lib.utils.workspace import REPOSITORY

MINI = ("stark_lightning_X_trt", "mini")
REAL = Path(os.environ.get("STARK_REAL_DATA", REPOSITORY.parent / "shared" / "real"))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}; set STARK_REAL_DATA")
def test_they_follow_a_real_object_that_they_never_saw(place):
    (sequence,) = select_sequences(load_dataset(f"folder:{REAL / 'got10k' / 'val'}"), "Crossing")
    boxes, _ = track_sequence(create_tracker(*MINI, engine="onnx"), sequence)
    overlaps = box_overlap(boxes, sequence.truth)
    assert np.mean(overlaps[1:]) > 0.6
    assert np.mean(overlaps[1:] > 0.5) > 0.8


@pytest.mark.skipif("BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="no bf16 here")
def test_bf16_moves_boxes_by_less_than_half_a_pixel():
    """Depthwise kernels of the first layers nearly cancel: if they were in bf16, too, it would be twice as much."""
    fp32, bf16 = (graph_engine("openvino", shipped_graphs(*MINI), precision=name) for name in ("fp32", "bf16"))
    found = compare_engines(fp32, bf16, load_config(*MINI), clips_of(), most=40)
    assert np.mean(found[PIXELS]) < 0.5


def test_shipped_weights_are_found_small_and_plain_and_shipped_graphs_are_theirs(place):
    weights, graphs, cfg = shipped_weights(*MINI), shipped_graphs(*MINI), load_config(*MINI)
    assert find_weights(*MINI) == weights
    assert set(torch.load(weights, weights_only=True)) == {"net", "net_type"}
    about = json.loads((graphs / ABOUT).read_text())
    assert about["version"] == __version__
    assert about["origin"]["graphs"] == graphs_folder(*MINI, cfg, weights).name
    files = [weights, *graphs.iterdir()]
    assert sum(path.stat().st_size for path in files) < 12e6
    network = torch_engine(load_network(MINI[0], cfg, weights), cfg)
    found = compare_engines(network, graph_engine("onnx", graphs), cfg, clips_of(), most=40)
    assert np.mean(found[BOX]) < 3e-4  # weights in half precision
    for name, described in about["graphs"].items():
        session = onnxruntime.InferenceSession(graphs / name)
        inside = json.loads(session.get_modelmeta().custom_metadata_map["stark"])
        assert inside["inputs"] == described["inputs"]
        assert inside["search"] == {"size": 224, "factor": 4.2}
        for part, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            assert [each["name"] for each in described[part]] == [value.name for value in values]
            for each, value in zip(described[part], values, strict=True):
                assert value.type == f"tensor({each['type'].replace('float32', 'float')})"
                assert all(a == b for a, b in zip(each["shape"], value.shape, strict=True) if isinstance(b, int))
