"""Training samples a second on one core: three frames read, cropped and augmented, against the plain path.

All ways make the same samples. `floats` adds the part that a training leaves to the device: crops as normalised floats.

python benchmarks/data.py [--frames 1280x720 1920x1080] [--data FOLDER:<path>] [--lmdb] [--output FILE]

--annotations N measures the start of a training instead: seconds until the annotations of N sequences are available,
read file by file with numpy, read and cached, and from the cache. The files are generated, in LaSOT's layout.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import benchmark_parser, rate, report, take_turns, write_clip
from benchmarks.plain import PlainProcessing
from lib.config import load_config
from lib.data import layouts
from lib.data.dataset import VideoSet
from lib.data.registry import build_dataset, pack
from lib.data.storage import Storage
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


def measure(name: str, samples: int, rounds: int, lmdb: bool) -> list[dict[str, object]]:
    """Rows of one data set."""
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
    rows = rate(take_turns(ways, rounds), "samples/s", samples)
    read = np.mean([sum(map(os.path.getsize, set(sample.sources))) for sample in ours()]) / 1e6
    return [row | {"MB read": float(read)} for row in rows]


def measure_annotations(root: Path, sequences: int, rounds: int, frames: int = 150) -> list[dict[str, object]]:
    """Rows of reading annotations; all sequences link to one folder of empty frames."""
    write_annotations(root / "lasot" / "made", sequences, frames)
    ways = {
        "plain": lambda: read_plainly(root / "lasot" / "made"),
        "read and cached": lambda: (shutil.rmtree(root / "cache", ignore_errors=True), read_and_cache(root)),
        "from the cache": lambda: read_and_cache(root),
    }
    return rate(take_turns(ways, rounds, warmup=0), "seconds", 1, seconds_each=True)


def write_annotations(root: Path, sequences: int, frames: int) -> None:
    shared, rng = root.parents[1] / "frames", np.random.default_rng(0)
    shared.mkdir()
    for number in range(frames):
        (shared / f"{number + 1:08d}.jpg").touch()
    for folder in (root / f"made-{number}" for number in range(sequences)):
        folder.mkdir(parents=True)
        (folder / "img").symlink_to(shared, target_is_directory=True)
        np.savetxt(folder / "groundtruth.txt", rng.integers(1, 1000, (frames, 4)), "%d", ",")
        for name in ("full_occlusion.txt", "out_of_view.txt"):
            (folder / name).write_text(",".join("0" * frames))


def read_plainly(root: Path) -> int:
    """The number of frames, after reading all files of a sequence that research code reads."""
    total = 0
    for folder in sorted(root.iterdir()):
        boxes = np.loadtxt(folder / "groundtruth.txt", delimiter=",", dtype=np.float32)
        hidden = [np.loadtxt(folder / name, delimiter=",") != 0 for name in ("full_occlusion.txt", "out_of_view.txt")]
        visible = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & ~np.logical_or(*hidden)
        total += min(len(visible), len(sorted(os.listdir(folder / "img"))))
    return total


def read_and_cache(root: Path) -> None:
    """The start of a training."""
    storage = Storage(root / "lasot")
    storage.cache = root / "cache"
    VideoSet("LASOT", storage, layouts.lasot(storage, "", "LASOT", None)).keep_annotations()


def main() -> None:
    """Measure samples a second, or the reading of annotations; print the table and save it."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--frames", nargs="+", default=["1280x720", "1920x1080"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--quality", type=int, default=75, help="of the JPEG files; most tools write this one")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME", help="training sets to measure on instead")
    parser.add_argument("--samples", type=int, default=24, help="of each round")
    parser.add_argument("--lmdb", action="store_true", help="also measure an LMDB")
    parser.add_argument("--annotations", type=int, metavar="N", help="read annotations of N sequences instead")
    given = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows, sets, title = [], {name: name for name in given.data}, "Training samples of three frames, one core"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if given.annotations:
            rows, title = measure_annotations(root, given.annotations, given.rounds), "Annotations, one core"
        elif not given.data:
            for frames in given.frames:
                if not re.fullmatch(r"[0-9]+x[0-9]+", frames):
                    raise UserError(f"'{frames}' is not WIDTHxHEIGHT in pixels")
                write_clip(root / frames, 6, 48, *map(int, frames.split("x")), given.quality)
                sets[f"{frames} JPEG"] = f"FOLDER:{root / frames}"
        for frames, name in sets.items():
            rows += [{"frames": frames} | row for row in measure(name, given.samples, given.rounds, given.lmdb)]
    report(title, rows, given.output)


if __name__ == "__main__":
    run_command(main)
