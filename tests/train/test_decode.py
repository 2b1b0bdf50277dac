"""DATA.DECODE: what the default changes in samples, on real frames where there are any."""

import itertools
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.config import load_config
from lib.train.dataset import build_dataset
from lib.train.loader import SampleStream
from lib.train.processing import Processing
from lib.train.sampler import FrameSampler
from lib.utils import picture
from lib.utils.crop import Region, cut_picture, sample_target
from lib.utils.image import read_image
from tests.train.made_trees import write_lines

REAL_DATA = Path(os.environ.get("STARK_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/real"))
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no real data at {REAL_DATA}; set STARK_REAL_DATA")


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory):
    """A video of 1280x960 without much detail, so that it is decoded scaled down."""
    folder = tmp_path_factory.mktemp("enlarged")
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    frame = cv2.resize(noise, (1280, 960), interpolation=cv2.INTER_CUBIC)
    (folder / "video").mkdir()
    for number in range(20):
        cv2.imwrite(str(folder / "video" / f"{number + 1:08d}.jpg"), np.roll(frame, 8 * number, axis=1))
    boxes = [f"{400 + 8 * number},380,300,240" for number in range(20)]
    write_lines(folder / "video" / "groundtruth.txt", boxes)
    write_lines(folder / "list.txt", ["video"])
    return f"FOLDER:{folder}"


def stream(name, *overrides):
    cfg = load_config("stark_st1", "baseline", overrides)
    sampler = FrameSampler([build_dataset(name)], [1], "trident_pro", [200])
    return SampleStream(sampler, Processing(cfg, augment=True), 7, 0)


def crops(sample):
    return [*sample.templates, sample.search]


def assert_alike(fast, exact):
    """The same but for pixels, which differ by less than two levels on average; how much for each crop."""
    assert np.array_equal(fast.box, exact.box)
    assert np.array_equal(fast.brightness, exact.brightness)
    assert np.array_equal(fast.search_mask, exact.search_mask)
    assert np.array_equal(fast.template_masks, exact.template_masks)
    assert fast.sources == exact.sources
    return [np.abs(a.astype(int) - b).mean() for a, b in zip(crops(fast), crops(exact), strict=True)]


def test_the_default_differs_little_from_exact_and_only_in_pixels(enlarged):
    fast, exact = stream(enlarged), stream(enlarged, "DATA.DECODE=exact")
    differences = [assert_alike(fast[1, index], exact[1, index]) for index in range(10)]
    assert np.max(differences) < 2
    assert np.mean(differences) > 0  # something was decoded scaled down


def test_exact_crops_are_those_of_whole_frames(enlarged, monkeypatch):
    exact = stream(enlarged, "DATA.DECODE=exact")
    found = [exact[1, index] for index in range(10)]

    def from_whole(whole, region, mirrored, flipped, _):
        pixels = whole.part((0, whole.width), (0, whole.height))
        crop = region.cut(pixels[:, ::-1] if mirrored else pixels)
        return crop[:, ::-1] if flipped else crop

    monkeypatch.setattr("lib.train.processing.cut_picture", from_whole)
    for index, sample in enumerate(found):
        for a, b in zip(crops(sample), crops(exact[1, index]), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("decode", ["fast", "exact"])
def test_the_decoder_that_is_installed_changes_nothing(enlarged, decode, monkeypatch):
    samples = stream(enlarged, f"DATA.DECODE={decode}")
    found = [samples[1, index] for index in range(6)]
    monkeypatch.setattr(picture, "decode_part", lambda *_: None)
    for index, sample in enumerate(found):
        again = samples[1, index]
        assert np.array_equal(sample.search, again.search)
        assert np.array_equal(sample.templates, again.templates)


@needs_real_data
def test_the_default_on_real_frames():
    """Sharp photographs and small videos are decoded exactly; larger ones differ by less than two levels."""
    reduced = []
    for name in (f"FOLDER:{REAL_DATA / 'got10k' / part}" for part in ("train", "val")):
        fast, exact = stream(name, "DATA.SEARCH.FACTOR=6"), stream(name, "DATA.SEARCH.FACTOR=6", "DATA.DECODE=exact")
        reduced += itertools.chain(*(assert_alike(fast[1, index], exact[1, index]) for index in range(40)))
    photographs = f"COCO:{REAL_DATA / 'coco'}"
    fast, exact = stream(photographs), stream(photographs, "DATA.DECODE=exact")
    for index in range(20):
        reduced += assert_alike(fast[1, index], exact[1, index])
    assert np.mean(reduced) < 0.5
    assert np.max(reduced) < 2
    assert np.count_nonzero(reduced)


@needs_real_data
def test_reduced_crops_of_a_real_video_of_720_lines():
    """Each of them, whatever is in it."""
    rng = np.random.default_rng(3)
    for path in sorted((REAL_DATA / "got10k" / "val" / "boat1").glob("*.jpg"))[::60]:
        found, whole = picture.open_picture(path.read_bytes(), path), read_image(path)
        for _ in range(4):
            side = rng.uniform(150, 250)
            box = np.array([*rng.uniform(0.3, 0.7, 2) * (1280, 720) - side / 2, side, side])
            region = Region.around(box, 5.0, 320, *whole.shape[:2])
            assert found.reduction(1 / region.scale, 10**6) == 2
            exact, _, _ = sample_target(whole, box, 5.0, 320)
            assert np.abs(exact.astype(int) - cut_picture(found, region, reduced=True)).mean() < 2
