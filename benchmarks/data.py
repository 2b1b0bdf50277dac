"""Training samples a second on one core: three frames read, cropped and augmented, against the plain path.

All ways make the same samples. `floats` adds the part that a training leaves to the device: crops as normalised floats.

python benchmarks/data.py [--frames 1280x720 1920x1080] [--data FOLDER:<path>] [--lmdb] [--output FILE]
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import benchmark_parser, ratios, report, take_turns, write_clip
from benchmarks.plain import PlainProcessing
from lib.config import load_config
from lib.data.pack import pack
from lib.data.registry import build_dataset
from lib.train.loader import SampleStream, collate
from lib.train.processing import Processing
from lib.train.sampler import FrameSampler
from lib.utils.errors import UserError, run_command
from lib.utils.tensors import Preprocessor


def stream(name: str, plain: bool = False, use_lmdb: bool = False) -> SampleStream:
    """The samples of STARK-ST's first stage from one data set."""
    cfg = load_config("stark_st1", "baseline")
    sampler = FrameSampler([build_dataset(name, use_lmdb=use_lmdb)], [1], cfg.DATA.SAMPLER_MODE, [200])
    return SampleStream(sampler, PlainProcessing(cfg) if plain else Processing(cfg, True), 1, 0)


def make_ways(name: str, samples: int, lmdb: bool) -> dict[str, Callable[[], object]]:
    """The same samples, made in different ways."""
    floats = Preprocessor([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], torch.device("cpu"))

    def making(samples_of: SampleStream) -> Callable[[], list]:
        return lambda: [samples_of[1, index] for index in range(samples)]

    def with_floats() -> None:
        batch = collate(ours())
        for number, crops in enumerate((*batch.templates, batch.search)):
            floats.pixels(crops, batch.brightness[number])

    ours = making(stream(name))
    ways = {"plain": making(stream(name, plain=True)), "ours": ours, "ours, floats": with_floats}
    if lmdb:
        pack(name, progress=False)
        ways["ours, LMDB"] = making(stream(name, use_lmdb=True))
    return ways


def measure(title: str, name: str, samples: int, rounds: int, lmdb: bool) -> list[dict[str, object]]:
    """Rows of one data set."""
    seconds = take_turns(make_ways(name, samples, lmdb), rounds)
    sources = [set(sample.sources) for sample in make_ways(name, samples, False)["ours"]()]
    read = float(np.mean([sum(map(os.path.getsize, each)) for each in sources])) / 1e6
    rows = []
    for way, ratio in ratios(seconds).items():
        rate = samples / float(np.median(seconds[way]))
        rows.append({"frames": title, "way": way, "samples/s": rate, "ratio": ratio, "MB read": read})
    return rows


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--frames", nargs="+", default=["1280x720", "1920x1080"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--quality", type=int, default=75, help="of the JPEG files; what most tools write")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME", help="training sets to measure on instead")
    parser.add_argument("--samples", type=int, default=24, help="of each round")
    parser.add_argument("--lmdb", action="store_true", help="from an LMDB, too")
    given = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows, sets = [], {name: name for name in given.data}
    with tempfile.TemporaryDirectory() as temporary:
        for frames in [] if given.data else given.frames:
            width, _, height = frames.partition("x")
            if not (width.isdecimal() and height.isdecimal()):
                raise UserError(f"'{frames}' is not WIDTHxHEIGHT in pixels")
            write_clip(Path(temporary) / frames, 6, 48, int(width), int(height), given.quality)
            sets[f"{frames} JPEG"] = f"FOLDER:{Path(temporary) / frames}"
        for title, name in sets.items():
            rows += measure(title, name, given.samples, given.rounds, given.lmdb)
    report("Training samples, two templates and a search region, one core", rows, given.output)


if __name__ == "__main__":
    run_command(main)
