"""Frames a second of evaluating a folder of sequences, all in (reading, decoding, tracking, writing results).

Each way tracks with as many processes as `--threads` says, as `tracking/test.py` does. `plain` reads a frame, tracks,
reads the next, on the plain eager network. A way is ENGINE:PRECISION.

python benchmarks/evaluation.py [--threads 2] [--ways openvino:fp32 …] [--variant TRACKER:CONFIG] [--output FILE]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Worker, benchmark_parser, known_variant, known_way, rate, report, write_clip
from benchmarks.tracking import make_tracker
from lib.data.registry import load_dataset
from lib.test.evaluation.running import evaluate_tracker
from lib.test.tracker import SCRIPT_OF
from lib.test.tracker.export import export
from lib.utils.device import available_cpus
from lib.utils.errors import run_command

WAYS = ("torch:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")


def tracking_plainly(variant: str) -> Callable[[tuple[list, list]], list]:
    """A function that tracks the frames (paths) of one sequence from its first box."""
    tracker = make_tracker(variant, "plain", Path())

    def track(sequence: tuple[list, list]) -> list:
        paths, box = sequence
        images = (cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in paths)
        tracker.initialize(next(images), {"init_bbox": box})
        return [tracker.track(image)["target_bbox"] for image in images]

    return track


def plain_seconds(variant: str, folder: Path, processes: int) -> float:
    """Seconds to track all sequences of a folder in processes that share the cores."""
    sequences = [([str(path) for path in each.frames], each.init_bbox) for each in load_dataset(f"folder:{folder}")]
    threads = available_cpus() // processes or 1
    workers = [Worker(threads, tracking_plainly, variant) for _ in range(processes)]
    start = time.monotonic()
    with ThreadPoolExecutor(processes) as pool:
        parts = [sequences[number::processes] for number in range(processes)]
        list(pool.map(lambda worker, part: [worker.ask(each) for each in part], workers, parts))
    seconds = time.monotonic() - start
    for worker in workers:
        worker.end()
    return seconds


def main() -> None:
    """Measure an evaluation by each way; print the table and save it."""
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--variant", type=known_variant, default="stark_lightning_X_trt:mini", metavar="TRACKER:CONFIG")
    parser.add_argument("--ways", nargs="+", type=known_way, metavar="ENGINE:PRECISION", default=WAYS)
    parser.add_argument("--frames", type=int, default=132, help="of each of four sequences, 1280x720")
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in ("plain", *given.ways)}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_clip(root / "clips", 4, given.frames)
        os.environ.setdefault("STARK_SAVE_DIR", str(root / "save"))  # exported graphs
        name, config = given.variant.split(":")
        if "openvino:int8" in given.ways:
            export(SCRIPT_OF[name], config, format="openvino", precision="int8")
        for number in range(given.rounds):
            seconds["plain"].append(plain_seconds(given.variant, root / "clips", given.threads))
            for way in given.ways:
                engine, precision = way.split(":")
                options = {"threads": given.threads, "engine": engine, "precision": precision}
                results = root / f"results{number}" / way.replace(":", "_")
                run = evaluate_tracker(name, config, f"folder:{root / 'clips'}", results_dir=results, **options)
                seconds[way].append(run.wall_seconds)
    found = {name: np.array(values) for name, values in seconds.items()}
    rows = rate(found, "frames a second", 4 * (given.frames - 1))
    report(f"Evaluating {given.variant} in {given.threads} processes, 1280x720 JPEG, all in", rows, given.output)


if __name__ == "__main__":
    run_command(main)
