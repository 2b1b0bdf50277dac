"""OpenCV's trackers behind the interface of ours, and the comparison with them."""

import os
import shutil

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

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
def test_a_moving_object_is_followed(name):
    tracker = create_tracker(name, name)
    tracker.initialize(frame(0), {"init_bbox": [40, 60, 60, 60]})
    for index in range(1, COUNT):
        found = tracker.track(frame(index))
    assert np.allclose(found["target_bbox"], (40 + 4 * (COUNT - 1), 60, 60, 60), atol=6)
    assert found["conf_score"] == 1.0
    assert learned_score(found) is None


def test_the_last_box_stays_where_the_object_is_lost():
    tracker = create_tracker("kcf", "kcf")
    tracker.initialize(frame(0), {"init_bbox": [40, 60, 60, 60]})
    before = tracker.track(frame(1))["target_bbox"]
    lost = tracker.track(np.zeros((200, 300, 3), np.uint8))
    assert lost == {"target_bbox": before, "conf_score": 0.0, "conf_kind": "found"}


def test_a_box_may_reach_outside_but_not_lie_there():
    tracker = create_tracker("csrt", "csrt")
    tracker.initialize(frame(0), {"init_bbox": [-20, -20, 60, 60]})
    with pytest.raises(UserError, match="lies outside the 300x200 image"):
        tracker.initialize(frame(0), {"init_bbox": [300, 60, 60, 60]})


def test_an_opencv_without_them_is_said(monkeypatch):
    monkeypatch.delattr(cv2, "TrackerCSRT")
    with pytest.raises(UserError, match="this OpenCV has no CSRT: .* pip install opencv-contrib-python-headless"):
        create_tracker("csrt", "csrt")


def nano_files(folder):
    """A network of NanoTrack's form: sure where the picture differs from the template, boxes of one size."""

    def save(name, nodes, inputs, outputs, weights=()):
        values = [
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, [1, "c", "h", "w"]) for each in names]
            for names in (inputs, outputs)
        ]
        initial = [helper.make_tensor(key, TensorProto.FLOAT, w.shape, w.ravel()) for key, w in weights]
        opset = [helper.make_opsetid("", 13)]
        graph = helper.make_graph(nodes, name, *values, initial)
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / name)
        return folder / name

    node = helper.make_node
    pool = node("AveragePool", ["input"], ["output"], kernel_shape=[15, 15], strides=[16, 16])
    head = [
        node("GlobalAveragePool", ["input1"], ["mean"]),
        node("Sub", ["input2", "mean"], ["difference"]),
        node("Conv", ["difference", "score"], ["output1"], kernel_shape=[1, 1]),
        node("Conv", ["difference", "box", "sides"], ["output2"], kernel_shape=[1, 1]),
    ]
    score = np.array([[-0.1], [0.1]], np.float32).repeat(3, 1)[..., None, None]
    weights = [("score", score), ("box", np.zeros((4, 3, 1, 1), np.float32)), ("sides", np.full(4, 32, np.float32))]
    return (
        save("backbone.onnx", [pool], ["input"], ["output"]),
        save("head.onnx", head, ["input1", "input2"], ["output1", "output2"], weights),
    )


def test_nanotrack_stands_beside_them_where_its_files_are_given(moving, tmp_path, run_script, capfd):
    places = tmp_path / "results", "--output", tmp_path / "plots"
    backbone, head = nano_files(tmp_path)
    assert compare(run_script, moving, ["still:still"], *places, "--nano", backbone, head) == 0
    printed = capfd.readouterr()
    assert any(line.split()[:1] == ["nano:nano"] and line.endswith("1/1") for line in printed.out.splitlines())
    assert "WARN" not in printed.err
    with pytest.raises(UserError, match=r"gone\.onnx, of the tracker nano, is missing"):
        create_tracker("nano", "nano", f"{tmp_path / 'gone.onnx'}{os.pathsep}{head}")
    with pytest.raises(UserError, match="takes 1 ONNX files, not 0: --vit"):
        create_tracker("vit", "vit")


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


def test_a_sequence_that_fails_is_told_by_the_status(moving, tmp_path, run_script):
    shutil.copytree(moving / "moving", moving / "broken")
    (moving / "broken" / "00000004.jpg").write_bytes(b"no picture")
    assert compare(run_script, moving, ["still:still"], tmp_path / "results", "--output", tmp_path / "plots") == 1


@pytest.mark.parametrize("name", ["kcf", "kcf:kcf:1", "kcf:kcf=Mine"])
def test_a_wrong_name_is_said_before_anything_runs(name, moving, tmp_path, run_script, capsys):
    assert compare(run_script, moving, ["still:still", name], tmp_path / "results") == 2
    assert "tracker:config" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
