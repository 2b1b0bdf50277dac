"""Frames a second of evaluating a folder of sequences, all in (reading, decoding, tracking, writing results).

Each way tracks with as many processes as `--threads` says, as `tracking/test.py` does. `plain` reads a frame, tracks,
reads the next, on the plain eager network.

A way is ENGINE:PRECISION.

python benchmarks/evaluation.py [--threads 2] [--ways openvino:fp32 …] [--variant TRACKER:CONFIG] [--output FILE]
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clips import write_clip
from benchmarks.measuring import known_variant, known_way, report
from benchmarks.plain import PlainEngine, PlainTracker
from lib.config import load_config
from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.evaluation.result_files import write_result
from lib.test.evaluation.running import evaluate_tracker
from lib.test.tracker import SCRIPTS, load_network, weights_path
from lib.utils.device import available_cpus
from lib.utils.errors import run_command

WAYS = ("torch:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")


def plain_frames_per_second(variant: str, folder: Path, results: Path, threads: int) -> float:
    """The plain way: a pool of processes, each with its share of the cores."""
    sequences = load_dataset(f"folder:{folder}")
    context = multiprocessing.get_context("spawn")
    with context.Pool(threads, _limit_threads, (max(1, available_cpus() // threads),)) as pool:
        spans = pool.map(_track_plainly, [(variant, sequence, results) for sequence in sequences], chunksize=1)
    begins, ends = zip(*spans, strict=True)
    return sum(len(sequence) - 1 for sequence in sequences) / (max(ends) - min(begins))


def _limit_threads(count: int) -> None:
    cv2.setNumThreads(count)
    torch.set_num_threads(count)


_TRACKERS: dict[str, PlainTracker] = {}


def _track_plainly(job: tuple[str, Sequence, Path]) -> tuple[float, float]:
    """Track one sequence frame by frame; when it began and ended, on the machine's clock."""
    variant, sequence, results = job
    tracker = _TRACKERS.get(variant) or _TRACKERS.setdefault(variant, _plain_tracker(variant))
    begin, boxes, seconds = time.monotonic(), [sequence.init_bbox], []
    for index, path in enumerate(sequence.frames):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        start = time.perf_counter()
        if index == 0:
            tracker.initialize(image, {"init_bbox": sequence.init_bbox})
        else:
            boxes.append(tracker.track(image)["target_bbox"])
        seconds.append(time.perf_counter() - start)
    write_result(results, sequence, np.array(boxes), np.array(seconds))
    return begin, time.monotonic()


def _plain_tracker(variant: str) -> PlainTracker:
    name, config = variant.split(":")
    cfg = load_config(SCRIPTS[name], config)
    return PlainTracker(PlainEngine(load_network(SCRIPTS[name], cfg, weights_path(name, config)), cfg), cfg)


def main() -> None:
    """Parse the arguments, measure each way in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", type=known_variant, default="stark_lightning_X_trt:mini", metavar="TRACKER:CONFIG")
    parser.add_argument("--ways", nargs="+", type=known_way, metavar="ENGINE:PRECISION", default=WAYS)
    parser.add_argument("--threads", type=int, default=2, help="processes that track")
    parser.add_argument("--frames", type=int, default=132, help="of each of four sequences, 1280x720")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in ("plain", *given.ways)}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_clip(root / "clips", 4, given.frames)
        os.environ.setdefault("STARK_SAVE_DIR", str(root / "save"))  # exported graphs
        for number in range(given.rounds):
            results = root / f"results{number}"
            found["plain"].append(
                plain_frames_per_second(given.variant, root / "clips", results / "plain", given.threads)
            )
            for way in given.ways:
                engine, precision = way.split(":")
                run = evaluate_tracker(
                    *given.variant.split(":"),
                    f"folder:{root / 'clips'}",
                    threads=given.threads,
                    engine=engine,
                    precision=precision,
                    results_dir=results / way.replace(":", "_"),
                )
                found[way].append(run.tracked_frames / run.wall_seconds)
    plain = np.array(found["plain"])
    rows = [
        {
            "way": name,
            "frames a second": float(np.median(values)),
            "ratio": float(np.median(np.array(values) / plain)),
        }
        for name, values in found.items()
    ]
    report(f"Evaluating {given.variant} in {given.threads} processes, 1280x720 JPEG, all in", rows, given.output)


if __name__ == "__main__":
    run_command(main)
