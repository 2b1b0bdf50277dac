"""The plain ways that fast ones are held against compute the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import measuring
from benchmarks import plain as plain_ways
from benchmarks.plain import PlainProcessing
from benchmarks.tracking import make_tracker
from lib.config import load_config
from lib.data.registry import build_dataset
from lib.data.synthetic import generate
from lib.train.loader import SampleStream
from lib.train.processing import Processing
from lib.train.sampler import FrameSampler


def test_plain_samples_are_the_same(tmp_path):
    """Crops to one level of 255 (before brightness), masks and boxes as they are."""
    generate(tmp_path / "videos", seed=3, sequences=2, frames=24, split="train", workers=1, progress=False)
    dataset = build_dataset(f"FOLDER:{tmp_path / 'videos'}")
    cfg = load_config("stark_st1", "baseline", ["DATA.GRAY_PROBABILITY=0.3"])
    sampler = FrameSampler([dataset], [1], "trident_pro", [200])
    ours, plain = (SampleStream(sampler, way, 5, 0) for way in (Processing(cfg, True), PlainProcessing(cfg)))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))
    for index in range(12):
        a, b = ours[1, index], plain[1, index]
        assert a.sources == b.sources
        assert np.allclose(a.box, b.box, atol=1e-6)
        masks = zip((*a.template_masks, a.search_mask), (*b.template_masks, b.search_mask), strict=True)
        assert all(np.array_equal(mask, plain_mask) for mask, plain_mask in masks)
        pairs = zip((*a.templates, a.search), (*b.templates, b.search), a.brightness, strict=True)
        for crop, plain_crop, brightness in pairs:
            levels = ((plain_crop * std + mean) * 255).permute(1, 2, 0).numpy()
            expected = (crop * brightness).clip(max=255)
            assert np.abs(levels - expected).max() <= 1.01 * max(1, brightness)


@pytest.mark.parametrize("variant", ["stark_lightning_X_trt:mini", "stark_st:baseline"])
def test_the_plain_tracker_finds_the_same_boxes_in_its_own_crops(variant, monkeypatch):
    cuts, original = [], plain_ways.whole_crop
    monkeypatch.setattr(plain_ways, "whole_crop", lambda *args: cuts.append(args) or original(*args))
    frames, box = measuring.clip_frames(3, 640, 360), [260.0, 150.0, 85.0, 55.0]
    plain, ours = (make_tracker(variant, way, Path()) for way in ("plain", "torch:fp32"))
    for tracker in (plain, ours):
        tracker.initialize(frames[0], {"init_bbox": box})
    for frame in frames[1:]:
        expected, found = (tracker.track(frame)["target_bbox"] for tracker in (plain, ours))
        assert np.abs(np.subtract(expected, found)).max() < 0.05
    assert len(cuts) >= len(frames) - 1
