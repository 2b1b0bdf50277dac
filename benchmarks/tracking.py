"""Time of tracking a frame (crop, network, box) by engine and precision, against the plain eager path.

Every way has a process of its own; they take turns, some frames each, as frames come in a video. Weights are random but
for configurations that come with trained ones; frames are those of a clip that a package ships. A way is
ENGINE:PRECISION, or ENGINE:PRECISION+PRECISION, which also makes masks (Alpha-Refine) in the second one.

python benchmarks/tracking.py [--variants stark_s:baseline …] [--ways openvino:fp32 openvino:bf16 …] [--output FILE]
"""

import argparse
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clips import pictures
from benchmarks.measuring import Worker, known_variant, known_way, ratios, report
from benchmarks.plain import PlainEngine, PlainTracker
from lib.config import load_config
from lib.models import build_model
from lib.models.alpha_refine import SCRIPT as MASK_SCRIPT
from lib.models.alpha_refine import AlphaRefine
from lib.test.tracker import SCRIPTS, load_network, shipped_weights
from lib.test.tracker.engines import create_engine, engine_device
from lib.test.tracker.masks import create_mask_engine
from lib.test.tracker.refiner import MaskTracker, Refiner
from lib.test.tracker.stark import StarkTracker
from lib.utils.errors import run_command

VARIANTS = (
    "stark_s:baseline",
    "stark_st:baseline",
    "stark_st:baseline_R101",
    "stark_lightning_X_trt:baseline_rephead_4_lite_search5",
    "stark_lightning_X_trt:mini",
)
WAYS = ("torch:fp32", "onnx:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")
# Of the clip's 1280x720: a side of 137 pixels, so that the search region lies within the frame.
_BURST = 9  # frames
BOX = [520.0, 305.0, 170.0, 110.0]


class _Pair(StarkTracker):
    """STARK-ST with both templates and no renewal: a step that costs the same each time."""

    def _initial_templates(self, template):
        return [template, template]


class _PlainPair(PlainTracker, _Pair):
    pass


def make_tracker(variant: str, way: str, folder: Path) -> StarkTracker | MaskTracker:
    """A tracker by `plain` or a way; all ways of a variant have the same weights."""
    name, config = variant.split(":")
    cfg = load_config(SCRIPTS[name], config)
    trained = shipped_weights(SCRIPTS[name], config)
    torch.manual_seed(0)
    model = load_network(SCRIPTS[name], cfg, trained) if trained.is_file() else build_model(SCRIPTS[name], cfg).eval()
    kinds = (_PlainPair, _Pair) if name == "stark_st" else (PlainTracker, StarkTracker)
    if way == "plain":
        return kinds[0](PlainEngine(model, cfg), cfg)
    engine, precisions = way.split(":")
    precision, *masks = precisions.split("+")
    device = engine_device(engine, "cpu")
    tracker = kinds[1](create_engine(engine, model, cfg, device, folder, precision), cfg)
    if not masks:
        return tracker
    cfg = load_config(MASK_SCRIPT, "baseline")
    return MaskTracker(
        tracker, Refiner(create_mask_engine(engine, AlphaRefine(cfg).eval(), cfg, device, folder, masks[0]), cfg)
    )


def serve(connection: Connection, variant: str, way: str, folder: Path, threads: int) -> None:
    """In a process of its own: make the tracker, then track some frames each time it is asked.

    The answer is the seconds of one frame, and the boxes.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    tracker, frames = make_tracker(variant, way, folder), pictures(_BURST, 1280, 720)
    tracker.initialize(frames[0], {"init_bbox": BOX})
    boxes_of = tracker.tracker if isinstance(tracker, MaskTracker) else tracker
    connection.send(None)
    while connection.recv() is not None:
        seconds, boxes = [], []
        for frame in frames[1:]:
            boxes_of.state = list(BOX)
            start = time.perf_counter()
            boxes.append(tracker.track(frame)["target_bbox"])
            seconds.append(time.perf_counter() - start)
        # The first frames find the caches full of what another way left there.
        connection.send((float(np.median(seconds[2:])), boxes))


def measure(variant: str, ways: list[str], rounds: int, threads: int, folder: Path) -> list[dict[str, object]]:
    """One row a way of one variant: milliseconds, ratio to the plain path, largest difference of boxes in pixels."""
    workers = {way: Worker(serve, variant, way, folder, threads) for way in ways}
    answers = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, worker in workers.items():
            answers[way].append(worker.ask("track"))
    for worker in workers.values():
        worker.end()
    seconds = {way: np.array([time for time, _ in each[1:]]) for way, each in answers.items()}
    boxes = {way: np.array(each[0][1]) for way, each in answers.items()}
    faster = ratios(seconds, "plain")
    return [
        {
            "variant": variant,
            "way": way,
            "ms": float(np.median(values) * 1000),
            "ratio": faster[way],
            "box difference (px)": f"{np.abs(boxes[way] - boxes['plain']).max():.1e}",
        }
        for way, values in seconds.items()
    ]


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", type=known_variant, default=VARIANTS, metavar="TRACKER:CONFIG")
    parser.add_argument("--ways", nargs="+", type=known_way, default=WAYS, metavar="ENGINE:PRECISION[+PRECISION]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--graphs", type=Path, help="folder to keep exported graphs in, for the next time")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    ways = ["plain", *given.ways]
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.graphs or Path(temporary)
        rows = [
            row for variant in given.variants for row in measure(variant, ways, given.rounds, given.threads, folder)
        ]
    report(f"Tracking, a frame of 1280x720, {given.threads} threads", rows, given.output)


if __name__ == "__main__":
    run_command(main)
