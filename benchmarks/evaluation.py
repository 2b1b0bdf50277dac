"""Frames a second of evaluating a folder of sequences, all in (reading, decoding, tracking, writing results).

Each way tracks in as many processes as `--threads` says, as `tracking/test.py` does, and they take turns. `plain` reads
a frame, tracks, reads the next, on the plain eager network. The others are ENGINE:PRECISION.

python benchmarks/evaluation.py [--threads 2] [--ways openvino:fp32 …] [--variant TRACKER:CONFIG] [--output FILE]
"""

import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import benchmark_parser, known_variant, known_way, report, table, write_clip
from benchmarks.tracking import make_tracker
from lib.data.registry import load_dataset
from lib.test.evaluation.running import evaluate_tracker
from lib.test.tracker import SCRIPT_OF
from lib.test.tracker.export import export
from lib.utils.errors import run_command

WAYS = ("torch:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")
SEQUENCES = 4


def begin(variant: str) -> None:
    """Of a process that tracks plainly on one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    follow.tracker = make_tracker(variant, "plain", Path())


def follow(paths: list[str], box: list[float]) -> None:
    """Track the frames of a sequence from its first box."""
    images = (cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in paths)
    follow.tracker.initialize(next(images), {"init_bbox": box})
    for image in images:
        follow.tracker.track(image)


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--variant", type=known_variant, default="stark_lightning_X_trt:mini", metavar="TRACKER:CONFIG")
    parser.add_argument("--ways", nargs="+", type=known_way, metavar="ENGINE:PRECISION", default=WAYS)
    parser.add_argument("--frames", type=int, default=132, help="of each of four sequences, 1280x720")
    given = parser.parse_args()
    spawn, (name, config) = multiprocessing.get_context("spawn"), given.variant.split(":")
    seconds: dict[str, list[float]] = {way: [] for way in ("plain", *given.ways)}
    with (
        tempfile.TemporaryDirectory() as root,
        ProcessPoolExecutor(given.threads, spawn, begin, (given.variant,)) as pool,
    ):
        folder, results = Path(root, "clips"), Path(root, "results")
        write_clip(folder, SEQUENCES, given.frames)
        sequences = [([str(path) for path in each.frames], each.init_bbox) for each in load_dataset(f"folder:{folder}")]
        os.environ.setdefault("STARK_SAVE_DIR", root)  # exported graphs
        if "openvino:int8" in given.ways:
            export(SCRIPT_OF[name], config, format="openvino", precision="int8")
        list(pool.map(follow, *zip(*[(paths[:2], box) for paths, box in sequences], strict=True)))  # all have begun
        for number in range(given.rounds):
            start = time.perf_counter()
            list(pool.map(follow, *zip(*sequences, strict=True)))
            seconds["plain"].append(time.perf_counter() - start)
            for way in given.ways:
                engine, precision = way.split(":")
                how = {"engine": engine, "precision": precision, "threads": given.threads}
                place = results / str(number) / engine / precision
                run = evaluate_tracker(name, config, f"folder:{folder}", results_dir=place, **how)
                seconds[way].append(run.wall_seconds)
    rows = table(seconds, "frames a second", lambda median: SEQUENCES * (given.frames - 1) / median)
    report(f"Evaluating {given.variant} in {given.threads} processes, 1280x720 JPEG, all in", rows, given.output)


if __name__ == "__main__":
    run_command(main)
