"""Benchmarks' command lines, and that every script still fits the code that it measures."""

import importlib

import pytest

from benchmarks import data, training
from benchmarks.measuring import known_variant, known_way
from lib.utils.errors import UserError


def test_unknown_variants_and_ways_are_named():
    assert known_variant("stark_st:baseline_R101") == "stark_st:baseline_R101"
    for text in ("foo", "stark_s", "stark_s:nonsense", "still:still"):
        with pytest.raises(UserError, match=r"TRACKER:CONFIG|no configuration"):
            known_variant(text)
    assert known_way("openvino:fp32+int8") == "openvino:fp32+int8"
    for text in ("foo", "foo:fp32", "openvino", "openvino:fp16", "openvino:fp32+fp16"):
        with pytest.raises(UserError, match=r"unknown|does not compute"):
            known_way(text)


def test_the_evaluation_can_be_imported():
    assert callable(importlib.import_module("benchmarks.evaluation").main)


def test_annotations_are_read_plainly_and_from_the_cache(tmp_path):
    rows = data.measure_annotations(tmp_path, 3, rounds=2, frames=5)
    assert [row["way"] for row in rows] == ["plain", "read and cached", "from the cache"]
    assert data.read_plainly(tmp_path / "lasot") == 15
    assert list((tmp_path / "cache").iterdir())


def test_a_training_step_is_named_by_variant_and_way(monkeypatch):
    asked = []
    monkeypatch.setattr(training, "choose_arithmetic", lambda net, cfg, device: asked.append(cfg.TRAIN))
    values, _ = training.make_step("stark_lightning_X_trt:mini:2", "bf16+compile")()
    assert values["Loss/total"] > 0
    assert (asked[0].AMP, asked[0].COMPILE, asked[0].BATCH_SIZE) == ("bf16", "default", 2)
