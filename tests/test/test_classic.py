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
from tests.test.web.made_clips import scene

# About the square of `scene`, which moves.
BOXES = np.array([(18.0 + 2 * i, 38, 28, 28) for i in range(12)])


@pytest.mark.parametrize("name", ["csrt", "kcf"])
def test_a_moving_object_is_followed_and_its_last_box_stays_where_it_is_lost(name):
    tracker = create_tracker(name, name)
    tracker.initialize(scene(0), {"init_bbox": BOXES[0]})
    for index in range(1, len(BOXES)):
        found = tracker.track(scene(index))
    assert np.allclose(found["target_bbox"], BOXES[-1], atol=3)
    assert found["conf_score"] == 1.0
    assert learned_score(found) is None
    lost = tracker.track(np.zeros((120, 160, 3), np.uint8))
    assert lost == {"target_bbox": found["target_bbox"], "conf_score": 0.0, "conf_kind": "found"}
    tracker.initialize(scene(0), {"init_bbox": [-20, -20, 60, 60]})
    with pytest.raises(UserError, match="lies outside the 160x120 image"):
        tracker.initialize(scene(0), {"init_bbox": [160, 60, 60, 60]})


def test_an_opencv_without_them_is_said(monkeypatch):
    monkeypatch.delattr(cv2, "TrackerCSRT")
    with pytest.raises(UserError, match="no TrackerCSRT: .* pip install opencv-contrib-python-headless"):
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


def test_trackers_are_run_and_scored_beside_each_other(tmp_path, capfd, run_script):
    folder, results = tmp_path / "set", tmp_path / "results"
    (folder / "moving").mkdir(parents=True)
    for index in range(len(BOXES)):
        cv2.imwrite(str(folder / "moving" / f"{index + 1:08d}.jpg"), scene(index))
    write_boxes(folder / "moving" / "groundtruth.txt", BOXES)

    def compare(where, *trackers, more=()) -> int:
        places = "--results_dir", results, "--output", tmp_path / "plots"
        return run_script("compare.py", where, "--trackers", *trackers, *places, "--engine", "torch", *more)

    for name in ("kcf", "kcf:kcf:1", "kcf:kcf=Mine"):  # wrong names are said before anything runs
        assert compare(folder, "still:still", name) == 2
        assert "tracker:config" in capfd.readouterr().err
    assert not results.exists()
    assert compare(folder, "kcf:kcf", "still:still") == 0
    table = [line.split() for line in capfd.readouterr().out.splitlines()]
    heading = next(row for row in table if row[:1] == ["Tracker"])
    scores = {row[0]: dict(zip(heading, row, strict=True)) for row in table if row[-1:] == ["1/1"]}
    assert list(scores) == ["kcf:kcf", "still:still"]  # the better one first
    assert float(scores["kcf:kcf"]["SR0.50"]) == 100 > float(scores["still:still"]["SR0.50"])
    assert float(scores["kcf:kcf"]["FPS"]) > 0
    assert (tmp_path / "plots" / "report.html").is_file()
    backbone, head = nano_files(tmp_path)
    assert compare(folder, "still:still", more=("--nano", backbone, head)) == 0
    printed = capfd.readouterr()
    assert any(line.split()[:1] == ["nano:nano"] and line.endswith("1/1") for line in printed.out.splitlines())
    assert "WARN" not in printed.err
    with pytest.raises(UserError, match=r"gone\.onnx, of the tracker nano, is missing"):
        create_tracker("nano", "nano", f"{tmp_path / 'gone.onnx'}{os.pathsep}{head}")
    with pytest.raises(UserError, match="takes 1 ONNX files, not 0: --vit"):
        create_tracker("vit", "vit")
    shutil.copytree(folder / "moving", folder / "broken")
    (folder / "broken" / "00000004.jpg").write_bytes(b"no picture")
    assert compare(f"folder:{folder}", "kcf:kcf") == 1  # a sequence fails
    assert "1 finished before" in capfd.readouterr().out
