"""Training samples a second on one core: three frames read, cropped and augmented, against the plain path.

Both draw the same samples. `floats` adds the part that a training leaves to the device: crops as normalised floats.

python benchmarks/data.py [--frames 1280x720 1920x1080] [--data FOLDER:<path>] [--lmdb] [--opencv] [--output FILE]
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clips import write_clip
from benchmarks.measuring import ratios, report, take_turns
from benchmarks.plain_data import PlainProcessing
from lib.config import load_config
from lib.data import picture
from lib.data.dataset import StoredDataset
from lib.data.jpeg import turbojpeg
from lib.data.pack import pack
from lib.data.registry import build_dataset
from lib.train.loader import SampleStream, collate
from lib.train.processing import Processing
from lib.train.sampler import FrameSampler
from lib.utils.errors import UserError, run_command
from lib.utils.preprocess import Preprocessor

_SEED, _BATCH = 1, 8


def write_moving_boxes(root: Path, width: int, height: int) -> None:
    """Annotate the sequences of a folder that `write_clip` wrote as tracking sets are: objects of many sizes that move.

    The square root of width times height is 15 to 25 % of the frame's height; it changes by up to a fifth in the
    course of a sequence, in which the centre crosses up to half of the frame.
    """
    rng = np.random.default_rng(_SEED)
    annotations = sorted(root.glob("*/groundtruth.txt"))
    for annotation, share in zip(annotations, np.linspace(0.15, 0.25, len(annotations)), strict=True):
        way = np.linspace(0, 1, len(annotation.read_text().splitlines()))[:, None]
        begin, end = rng.uniform(0.25, 0.75, (2, 2)) * (width, height)
        side = height * share * np.exp(0.2 * rng.uniform(-1, 1) * (way - 0.5))
        stretch = np.exp(rng.uniform(-0.3, 0.3))
        size = np.hstack((side * stretch, side / stretch))
        boxes = np.hstack((begin + (end - begin) * way - size / 2, size))
        annotation.write_text("".join(",".join(f"{value:.2f}" for value in box) + "\n" for box in boxes))


def stream(name: str, plain: bool = False, use_lmdb: bool = False) -> SampleStream:
    """The samples of STARK-ST's first stage from one data set; `plain` gives the plain path's."""
    cfg = load_config("stark_st1", "baseline")
    sampler = FrameSampler([build_dataset(name, use_lmdb=use_lmdb)], [1], cfg.DATA.SAMPLER_MODE, [200])
    return SampleStream(sampler, PlainProcessing(cfg) if plain else Processing(cfg, True), _SEED, 0)


@contextmanager
def opencv_alone() -> Iterator[None]:
    """Decode as where libjpeg-turbo's library is missing."""
    original = picture.decode_part
    picture.decode_part = lambda *_: None
    try:
        yield
    finally:
        picture.decode_part = original


def ways(name: str, samples: int, lmdb: bool, opencv: bool) -> dict[str, Callable[[], object]]:
    """What is timed: the same samples, made in different ways."""
    keys = [(1, index) for index in range(samples)]
    plain, ours = stream(name, plain=True), stream(name)
    floats = Preprocessor([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], torch.device("cpu"))

    def make(samples_of: SampleStream) -> list:
        return [samples_of[key] for key in keys]

    def with_floats() -> None:
        for start in range(0, len(keys), _BATCH):
            batch = collate([ours[key] for key in keys[start : start + _BATCH]])
            for number, crops in enumerate((*batch.templates, batch.search)):
                floats.pixels(crops, batch.brightness[number])

    def alone(samples_of: SampleStream) -> None:
        with opencv_alone():
            make(samples_of)

    found: dict[str, Callable[[], object]] = {
        "plain": lambda: make(plain),
        "ours": lambda: make(ours),
        "ours, floats": with_floats,
    }
    if opencv:
        found["ours, OpenCV"] = lambda: alone(ours)
    if lmdb:
        pack(name, progress=False)
        packed = stream(name, use_lmdb=True)
        found["ours, LMDB"] = lambda: make(packed)
    return found


def megabytes(name: str, samples: int) -> float:
    """Read for a sample, on average."""
    samples_of = stream(name)
    sizes = [sum(map(os.path.getsize, set(samples_of[1, index].sources))) for index in range(samples)]
    return float(np.mean(sizes)) / 1e6


def describe(dataset: StoredDataset) -> str:
    """Size of the objects, the square root of width times height in percent of the frame's height."""
    heights = [dataset.image(sequence, 0).shape[0] for sequence in range(len(dataset))]
    boxes = [dataset.info(sequence).boxes[dataset.info(sequence).visible] for sequence in range(len(dataset))]
    shares = np.concatenate(
        [100 * np.sqrt(box[:, 2:].prod(1)) / height for box, height in zip(boxes, heights, strict=True)]
    )
    quantiles = " ".join(f"{value:.0f}" for value in np.quantile(shares, (0.05, 0.25, 0.5, 0.75, 0.95)))
    return f"objects: sqrt(w*h) in % of the frame's height, quantiles 5 25 50 75 95 %: {quantiles}"


def measure(title: str, name: str, given: argparse.Namespace) -> list[dict[str, object]]:
    """Rows of one data set: samples a second, the ratio to the plain path, MB read a sample."""
    print(f"{title}: {describe(build_dataset(name))}")
    seconds = take_turns(ways(name, given.samples, given.lmdb, given.opencv), given.rounds, warmup=1)
    faster, read = ratios(seconds, "plain"), megabytes(name, given.samples)
    return [
        {
            "frames": title,
            "way": way,
            "samples/s": given.samples / float(np.median(values)),
            "ms": 1000 * float(np.median(values)) / given.samples,
            "ratio": faster[way],
            "MB read": read,
        }
        for way, values in seconds.items()
    ]


def _size(frames: str) -> tuple[int, int]:
    width, _, height = frames.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UserError(f"'{frames}' is not WIDTHxHEIGHT in pixels")
    return int(width), int(height)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", default=["1280x720", "1920x1080"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--quality", type=int, default=75, help="of the JPEG files; what most tools write")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME", help="training sets to measure on instead")
    parser.add_argument("--samples", type=int, default=24, help="of each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lmdb", action="store_true", help="from an LMDB, too")
    parser.add_argument("--opencv", action="store_true", help="without libjpeg-turbo's own library, too")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.data:
            rows += measure(name, name, given)
        for frames in [] if given.data else given.frames:
            folder = Path(temporary) / frames
            width, height = _size(frames)
            write_clip(folder, 6, 48, width, height, given.quality)
            write_moving_boxes(folder, width, height)
            rows += measure(f"{frames} JPEG", f"FOLDER:{folder}", given)
    decoder = "libjpeg-turbo's library" if turbojpeg() else "OpenCV"
    report(
        f"Training samples, two templates and a search region, one core; parts decoded by {decoder}", rows, given.output
    )


if __name__ == "__main__":
    run_command(main)
