"""Seconds until the annotations of a data set are available: read file by file, read and cached, and from the cache.

The tree is generated, in LaSOT's layout: per sequence a file of boxes and two of labels; the frames are one folder, to
which all sequences link. `plain` reads with numpy. Files are in the system's cache.

python benchmarks/annotations.py [--sequences 10000] [--frames 150] [--output FILE]
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import benchmark_parser, ratios, report, take_turns
from lib.data import layouts
from lib.data.dataset import VideoSet
from lib.data.storage import FolderStorage
from lib.utils.errors import run_command


def write_tree(root: Path, sequences: int, frames: int) -> None:
    """Annotations of sequences of so many frames."""
    shared = root.parent / "frames"
    shared.mkdir()
    for number in range(frames):
        (shared / f"{number + 1:08d}.jpg").touch()
    rng = np.random.default_rng(0)
    for number in range(sequences):
        folder = root / f"made-{number}"
        folder.mkdir(parents=True)
        (folder / "img").symlink_to(shared, target_is_directory=True)
        boxes = rng.integers(1, 1000, (frames, 4)).tolist()
        (folder / "groundtruth.txt").write_text("".join("{},{},{},{}\n".format(*box) for box in boxes))
        for name in ("full_occlusion.txt", "out_of_view.txt"):
            (folder / name).write_text(",".join("0" * frames))


def read_plainly(root: Path) -> int:
    """The number of frames, with all files read that research code reads of a sequence."""
    total = 0
    for folder in sorted(root.iterdir()):
        boxes = np.loadtxt(folder / "groundtruth.txt", delimiter=",", dtype=np.float32)
        hidden = [np.loadtxt(folder / name, delimiter=",") != 0 for name in ("full_occlusion.txt", "out_of_view.txt")]
        visible = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & ~np.logical_or(*hidden)
        total += min(len(visible), len(sorted(os.listdir(folder / "img"))))
    return total


def read_and_keep(root: Path, cache: Path) -> VideoSet:
    """The start of a training."""
    storage = FolderStorage(root)
    storage.cache = cache
    dataset = VideoSet("LASOT", storage, layouts.lasot(storage, "", "LASOT", None))
    dataset.keep_annotations()
    return dataset


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=150, help="of each sequence; GOT-10k has about so many")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = Path(temporary) / "lasot", Path(temporary) / "cache"
        write_tree(root, given.sequences, given.frames)
        ways = {
            "plain": lambda: read_plainly(root),
            "read and cached": lambda: (shutil.rmtree(cache, ignore_errors=True), read_and_keep(root, cache)),
            "from the cache": lambda: read_and_keep(root, cache),
        }
        seconds = take_turns(ways, given.rounds, warmup=0)
    rows = [{"way": way, "seconds": float(np.median(seconds[way])), "ratio": r} for way, r in ratios(seconds).items()]
    report(f"Annotations of {given.sequences:,} sequences of {given.frames} frames", rows, given.output)


if __name__ == "__main__":
    run_command(main)
