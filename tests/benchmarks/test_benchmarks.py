"""The benchmarks still fit the code that they measure; what comes of parts that fail or take too long."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu, limits, measuring, training
from benchmarks.tracking import make_tracker
from lib.test.tracker.engines.openvino import openvino
from lib.utils.errors import UserError


def test_words_of_a_command_line_that_mean_nothing_are_named():
    assert measuring.known_way("openvino:fp32+int8") == "openvino:fp32+int8"
    known = measuring.known_variant, measuring.known_way, lambda text: training.configured(text, "fp8+compile")
    for check, texts in zip(known, ("foo stark_s still:still", "foo onnx:int8", "stark_s stark_s:x:4"), strict=True):
        for text in (*texts.split(), "stark_s:baseline:4"):
            with pytest.raises(UserError):
                check(text)


@pytest.mark.parametrize("variant", ["stark_lightning_X_trt:mini", "stark_st:baseline"])
def test_the_plain_tracker_finds_the_same_boxes(variant):
    frames, box = measuring.clip_frames(3, 640, 360), [260.0, 150.0, 85.0, 55.0]
    plain, ours = (make_tracker(variant, way, Path()) for way in ("plain", "torch:fp32"))
    for tracker in (plain, ours):
        tracker.initialize(frames[0], {"init_bbox": box})
    for frame in frames[1:]:
        expected, found = (tracker.track(frame)["target_bbox"] for tracker in (plain, ours))
        assert np.abs(np.subtract(expected, found)).max() < 0.05


def test_a_graphs_products_are_found_and_each_can_be_run(tmp_path):
    ov, operations = openvino(), openvino().opset13
    image, tokens = operations.parameter([1, 8, 10, 12], np.float32), operations.parameter([1, 4, 15, 6], np.float32)
    weights = operations.constant(np.ones((16, 8, 3, 3), np.float32))
    grid = operations.convolution(image, weights, [2, 2], [1, 1], [1, 1], [1, 1])
    near = operations.matmul(tokens, operations.constant(np.ones((7, 6), np.float32)), False, True)
    each_other = operations.matmul(tokens, tokens, False, True)
    ov.save_model(ov.Model([grid, near, each_other], [image, tokens]), tmp_path / "graph.xml")
    found = limits.products(tmp_path / "graph.xml")
    expected = [(1, 30, 72, 16, True, False), (1, 60, 6, 7, True, False), (4, 15, 6, 15, False, False)]
    assert found == dict.fromkeys(expected, 1)
    assert limits.multiplications(found) == 30 * 72 * 16 + 60 * 6 * 7 + 4 * 15 * 6 * 15
    sizes = sorted(found)
    requests = [limits.product_request(each._replace(int8=int8), "f32", 1) for each in sizes for int8 in (False, True)]
    assert limits.floor([(request, 2) for request in requests]) > 0
    shapes = [tuple(request.get_output_tensor(0).shape) for request in requests[::2]]
    assert shapes == [(1, 30, 16), (1, 60, 7), (4, 15, 15)]


def test_a_training_step_is_named_by_variant_and_way(monkeypatch):
    asked = []
    monkeypatch.setattr(training, "choose_arithmetic", lambda net, cfg, device: asked.append(cfg.TRAIN))
    values, _ = training.make_step("stark_lightning_X_trt:mini:2", "bf16+compile")()
    assert values["Loss/total"] > 0
    assert (asked[0].AMP, asked[0].COMPILE, asked[0].BATCH_SIZE) == ("bf16", "default", 2)


def test_tests_for_a_gpu_pass_on_the_cpu():
    *_, last = gpu.tests("cpu", small=True)
    assert last["status"] == 0
    assert "1 passed" in last["result"]


def test_what_fails_on_a_gpu_is_noted_and_what_takes_too_long_is_stopped(monkeypatch, tmp_path):
    output, parts = tmp_path / "gpu.json", {"loader": (gpu.load, 0.5), "tracking": gpu.PARTS["tracking"]}
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cpu", "--small", "--output", str(output)])
    gpu.main()
    late, *tracked = json.loads(output.read_text())["rows"]
    assert late == {"part": "loader", "error": "stopped after its 0.5 seconds"}
    assert [row["way"] for row in tracked] == ["torch:fp32", "onnx:fp32"]
    assert all(row["frames/s"] == pytest.approx(1e3 / row["ms"]) for row in tracked)
    monkeypatch.setattr(gpu, "SMALL", "stark_lightning_X_trt:nonsense")
    rows = list(gpu.training("cpu", small=True))
    assert [row["way"] for row in rows] == ["fp32", "bf16"]
    assert all(row["error"].startswith("ConfigError: ") for row in rows)
