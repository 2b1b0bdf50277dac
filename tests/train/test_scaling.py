"""Many processes: together they see an epoch once, and each sees something of its own."""

import json

import numpy as np
import pytest

from lib.config import load_config
from lib.train.loader import BatchLoader, SampleStream
from lib.train.options import RunOptions
from lib.train.processing import Processing
from lib.train.sampler import FrameSampler
from tests.train.fakes import FakeVideos
from tests.train.tiny_runs import REAL, complete, log_of, several

RANKS = 64


@pytest.fixture(scope="module")
def stream():
    cfg = load_config("stark_s", "baseline")
    videos = FakeVideos([[True] * 400] * 50)
    return SampleStream(FrameSampler([videos], [1], "causal", [200]), Processing(cfg, augment=True), seed=7, stream=0)


def loaders(stream, samples, batch=16, accumulate=1, world=RANKS):
    return [
        BatchLoader(stream, samples, batch, 0, accumulate=accumulate, rank=rank, world_size=world)
        for rank in range(world)
    ]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_epoch_of_64_processes_covers_its_samples_once(accumulate, stream):
    keys = []
    for loader in loaders(stream, 60000, accumulate=accumulate):
        keys.append(loader.keys_of(3))
        assert len(keys[-1]) == loader.steps * accumulate * 16
    together = [key for part in keys for key in part]
    assert len(set(together)) == len(together)
    assert set(together) >= {(3, index) for index in range(60000)}
    assert len(together) < 60000 + RANKS * 16 * accumulate  # no more than the last step's rest
    assert {len(part) for part in keys} == {len(keys[0])}
    assert loaders(stream, 60000, world=8)[0].steps == 469  # as published: 60,000 samples, 16 on each of 8 GPUs


def test_two_processes_see_in_a_step_what_one_sees_with_twice_the_batch(stream):
    one = BatchLoader(stream, 64, 8, 0)
    two = loaders(stream, 64, batch=4, world=2)
    assert one.steps == two[0].steps
    for step in range(one.steps):
        whole = set(one.keys_of(1)[step * 8 : step * 8 + 8])
        parts = [set(loader.keys_of(1)[step * 4 : step * 4 + 4]) for loader in two]
        assert parts[0] | parts[1] == whole


def test_a_resumed_epoch_draws_the_rest_whatever_the_number_of_workers(stream):
    whole, rest = (list(BatchLoader(stream, 24, 4, workers).epoch(2, start)) for workers, start in ((0, 0), (2, 2)))
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
