"""Benchmarks' command lines, and that every script still fits the code that it measures."""

import numpy as np
import pytest

from benchmarks import data, evaluation, limits, training
from benchmarks.measuring import known_variant, known_way
from lib.test.tracker.engines.openvino import openvino
from lib.utils.errors import UserError


def test_unknown_variants_and_ways_are_named():
    assert callable(evaluation.main)
    assert known_variant("stark_st:baseline_R101") == "stark_st:baseline_R101"
    for text in ("foo", "stark_s", "stark_s:nonsense", "still:still"):
        with pytest.raises(UserError, match=r"TRACKER:CONFIG|no configuration"):
            known_variant(text)
    assert known_way("openvino:fp32+int8") == "openvino:fp32+int8"
    for text in ("foo", "foo:fp32", "openvino", "openvino:fp16", "openvino:fp32+fp16"):
        with pytest.raises(UserError, match=r"unknown|does not compute"):
            known_way(text)


def test_annotations_are_read_plainly_and_from_the_cache(tmp_path):
    rows = data.measure_annotations(tmp_path, 3, rounds=2, frames=5)
    assert [row["way"] for row in rows] == ["plain", "read and cached", "from the cache"]
    assert data.read_plainly(tmp_path / "lasot") == 15
    assert list((tmp_path / "cache").iterdir())


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
