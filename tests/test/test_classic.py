"""OpenCV's trackers behind the interface of ours, and the comparison with them."""

import shutil

import cv2
import numpy as np
import pytest

from lib.test.tracker import create_tracker, learned_score
from lib.utils.errors import UserError
from tests.data.made_sets import write_boxes

COUNT = 8


def textured(shape: tuple[int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def frame(index: int) -> np.ndarray:
    """A textured object of 60x60 pixels that moves by 4 pixels a frame over another texture."""
    image = textured((200, 300), 1) // 2
    image[60:120, 40 + 4 * index : 100 + 4 * index] = textured((60, 60), 2)
    return image


@pytest.fixture
def moving(tmp_path):
    """A folder with a sequence of it."""
    folder = tmp_path / "set" / "moving"
    folder.mkdir(parents=True)
    for index in range(COUNT):
        cv2.imwrite(str(folder / f"{index + 1:08d}.jpg"), cv2.cvtColor(frame(index), cv2.COLOR_RGB2BGR))
    write_boxes(folder / "groundtruth.txt", np.array([(40.0 + 4 * i, 60, 60, 60) for i in range(COUNT)]))
    return folder.parent


@pytest.mark.parametrize("name", ["csrt", "kcf"])
def test_a_moving_object_is_followed_and_its_last_box_stays_where_it_is_lost(name):
    tracker = create_tracker(name, name)
    tracker.initialize(frame(0), {"init_bbox": [40, 60, 60, 60]})
    for index in range(1, COUNT):
        found = tracker.track(frame(index))
    assert np.allclose(found["target_bbox"], (40 + 4 * (COUNT - 1), 60, 60, 60), atol=6)
    assert found["conf_score"] == 1.0
    assert learned_score(found) is None
    if name == "kcf":  # CSRT reports no loss
        lost = tracker.track(np.zeros((200, 300, 3), np.uint8))
        assert lost == {"target_bbox": found["target_bbox"], "conf_score": 0.0, "conf_kind": "found"}
    tracker.initialize(frame(0), {"init_bbox": [-20, -20, 60, 60]})
    with pytest.raises(UserError, match="lies outside the 300x200 image"):
        tracker.initialize(frame(0), {"init_bbox": [300, 60, 60, 60]})


def test_an_opencv_without_them_is_said(monkeypatch):
    monkeypatch.delattr(cv2, "TrackerCSRT")
    with pytest.raises(UserError, match="no TrackerCSRT: .* pip install opencv-contrib-python-headless"):
        create_tracker("csrt", "csrt")


def compare(run_script, folder, trackers, results, *options) -> int:
    engine = ("--engine", "torch")
    return run_script("compare.py", folder, "--trackers", *trackers, "--results_dir", results, *engine, *options)


def test_trackers_are_run_and_scored_beside_each_other(moving, tmp_path, capsys, run_script):
    places = tmp_path / "results", "--output", tmp_path / "plots"
    assert compare(run_script, moving, ["kcf:kcf", "still:still"], *places) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    heading = next(row for row in table if row[:1] == ["Tracker"])
    scores = {row[0]: dict(zip(heading, row, strict=True)) for row in table if row[-1:] == ["1/1"]}
    assert list(scores) == ["kcf:kcf", "still:still"]  # the better one first
    assert float(scores["kcf:kcf"]["SR0.50"]) == 100 > float(scores["still:still"]["SR0.50"])
    assert float(scores["kcf:kcf"]["FPS"]) > 0
    assert (tmp_path / "plots" / "report.html").is_file()
    assert compare(run_script, f"folder:{moving}", ["kcf:kcf"], *places) == 0
    assert "1 finished before" in capsys.readouterr().out


def test_a_sequence_that_fails_is_told_by_the_status_and_a_wrong_name_before_anything_runs(
    moving, tmp_path, run_script, capsys
):
    shutil.copytree(moving / "moving", moving / "broken")
    (moving / "broken" / "00000004.jpg").write_bytes(b"no picture")
    for name in ("kcf", "kcf:kcf:1", "kcf:kcf=Mine"):
        assert compare(run_script, moving, ["still:still", name], tmp_path / "results") == 2
        assert "tracker:config" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    assert compare(run_script, moving, ["still:still"], tmp_path / "results", "--output", tmp_path / "plots") == 1
