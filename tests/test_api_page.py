"""docs/api.md and docs/deploy.md: what they show runs, and does what they say."""

import itertools
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from lib.data.registry import find_sample
from lib.test.analysis.metrics import box_overlap
from lib.test.tracker import create_tracker, shipped_graphs
from lib.test.tracker.engines.graphs import graph_engine
from lib.test.video.source import NewestFrames, open_source
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY

MINI = ("stark_lightning_X_trt", "mini")


def snippets(page: str) -> list[str]:
    """The Python blocks of a page, but for those that are marked as not run."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    text = re.sub(r"<!-- not run here -->\n```python\n.*?```", "", text, flags=re.DOTALL)
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def clip(count):
    """The sample's first frames, and its box."""
    path, sample = find_sample("sample:bigbuckbunny")
    return list(itertools.islice(open_source(str(path)).frames, count)), sample.box


def test_the_snippets_run_one_after_the_other(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stark_tracker").symlink_to(REPOSITORY / "lib")  # by which name the package is installed
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "STARK_SAVE_DIR": str(tmp_path / "save")}
    (example,), blocks = snippets("README.md"), snippets("docs/api.md")
    assert len(blocks) == 8
    run = [sys.executable, "-c", "\n".join([example, *blocks])]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'rabbit': [") == 5
    tracked, dropped = map(int, re.search(r"(\d+) tracked, (\d+) dropped", done.stdout).groups())
    assert 0 < tracked <= 131
    assert tracked + dropped == 131
    assert not (tmp_path / "checkpoints").exists()
    lines = re.findall(r"(?m)^\[(.*)\] (\S+) (True|False)$", done.stdout)
    assert len(lines) == 2 * 131
    tracker, (frames, box) = create_tracker(*MINI, engine="onnx"), clip(11)
    tracker.initialize(frames[0], {"init_bbox": box})
    for (shown, confidence, lost), frame in zip(lines, frames[1:], strict=False):
        result = tracker.track(frame)  # another engine may have run
        assert box_overlap(np.array([shown.split(",")], float), np.array([result["target_bbox"]])).min() > 0.99
        assert (float(confidence), lost) == (pytest.approx(result["conf_score"], abs=0.01), str(result["lost"]))


def test_only_the_newest_frame_of_a_stream_counts():
    read, go = threading.Event(), threading.Event()

    def stream():
        yield 0
        go.wait()
        yield from range(1, 6)
        read.set()
        yield 6

    newest = NewestFrames(stream())
    assert next(newest) == 0
    go.set()
    read.wait()
    assert next(newest) in (5, 6)
    assert newest.dropped + 2 + len(list(newest)) == 7
    newest = NewestFrames(iter(lambda: time.sleep(0.01) or 1, None))
    assert next(newest) == 1
    newest.close()
    assert list(newest) == []
    silent = NewestFrames(iter(lambda: threading.Event().wait() or 1, None))
    threading.Timer(0.05, silent.close).start()
    assert list(silent) == []  # a thread that waits for a frame is woken


def test_a_fault_of_a_stream_is_raised_where_frames_are_asked_for():
    with pytest.raises(ZeroDivisionError):
        list(NewestFrames(1 / number for number in (2, 1, 0)))
    with pytest.raises(UserError, match=r"a\.mp4 is no camera or stream"):
        open_source("a.mp4", newest=True)


def test_the_tracker_of_the_deployment_page_needs_nothing_of_the_project(tmp_path):
    (program,) = snippets("docs/deploy.md")
    (frames, box), graphs = clip(31), shipped_graphs(*MINI)
    np.save(tmp_path / "frames.npy", frames)
    (tmp_path / "deployed.py").write_text(f"""
import sys
for name in ("torch", "lib", "stark_tracker"):
    sys.modules[name] = None
{program}
first, *frames = np.load("frames.npy")
tracker = Tracker({str(graphs)!r})
tracker.initialize(first, {box})
np.save("found.npy", [[*box, score] for box, score in map(tracker.track, frames)])
""")
    subprocess.run([sys.executable, "deployed.py"], cwd=tmp_path, check=True)
    tracker = create_tracker(*MINI, engine="onnx", overrides=["TEST.LOST_BELOW=0"])
    tracker.engine.engine = graph_engine("onnx", graphs)  # fp16 weights, as shipped
    tracker.initialize(frames[0], {"init_bbox": box})
    for row, frame in zip(np.load(tmp_path / "found.npy"), frames[1:], strict=True):
        result = tracker.track(frame)
        assert np.abs(row[:4] - result["target_bbox"]).max() < 0.01
        assert abs(row[4] - result["conf_score"]) < 1e-4


def test_a_spawned_tracker_has_an_object_of_its_own_on_the_same_network():
    frames, box = clip(3)
    tracker = create_tracker(*MINI, engine="onnx")
    tracker.initialize(frames[0], {"init_bbox": box})
    alone = [tracker.track(frame)["target_bbox"] for frame in frames[1:]]
    reverse = [np.ascontiguousarray(frame[..., ::-1])[..., ::-1] for frame in frames]  # views of BGR frames
    tracker.initialize(reverse[0], {"init_bbox": box})
    other = tracker.spawn()
    assert other.engine is tracker.engine
    with pytest.raises(UserError, match="no object yet"):
        other.track(frames[1])
    other.initialize(frames[0], {"init_bbox": [900, 300, 200, 200]})
    beside = [(tracker.track(frame)["target_bbox"], other.track(frame)) for frame in reverse[1:]]
    assert [box for box, _ in beside] == alone


@pytest.mark.parametrize("engine", ["onnx", "openvino", "torch"])
def test_threads_are_chosen(engine):
    before = torch.get_num_threads()
    try:
        tracker = create_tracker(*MINI, engine=engine, num_threads=1)
        tracker.initialize(np.zeros((60, 80, 3), np.uint8), {"init_bbox": [20, 20, 20, 20]})
        assert torch.get_num_threads() == (1 if engine == "torch" else before)
    finally:
        torch.set_num_threads(before)
    with pytest.raises(UserError, match="must be 1 or more"):
        create_tracker(*MINI, engine="onnx", num_threads=0)
