"""The trained weights in the repository: they load anywhere, and they track."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.data.registry import load_dataset, select_sequences
from lib.models.export import export_graphs
from lib.test.analysis.metrics import box_overlap
from lib.test.evaluation.one_sequence import track_sequence
from lib.test.tracker import create_tracker, load_network, shipped_weights, weights_path
from lib.test.tracker.clips import clips_of
from lib.test.tracker.engines import graph_engine
from lib.test.tracker.export import BOX, PIXELS, compare_engines
from lib.utils.workspace import REPOSITORY

MINI = ("stark_lightning_X_trt", "mini")
REAL = Path(os.environ.get("STARK_REAL_DATA", REPOSITORY.parent / "shared" / "real"))


def test_they_are_found_small_and_plain(tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    path = weights_path(*MINI)
    assert path == shipped_weights(*MINI) == REPOSITORY / "experiments" / MINI[0] / "mini.pth.tar"
    assert path.stat().st_size < 20 * 2**20
    assert set(torch.load(path, weights_only=True)) == {"net", "net_type"}


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}; set STARK_REAL_DATA")
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_they_follow_a_real_object_that_they_never_saw(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    (sequence,) = select_sequences(load_dataset(f"folder:{REAL / 'got10k' / 'val'}"), "Crossing")
    boxes, _ = track_sequence(create_tracker(*MINI, engine=engine), sequence)
    overlaps = box_overlap(boxes, sequence.truth)
    assert np.mean(overlaps[1:]) > 0.6
    assert np.mean(overlaps[1:] > 0.5) > 0.8


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}; set STARK_REAL_DATA")
def test_bf16_moves_boxes_by_less_than_half_a_pixel(tmp_path):
    """From the same box before each frame, as the mean over the frames of the largest of a box's four numbers."""
    cfg = load_config(*MINI)
    export_graphs(load_network(MINI[0], cfg, shipped_weights(*MINI)), cfg, tmp_path)
    fp32, bf16 = (graph_engine("openvino", tmp_path, precision=precision) for precision in ("fp32", "bf16"))
    found = compare_engines(fp32, bf16, cfg, clips_of(f"folder:{REAL / 'got10k' / 'val'}"), most=180)
    assert len(found[BOX]) == 180
    assert np.mean(found[PIXELS]) < 0.4
    assert np.max(found[BOX]) < 0.01
