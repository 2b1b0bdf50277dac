"""Benchmarks' command lines, and that every script still fits the code that it measures."""

import importlib

import pytest

from benchmarks.measuring import known_variant, known_way
from lib.utils.errors import UserError


def test_what_is_there_is_taken():
    assert known_variant("stark_st:baseline_R101") == "stark_st:baseline_R101"
    assert known_way("openvino:fp32+int8") == "openvino:fp32+int8"


@pytest.mark.parametrize("text", ["foo", "stark_s", "stark_s:nonsense", "still:still"])
def test_unknown_variants_are_named(text):
    with pytest.raises(UserError, match=r"TRACKER:CONFIG|no configuration"):
        known_variant(text)


@pytest.mark.parametrize("text", ["foo", "foo:fp32", "openvino", "openvino:fp16", "openvino:fp32+fp16"])
def test_unknown_ways_are_named(text):
    with pytest.raises(UserError, match=r"unknown|does not compute"):
        known_way(text)


@pytest.mark.parametrize("script", ["annotations", "data", "evaluation", "masks", "tracking", "training"])
def test_scripts_can_be_imported(script):
    assert callable(importlib.import_module(f"benchmarks.{script}").main)
