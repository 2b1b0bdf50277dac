"""Crop arithmetic against the numbers of the published system, and at the edges; pixels as the network takes them."""

import numpy as np
import pytest
import torch

from lib.utils.crop import CropError, box_to_crop, clip_box, sample_target, shows_nothing, stretched_crop
from lib.utils.tensors import Preprocessor
from tests.golden.fill import image
from tests.golden_cases import golden


@pytest.fixture(scope="module")
def crops():
    return golden("crops")


@pytest.fixture(scope="module")
def frame():
    return image("crop.image", 360, 480)


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize(("kind", "factor", "size"), [("template", 2.0, 128), ("search", 5.0, 320)])
def test_golden_crops(crops, frame, kind, factor, size, index):
    crop, resize_factor, mask = sample_target(frame, crops["boxes"][index], factor, size)
    name = f"{kind}{index}"
    assert resize_factor == pytest.approx(float(crops[f"{name}.resize_factor"]), abs=1e-9)
    expected = crops[f"{name}.crop"].astype(int)
    assert np.abs(crop[::4, ::4].astype(int) - expected).max() <= 1
    assert (np.packbits(mask) == crops[f"{name}.mask"]).all()


def test_golden_boxes(crops):
    columns = (crops[f"to_crop.{key}"] for key in ("box", "around", "resize_factor", "out"))
    for box, around, factor, out in zip(*columns, strict=True):
        np.testing.assert_allclose(box_to_crop(box, around, factor, 320) / 320, out, atol=1e-5)
    for box, out in zip(crops["clip.box"], crops["clip.out"], strict=True):
        np.testing.assert_allclose(clip_box(box, 360, 480, 10), out, atol=1e-6)
    assert clip_box([50, 50, 5, 5], 4, 6) == [0, 0, 6, 4]  # an image smaller than the margin


@pytest.mark.parametrize("box", [[1000, 1000, 50, 50], [-400, 20, 30, 30], [100, -900, 60, 20]])
def test_a_region_outside_the_image_is_all_padding(frame, box):
    crop, _, mask = sample_target(frame, box, 2.0, 128)
    assert mask.all()
    assert not crop.any()
    assert shows_nothing(mask, 8)


@pytest.mark.parametrize("box", [[10, 20, 400, 300], [-300, -200, 700, 600]])
def test_large_regions_are_sampled_to_the_same_crop(frame, monkeypatch, box):
    built = sample_target(frame[:, ::-1], box, 5.0, 320)
    monkeypatch.setattr("lib.utils.crop.LARGEST_BUILT_SIDE", 100)
    sampled = sample_target(frame[:, ::-1], box, 5.0, 320)
    assert np.abs(sampled[0].astype(int) - built[0].astype(int)).max() <= 1
    assert (sampled[2] == built[2]).all()
    assert sample_target(frame, [-5e5, -5e5, 1e6, 1e6], 5.0, 320)[2].mean() > 0.99  # needs no huge memory


@pytest.mark.parametrize("box", [[0, 0, 0, 9], [0, 0, 9, -1], [0, 0, np.nan, 9], [np.inf, 0, 1, 1], [0, 0, 1e12, 9]])
def test_a_box_without_area_is_an_error(frame, box):
    for cut in (lambda: sample_target(frame, box, 2.0, 128), lambda: stretched_crop(frame, box, 64)):
        with pytest.raises(CropError, match="box"):
            cut()


def test_pixels_are_brightened_cut_off_at_white_and_normalised():
    crops = torch.tensor([[[[0, 51, 255]]], [[[0, 51, 255]]]], dtype=torch.uint8)
    preprocess = Preprocessor([0.5, 0.4, 0.3], [0.2, 0.5, 1.0], torch.device("cpu"))
    found = preprocess.pixels(crops, torch.tensor([0.5, 1.5]))
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = torch.tensor([[-2.5, -0.6, 0.2], [-2.5, -0.2, 0.7]])
    torch.testing.assert_close(found[:, :, 0, 0], expected)
