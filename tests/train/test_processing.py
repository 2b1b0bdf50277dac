"""From frames to crops, and the stream of batches."""

import cv2
import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.train.loader import BatchLoader, SampleStream
from lib.train.processing import Processing, jitter_box
from lib.train.sampler import FrameRef, FrameSampler, SampledFrames
from lib.utils.errors import UserError
from tests.train.fakes import FakeVideos, extent


def config(*overrides):
    return load_config("stark_s", "baseline", overrides)


def stream(data, *overrides, augment=True, seed=1, kind=0):
    sampler = FrameSampler([data], [1], "causal", [50])
    return SampleStream(sampler, Processing(config(*overrides), augment), seed, kind)


VIDEOS = [np.ones(40, bool)] * 3


def test_the_box_is_where_the_object_is_in_the_crop():
    """In every augmented crop the box must frame the bright square."""
    samples = stream(FakeVideos(VIDEOS), "DATA.SEARCH.CENTER_JITTER=1.5")
    for index in range(60):
        sample = samples[(1, index)]
        bright = cv2.cvtColor(sample.search, cv2.COLOR_RGB2GRAY) > 60
        found = extent(bright)
        x, y, w, h = sample.box * 320
        box = np.array([x, y, x + w, y + h]).clip(0, 320)
        # A pixel of the frame is some pixels of the crop.
        assert np.abs(found - box).max() < 6, (index, found, box)
        assert not (sample.search[sample.search_mask] > 25).any()


def test_jitter_ranges():
    rng = np.random.default_rng(0)
    box = np.array([50.0, 60.0, 40.0, 10.0])
    drawn = np.array([jitter_box(box, 4.5, 0.5, rng) for _ in range(8000)])
    logs = np.log(drawn[:, 2:] / box[2:])
    np.testing.assert_allclose(logs.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(logs.std(0), 0.5, atol=0.02)
    shift = drawn[:, :2] + drawn[:, 2:] / 2 - box[:2] - box[2:] / 2
    relative = shift / np.sqrt(drawn[:, 2:].prod(1, keepdims=True))
    assert np.abs(relative).max() <= 2.25
    assert np.abs(relative).max() > 2.2
    np.testing.assert_allclose(relative.std(0), 4.5 / np.sqrt(12), atol=0.03)
    np.testing.assert_allclose(jitter_box(box, 0, 0, rng), box)


def test_detail_is_lost_in_all_crops_of_a_sample_and_motion_blurs_the_search_region_alone():
    def detail(crops):
        return np.abs(np.diff(crops.astype(float), axis=-2)).mean()

    class Noise(FakeVideos):
        def image(self, sequence, frame):
            return np.random.default_rng(frame).integers(0, 256, (*self.size, 3), np.uint8)

    usual, coarse, blurred = (
        stream(Noise(VIDEOS), *options)[1, 0] for options in ([], ["DATA.LOW_RESOLUTION=1"], ["DATA.MOTION_BLUR=1"])
    )
    assert detail(coarse.templates) < 0.5 * detail(usual.templates)
    assert detail(coarse.search) < 0.5 * detail(usual.search)
    assert np.array_equal(blurred.templates, usual.templates)
    assert detail(blurred.search) < detail(usual.search)
    for other in (coarse, blurred):
        assert np.array_equal(other.box, usual.box)


def test_augmentation_rates():
    class Halves(FakeVideos):
        """Left half of every frame red, right half blue: shows mirroring and greying."""

        def image(self, sequence, frame):
            image = np.zeros((*self.size, 3), np.uint8)
            image[:, :80, 0] = image[:, 80:, 2] = 100
            return image

        def info(self, sequence):
            info = super().info(sequence)
            info.boxes[:] = (70, 50, 20, 20)
            return info

    overrides = ["DATA.SEARCH.CENTER_JITTER=0", "DATA.SEARCH.SCALE_JITTER=0", "DATA.SEARCH.FACTOR=2.0"]
    samples = [stream(Halves(VIDEOS), *overrides)[(1, i)] for i in range(600)]
    gray = np.array([(s.search[..., 0] == s.search[..., 1]).all() for s in samples])
    red_left = [[crop[64, 20, 0] > crop[64, 20, 2] for crop in (s.templates[0], s.search)] for s in samples]
    both = np.array(red_left)[~gray]
    assert 0.02 < gray.mean() < 0.09
    # Mirrored together with one half, and each once more with one half: independent in the end.
    assert 0.42 < both[:, 0].mean() < 0.58
    assert 0.42 < (both[:, 0] == both[:, 1]).mean() < 0.58
    bright = np.concatenate([s.brightness for s in samples])
    assert 0.8 <= bright.min() < 0.82
    assert 1.18 < bright.max() <= 1.2
    plain = [stream(Halves(VIDEOS), *overrides, augment=False)[(1, i)] for i in range(100)]
    assert all((s.brightness == 1).all() for s in plain)
    agree = [(s.templates[0][64, 20, 0] > 50) == (s.search[64, 20, 0] > 50) for s in plain]
    assert all(agree)


def test_an_absent_object_has_the_middle_of_the_image():
    data = FakeVideos(VIDEOS, size=(200, 400))
    processing = Processing(config("DATA.SEARCH.CENTER_JITTER=0", "DATA.SEARCH.SCALE_JITTER=0"), augment=False)
    draw = SampledFrames((FrameRef(data, 0, 0),), FrameRef(data, 0, 5), positive=False, absent=True)
    sample = processing(draw, np.random.default_rng(0))
    assert sample.label == 0
    # An eighth of each side, in a region of five times sqrt(50 * 25) pixels, around its centre.
    side = np.ceil(np.sqrt(50 * 25) * 5)
    np.testing.assert_allclose(sample.box[2:], [50 / side, 25 / side], rtol=1e-5)
    np.testing.assert_allclose(sample.box[:2] + sample.box[2:] / 2, 0.5, atol=0.01)


def test_workers_compute_with_one_thread_each():
    class Threads(FakeVideos):
        """Frames that come from where they are read."""

        def source(self, sequence, frame):
            return f"{torch.get_num_threads()} {cv2.getNumThreads()}"

    sources = [s for b in BatchLoader(stream(Threads(VIDEOS)), 8, 4, 2).epoch(1) for pair in b.sources for s in pair]
    assert set(sources) == {"1 1"}


def test_samples_differ_by_epoch_rank_seed_and_stream():
    def boxes(seed=1, rank=0, kind=0, epoch=1):
        loader = BatchLoader(stream(FakeVideos(VIDEOS), seed=seed, kind=kind), 16, 4, 0, rank=rank, world_size=2)
        return np.concatenate([b.boxes for b in loader.epoch(epoch)])

    first = boxes()
    assert (first == boxes()).all()
    for other in (boxes(seed=2), boxes(rank=1), boxes(kind=1), boxes(epoch=2)):
        assert not (first == other).all(axis=1).any()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_that_cannot_be_read_stops_with_the_list(workers):
    broken = [(s, f) for s in range(3) for f in range(40)]
    loader = BatchLoader(stream(FakeVideos(VIDEOS, broken=broken)), 8, 4, workers)
    with pytest.raises(UserError, match=r"100 files in a row could not be read: cannot decode image fake/"):
        next(loader.epoch(1))


def test_a_data_set_without_usable_boxes_stops():
    class Flat(FakeVideos):
        def info(self, sequence):
            info = super().info(sequence)
            info.boxes[:, 2] = 0
            return info

    with pytest.raises(UserError, match="no area"):
        next(BatchLoader(stream(Flat(VIDEOS)), 8, 4, 0).epoch(1))
