"""docs/api.md and docs/deploy.md: what they show runs, and does what they say."""

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


@pytest.fixture
def installed(tmp_path):
    """Variables of a process in which the package has its installed name."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stark_tracker").symlink_to(REPOSITORY / "lib")
    return os.environ | {"PYTHONPATH": str(tmp_path / "site"), "STARK_SAVE_DIR": str(tmp_path / "save")}


def test_the_snippets_of_the_api_run_one_after_the_other(installed, tmp_path):
    blocks = snippets("docs/api.md")
    assert len(blocks) == 8
    run = [sys.executable, "-c", "\n".join(blocks)]
    done = subprocess.run(run, cwd=tmp_path, env=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'rabbit': [") == 5
    tracked, dropped = map(int, re.search(r"(\d+) tracked, (\d+) dropped", done.stdout).groups())
    assert 0 < tracked <= 131
    assert tracked + dropped == 131
    assert not (tmp_path / "checkpoints").exists()


def test_the_example_of_the_readme_tracks_a_sample(installed, tmp_path):
    (example,) = snippets("README.md")
    run = [sys.executable, "-c", example]
    done = subprocess.run(run, cwd=tmp_path, env=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[-131:]
    assert len(lines) == 131
    path, sample = find_sample("sample:bigbuckbunny")
    tracker = create_tracker(*MINI, engine="onnx")
    frames = open_source(str(path)).frames
    tracker.initialize(next(frames), {"init_bbox": sample.box})
    expected = [tracker.track(frame) for frame in frames]
    words = [re.sub(r"[\[\],]", " ", line).split() for line in lines]
    boxes = np.array([each[:4] for each in words], float)
    # Another engine may have run: where the object is nearly lost, rounding grows.
    overlaps = box_overlap(boxes, np.array([result["target_bbox"] for result in expected]))
    assert overlaps[:10].min() > 0.99
    assert overlaps.mean() > 0.9
    for (*_, confidence, lost), result in zip(words[:10], expected[:10], strict=True):
        assert abs(float(confidence) - result["conf_score"]) < 0.01
        assert lost == str(result["lost"])


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
    rest = list(newest)
    assert rest in ([], [6])
    assert newest.dropped + 2 + len(rest) == 7
    with pytest.raises(UserError, match=r"a\.mp4 is no camera or stream"):
        open_source("a.mp4", newest=True)


def test_a_fault_of_a_stream_is_raised_where_frames_are_asked_for():
    def stream():
        yield 0
        raise UserError("the cable is loose")

    newest = NewestFrames(stream())
    with pytest.raises(UserError, match="cable"):
        list(newest)


def test_the_frames_end_when_a_stream_is_closed():
    newest = NewestFrames(iter(lambda: time.sleep(0.01) or 1, None))
    assert next(newest) == 1
    newest.close()
    assert list(newest) == []
    silent = NewestFrames(iter(lambda: threading.Event().wait() or 1, None))
    threading.Timer(0.05, silent.close).start()
    assert list(silent) == []  # a thread that waits for a frame is woken


def test_the_tracker_of_the_deployment_page_needs_nothing_of_the_project(tmp_path):
    (program,) = snippets("docs/deploy.md")
    path, sample = find_sample("sample:bigbuckbunny")
    graphs = shipped_graphs(*MINI)
    (tmp_path / "deployed.py").write_text(f"""
import sys
for name in ("torch", "lib", "stark_tracker"):
    sys.modules[name] = None
{program}
capture = cv2.VideoCapture({str(path)!r})
tracker = Tracker({str(graphs)!r})
tracker.initialize(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB), {sample.box})
found = [tracker.track(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)) for _ in range(30)]
np.save("found.npy", [[*box, score] for box, score in found])
""")
    subprocess.run([sys.executable, "deployed.py"], cwd=tmp_path, check=True)
    found = np.load(tmp_path / "found.npy")
    tracker = create_tracker(*MINI, engine="onnx", overrides=["TEST.LOST_BELOW=0"])
    tracker.engine.engine = graph_engine("onnx", graphs)  # fp16 weights, as shipped
    frames = open_source(str(path)).frames
    tracker.initialize(next(frames), {"init_bbox": sample.box})
    for row in found:
        result = tracker.track(next(frames))
        assert np.abs(row[:4] - result["target_bbox"]).max() < 0.01
        assert abs(row[4] - result["conf_score"]) < 1e-4


def test_frames_with_channels_in_reverse_order_are_taken():
    path, sample = find_sample("sample:bigbuckbunny")
    frames = [frame for frame, _ in zip(open_source(str(path)).frames, range(3), strict=False)]
    tracker = create_tracker(*MINI, engine="onnx")
    other = tracker.spawn()
    for each, change in ((tracker, np.array), (other, lambda frame: np.ascontiguousarray(frame[..., ::-1])[..., ::-1])):
        each.initialize(change(frames[0]), {"init_bbox": sample.box})
        each.found = [each.track(change(frame))["target_bbox"] for frame in frames[1:]]
    assert tracker.found == other.found


def test_a_spawned_tracker_has_an_object_of_its_own_on_the_same_network():
    path, sample = find_sample("sample:bigbuckbunny")
    frames = [frame for frame, _ in zip(open_source(str(path)).frames, range(3), strict=False)]
    tracker = create_tracker(*MINI, engine="onnx")
    tracker.initialize(frames[0], {"init_bbox": sample.box})
    alone = [tracker.track(frame)["target_bbox"] for frame in frames[1:]]
    tracker.initialize(frames[0], {"init_bbox": sample.box})
    other = tracker.spawn()
    assert other.engine is tracker.engine
    with pytest.raises(UserError, match="no object yet"):
        other.track(frames[1])
    other.initialize(frames[0], {"init_bbox": [900, 300, 200, 200]})
    beside = [(tracker.track(frame)["target_bbox"], other.track(frame)) for frame in frames[1:]]
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
        create_tracker(*MINI, engine=engine, num_threads=0)
