"""Which frames are drawn: distributions over many draws."""

from collections import Counter

import numpy as np
import pytest

from lib.train.sampler import FrameSampler
from lib.utils.errors import UserError
from tests.train.fakes import FakeVideos

DRAWS = 2000


def draws(sampler, count=DRAWS):
    return [sampler.sample(np.random.default_rng([5, i])) for i in range(count)]


def hidden(length, *frames):
    seen = np.ones(length, bool)
    seen[list(frames)] = False
    return seen


def test_causal_searches_after_the_template_and_within_the_interval():
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


def test_causal_widens_the_interval_until_a_frame_is_visible():
    seen = np.zeros(100, bool)
    seen[:10] = seen[70:73] = True
    gaps = {
        d.search.frame - d.templates[0].frame for d in draws(FrameSampler([FakeVideos([seen])], [1], "causal", [3]))
    }
    assert {g for g in gaps if g > 10} <= set(range(61, 75))
    assert 61 in gaps
    assert 1 in gaps


@pytest.mark.parametrize("mode", ["trident", "trident_pro", "stark"])
def test_trident_takes_dynamic_templates_on_the_templates_side(mode):
    data = FakeVideos([hidden(80, *range(20, 40))])
    sides, dynamic_hidden, swapped = Counter(), 0, 0
    for draw in draws(FrameSampler([data], [1], mode, [10, 25])):
        template, *dynamic = (ref.frame for ref in draw.templates)
        search = draw.search.frame
        assert data.visible[0][template]
        assert data.visible[0][search]
        before = template < search
        sides[before] += 1
        for frame, interval in zip(dynamic, (10, 25), strict=True):
            assert 1 <= (search - frame if before else frame - search) <= interval
            dynamic_hidden += not data.visible[0][frame]
        swapped += template == search
    assert 0.4 < sides[True] / DRAWS < 0.6
    assert (dynamic_hidden > 0) == (mode != "trident")


def test_stark_mode_takes_only_valid_boxes():
    class SomeInvalid(FakeVideos):
        def info(self, sequence):
            info = super().info(sequence)
            info.valid[::2] = False
            return type(info)(info.boxes, info.valid, info.visible & info.valid)

    data = SomeInvalid([np.ones(60, bool)])
    for draw in draws(FrameSampler([data], [1], "stark", [8]), 300):
        assert draw.templates[1].frame % 2 == 1


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
