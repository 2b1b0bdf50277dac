"""Training samples a second on one core: three frames read, cropped and augmented.

All ways make the same samples. `floats` adds the part that a training leaves to the device: crops as normalised floats.
`handed over` is the loader's own work, on samples that exist already (collation, shared memory): processor time of a
worker, and of the process that trains. Its share of a worker's time is 1 / `ratio`.

python benchmarks/data.py [--frames 1280x720 1920x1080] [--data FOLDER:<path>] [--lmdb] [--output FILE]
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import benchmark_parser, report, table, write_clip
from lib.config import load_config
from lib.data.registry import build_dataset, pack
from lib.train.loader import BatchLoader, SampleStream, collate
from lib.train.processing import Processing, Sample
from lib.train.sampler import FrameSampler
from lib.utils.errors import UserError, run_command
from lib.utils.tensors import Preprocessor

SAMPLES = 24  # a round
HANDED_OVER = 960  # a round: processor time is counted in steps of 10 ms


def stream(name: str, use_lmdb: bool = False) -> SampleStream:
    """The samples of STARK-ST's first stage from one data set."""
    cfg = load_config("stark_st1", "baseline")
    sampler = FrameSampler([build_dataset(name, use_lmdb=use_lmdb)], [1], cfg.DATA.SAMPLER_MODE, [200])
    return SampleStream(sampler, Processing(cfg, True), 1, 0)


class Ready(SampleStream):
    """Samples of a stream, made once."""

    def __init__(self, stream: SampleStream) -> None:
        self.sampler = stream.sampler
        self.samples = [stream[1, index] for index in range(SAMPLES)]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.samples[key[1] % SAMPLES]


def hand_over(loader: BatchLoader) -> tuple[float, float]:
    """Seconds of processor time for `SAMPLES` ready samples: of the loader's one worker, and of this process."""
    (worker,) = active_children()

    def used() -> np.ndarray:
        return np.array([sum(psutil.Process(worker.pid).cpu_times()[:2]), time.process_time()])

    before = used()
    for _ in loader.epoch(1):
        pass
    return tuple((used() - before) * SAMPLES / HANDED_OVER)


def measure(name: str, rounds: int, lmdb: bool) -> list[dict[str, object]]:
    """Rows of one data set."""
    floats = Preprocessor([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], torch.device("cpu"))

    def making(samples_of: SampleStream) -> Callable[[], list]:
        return lambda: [samples_of[1, index] for index in range(SAMPLES)]

    def with_floats() -> None:
        batch = collate(make())
        for number, crops in enumerate((*batch.templates, batch.search)):
            floats.pixels(crops, batch.brightness[number])

    make = making(stream(name))
    ways = {"files": make, "files, floats": with_floats}
    if lmdb:
        pack(name, progress=False)
        ways["LMDB"] = making(stream(name, use_lmdb=True))
    loader = BatchLoader(Ready(stream(name)), HANDED_OVER, 16, workers=1)
    next(loader.epoch(1))  # starts the worker
    handed_over = "handed over, worker", "handed over, training"
    seconds: dict[str, list[float]] = {name: [] for name in (*ways, *handed_over)}
    for _ in range(1 + rounds):  # the first is to warm up
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
        for name, used in zip(handed_over, hand_over(loader), strict=True):
            seconds[name].append(used)
    rows = table({name: given[1:] for name, given in seconds.items()}, "samples/s", lambda median: SAMPLES / median)
    read = np.mean([sum(map(os.path.getsize, set(sample.sources))) for sample in make()]) / 1e6
    return [row | {"MB read": float(read)} for row in rows]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--frames", nargs="+", default=["1280x720", "1920x1080"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--quality", type=int, default=75, help="of the JPEG files; most tools write this one")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME", help="training sets to measure on instead")
    parser.add_argument("--lmdb", action="store_true", help="also measure an LMDB")
    given = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows, sets = [], {name: name for name in given.data}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for frames in [] if given.data else given.frames:
            if not re.fullmatch(r"[0-9]+x[0-9]+", frames):
                raise UserError(f"'{frames}' is not WIDTHxHEIGHT in pixels")
            write_clip(root / frames, 6, 48, *map(int, frames.split("x")), given.quality)
            sets[f"{frames} JPEG"] = f"FOLDER:{root / frames}"
        for frames, name in sets.items():
            rows += [{"frames": frames} | row for row in measure(name, given.rounds, given.lmdb)]
    report("Training samples of three frames, one core", rows, given.output)


if __name__ == "__main__":
    run_command(main)
