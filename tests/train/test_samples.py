"""Samples: which frames, what becomes of them in crops and batches, and what each of many processes sees."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from lib.config import load_config
from lib.train.loader import BatchLoader, SampleStream
from lib.train.options import RunOptions
from lib.train.processing import Processing, jitter_box
from lib.train.sampler import FrameRef, FrameSampler, SampledFrames
from lib.utils.errors import UserError
from tests.train.tiny_runs import REAL, FakeVideos, complete, extent, log_of, several

DRAWS = 2000


def draws(sampler, count=DRAWS):
    return [sampler.sample(np.random.default_rng([5, i])) for i in range(count)]


def hidden(length, *frames):
    seen = np.ones(length, bool)
    seen[list(frames)] = False
    return seen


def test_causal_searches_after_the_template_within_an_interval_that_widens_until_a_frame_is_visible():
    data = FakeVideos([hidden(60, 5, 6, 7, 30)])
    gaps = Counter()
    for draw in draws(FrameSampler([data], [1], "causal", [10])):
        (template,), search = draw.templates, draw.search
        assert data.visible[0][template.frame]
        assert data.visible[0][search.frame]
        assert 1 <= search.frame - template.frame <= 10
        if 8 <= template.frame < 20:  # all ten frames after it are visible
            gaps[search.frame - template.frame] += 1
    assert set(gaps) == set(range(1, 11))
    mean = sum(gaps.values()) / 10
    assert all(0.5 * mean < count < 1.6 * mean for count in gaps.values())
    seen = np.zeros(100, bool)
    seen[:10] = seen[70:73] = True
    found = draws(FrameSampler([FakeVideos([seen])], [1], "causal", [3]))
    gaps = {draw.search.frame - draw.templates[0].frame for draw in found}
    assert {g for g in gaps if g > 10} <= set(range(61, 75))
    assert {1, 61} <= gaps


@pytest.mark.parametrize("mode", ["trident", "trident_pro", "stark"])
def test_trident_takes_dynamic_templates_on_the_templates_side(mode):
    class SomeInvalid(FakeVideos):
        def info(self, sequence):
            info = super().info(sequence)
            info.valid[::2] = mode != "stark"
            return type(info)(info.boxes, info.valid, info.visible & info.valid)

    data = SomeInvalid([hidden(80, *range(20, 40))])
    sides, dynamic_hidden, info = Counter(), 0, data.info(0)
    for draw in draws(FrameSampler([data], [1], mode, [10, 25])):
        template, *dynamic = (ref.frame for ref in draw.templates)
        search = draw.search.frame
        assert info.visible[[template, search]].all()
        assert info.valid[dynamic].all()
        before = template < search
        sides[before] += 1
        for frame, interval in zip(dynamic, (10, 25), strict=True):
            assert 1 <= (search - frame if before else frame - search) <= interval
            dynamic_hidden += not info.visible[frame]
    assert 0.4 < sides[True] / DRAWS < 0.6
    assert (dynamic_hidden > 0) == (mode != "trident")


def test_datasets_are_drawn_by_ratio():
    sets = [FakeVideos([np.ones(30, bool)] * 3, name) for name in "abc"]
    counts = Counter(d.search.dataset.name for d in draws(FrameSampler(sets, [1, 3, 0], "causal", [9])))
    assert counts["c"] == 0
    assert 0.70 < counts["b"] / DRAWS < 0.80


def test_only_sequences_with_enough_frames_are_drawn():
    short, rare, good = np.ones(19, bool), np.zeros(100, bool), np.ones(20, bool)
    rare[:4] = True
    sampler = FrameSampler([FakeVideos([short, rare, good])], [1], "causal", [9])
    assert {d.search.sequence for d in draws(sampler, 200)} == {2}
    with pytest.raises(UserError, match="more than 4 visible frames"):
        FrameSampler([FakeVideos([short, rare])], [1], "causal", [9]).sample(np.random.default_rng(0))


def test_images_are_repeated():
    data = FakeVideos([[True], [True], [False]], is_video=False)
    for mode, templates in (("causal", 1), ("trident_pro", 2)):
        for draw in draws(FrameSampler([data], [1], mode, [200]), 100):
            assert {(r.sequence, r.frame) for r in (*draw.templates, draw.search)} == {(draw.search.sequence, 0)}
            assert draw.search.sequence != 2
            assert len(draw.templates) == templates


def test_half_of_the_score_samples_are_negative():
    always, sometimes = np.ones(60, bool), hidden(60, *range(10, 20))
    sampler = FrameSampler([FakeVideos([always, sometimes, always])], [1], "trident_pro", [20], negatives=True)
    found = draws(sampler)
    assert 0.45 < sum(d.positive for d in found) / DRAWS < 0.55
    for draw in (d for d in found if not d.positive):
        same = draw.search.sequence == draw.templates[0].sequence
        assert same == draw.absent == (draw.templates[0].sequence == 1)
        assert sampler.datasets[0].visible[draw.search.sequence][draw.search.frame] != draw.absent
    assert all(d.positive for d in draws(FrameSampler([FakeVideos([always])], [1], "trident_pro", [20]), 50))
    with pytest.raises(UserError, match="at least two"):
        draws(FrameSampler([FakeVideos([always])], [1], "trident_pro", [20], negatives=True), 20)


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

    ways = (), ("DATA.LOW_RESOLUTION=1",), ("DATA.MOTION_BLUR=1",)
    usual, coarse, blurred = (stream(Noise(VIDEOS), *options)[1, 0] for options in ways)
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


def test_samples_differ_by_epoch_rank_seed_and_stream():
    def boxes(seed=1, rank=0, kind=0, epoch=1):
        loader = BatchLoader(stream(FakeVideos(VIDEOS), seed=seed, kind=kind), 16, 4, 0, rank=rank, world_size=2)
        return np.concatenate([b.boxes for b in loader.epoch(epoch)])

    first = boxes()
    assert (first == boxes()).all()
    for other in (boxes(seed=2), boxes(rank=1), boxes(kind=1), boxes(epoch=2)):
        assert not (first == other).all(axis=1).any()


class Flat(FakeVideos):
    def info(self, sequence):
        info = super().info(sequence)
        info.boxes[:, 2] = 0
        return info


UNREADABLE = FakeVideos(VIDEOS, broken=[(s, f) for s in range(3) for f in range(40)])


@pytest.mark.parametrize(
    ("data", "workers", "message"),
    [
        (UNREADABLE, 1, "100 files in a row could not be read: cannot decode image fake/"),
        (Flat(VIDEOS), 0, "1000 samples in a row could not be used; the last: .* no area"),
    ],
)
def test_a_data_set_that_cannot_be_used_stops_with_the_list(data, workers, message):
    with pytest.raises(UserError, match=message):
        next(BatchLoader(stream(data), 8, 4, workers).epoch(1))


RANKS = 64


@pytest.fixture(scope="module")
def many():
    cfg = load_config("stark_s", "baseline")
    videos = FakeVideos([[True] * 400] * 50)
    return SampleStream(FrameSampler([videos], [1], "causal", [200]), Processing(cfg, augment=True), seed=7, stream=0)


def loaders(many, samples, batch=16, accumulate=1, world=RANKS):
    return [
        BatchLoader(many, samples, batch, 0, accumulate=accumulate, rank=rank, world_size=world)
        for rank in range(world)
    ]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_epoch_of_64_processes_covers_its_samples_once(accumulate, many):
    keys = [loader.keys_of(3) for loader in loaders(many, 60000, accumulate=accumulate)]
    together = [key for part in keys for key in part]
    assert len(set(together)) == len(together)
    assert set(together) >= {(3, index) for index in range(60000)}
    assert len(together) < 60000 + RANKS * 16 * accumulate  # no more than the last step's rest
    assert {len(part) for part in keys} == {len(keys[0])}
    assert loaders(many, 60000, world=8)[0].steps == 469  # as published: 60,000 samples, 16 on each of 8 GPUs


def test_two_processes_see_in_a_step_what_one_sees_with_twice_the_batch(many):
    one = BatchLoader(many, 64, 8, 0)
    two = loaders(many, 64, batch=4, world=2)
    assert one.steps == two[0].steps
    for step in range(one.steps):
        whole = set(one.keys_of(1)[step * 8 : step * 8 + 8])
        parts = [set(loader.keys_of(1)[step * 4 : step * 4 + 4]) for loader in two]
        assert parts[0] | parts[1] == whole


def test_a_resumed_epoch_draws_the_rest_whatever_the_number_of_workers(many):
    whole, rest = (list(BatchLoader(many, 24, 4, workers).epoch(2, start)) for workers, start in ((0, 0), (2, 2)))
    for a, b in zip(whole[2:], rest, strict=True):
        assert (a.search == b.search).all()
        assert (a.boxes == b.boxes).all()
        assert a.sources == b.sources


SMALL = (
    *("MODEL.HEAD_TYPE=MLP", "MODEL.BACKBONE.PRETRAINED=false", "MODEL.TRANSFORMER.DROPOUT=0"),
    *("DATA.TEMPLATE.SIZE=64", "TEST.TEMPLATE_SIZE=64", "DATA.SEARCH.SIZE=128", "TEST.SEARCH_SIZE=128"),
    *("DATA.TRAIN.DATASETS_RATIO=[1, 1]", "DATA.TRAIN.SAMPLE_PER_EPOCH=24", "DATA.VAL.DATASETS_NAME=[]"),
    *("TRAIN.CROSSED_CORNERS=sorted", "TRAIN.PRINT_INTERVAL=1", "TRAIN.NUM_WORKER=0", "TRAIN.EPOCH=1"),
)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}; set STARK_REAL_DATA")
def test_two_processes_train_like_one_with_twice_the_batch(tmp_path):
    """On real data; dropout off, and an MLP for a head, so that no batch norm learns.

    AdamW's first steps have the size of the rate whatever the gradient, so they enlarge rounding.
    """
    data = f"DATA.TRAIN.DATASETS_NAME=['FOLDER:{REAL / 'got10k' / 'train'}', 'COCO:{REAL / 'coco'}']"

    def losses(folder, processes, batch):
        run = RunOptions("stark_s", "baseline", folder, overrides=(data, *SMALL, f"TRAIN.BATCH_SIZE={batch}"))
        complete(run, *several(processes))
        entries = [json.loads(line) for line in log_of(run, "jsonl").read_text().splitlines()]
        return np.array([(entry["Loss/total"], entry["grad_norm"]) for entry in entries])

    one, two = losses(tmp_path / "one", 1, 8), losses(tmp_path / "two", 2, 4)
    assert len(one) == len(two) == 3
    assert two[:, 0] == pytest.approx(one[:, 0], rel=1e-3)
    assert two[:, 1] == pytest.approx(one[:, 1], rel=1e-2)
