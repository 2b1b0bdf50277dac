"""Milliseconds and memory of tracking a frame (crop, network, box) by engine, against the plain eager path.

Every way has a process of its own; they take turns, some frames each. Weights are random except for configurations that
come with trained ones; frames are those of a clip that a package ships. A way is ENGINE:PRECISION, or
ENGINE:PRECISION+PRECISION, which also makes masks (Alpha-Refine) in the second precision. `memory` is the growth of the
process by the tracker, export of its graphs included the first time (`--graphs` keeps them).

python benchmarks/tracking.py [--variants stark_s:baseline …] [--ways openvino:fp32 openvino:bf16 …] [--output FILE]
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import (
    Worker,
    benchmark_parser,
    known_variant,
    known_way,
    pictures,
    ratios,
    report,
    resident_megabytes,
)
from benchmarks.plain import PlainEngine, PlainTracker
from lib.config import load_config
from lib.models import build_model
from lib.models.alpha_refine import SCRIPT as MASK_SCRIPT
from lib.models.alpha_refine import AlphaRefine
from lib.models.export import kept_graphs
from lib.test.tracker import SCRIPTS, load_network, shipped_weights
from lib.test.tracker.engines import create_engine, engine_device
from lib.test.tracker.mask_graphs import kept_mask_graphs
from lib.test.tracker.masks import create_mask_engine
from lib.test.tracker.quantise import calibrate, calibrate_masks
from lib.test.tracker.refiner import MaskTracker, Refiner
from lib.test.tracker.stark import StarkTracker
from lib.utils.errors import run_command
from lib.utils.graph_files import Regions

VARIANTS = (
    "stark_s:baseline",
    "stark_st:baseline",
    "stark_st:baseline_R101",
    "stark_lightning_X_trt:baseline_rephead_4_lite_search5",
    "stark_lightning_X_trt:mini",
)
WAYS = ("torch:fp32", "onnx:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")
_BURST = 9  # frames
# A side of 137 pixels of the clip's 1280x720, so that the search region lies within the frame.
BOX = [520.0, 305.0, 170.0, 110.0]


class _Pair(StarkTracker):
    """STARK-ST with both templates and no update: a step that costs the same each time."""

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
    plain_class, tracker_class = (_PlainPair, _Pair) if name == "stark_st" else (PlainTracker, StarkTracker)
    if way == "plain":
        return plain_class(PlainEngine(model, cfg), cfg)
    engine, precisions = way.split(":")
    precision, *masks = precisions.split("+")
    device = engine_device(engine, "cpu")
    if precision == "int8":
        graphs = kept_graphs(model, cfg, folder)
        calibrate(graphs, Regions.load(graphs.regions), cfg)
    tracker = tracker_class(create_engine(engine, model, cfg, device, folder, precision), cfg)
    if not masks:
        return tracker
    cfg = load_config(MASK_SCRIPT, "baseline")
    model = AlphaRefine(cfg).eval()
    if masks[0] == "int8":
        calibrate_masks(kept_mask_graphs(model, cfg, folder), cfg)
    engine = create_mask_engine(engine, model, cfg, device, folder, masks[0])
    return MaskTracker(tracker, Refiner(engine, cfg))


def tracking(variant: str, way: str, folder: Path) -> Callable[[object], tuple[float, list, float]]:
    """A function that tracks some frames; it returns the seconds of one frame, the boxes and the memory in MB."""
    before = resident_megabytes()
    tracker, frames = make_tracker(variant, way, folder), pictures(_BURST, 1280, 720)
    tracker.initialize(frames[0], {"init_bbox": BOX})
    box_tracker = tracker.tracker if isinstance(tracker, MaskTracker) else tracker

    def track(_: object) -> tuple[float, list, float]:
        seconds, boxes = [], []
        for frame in frames[1:]:
            box_tracker.state = list(BOX)
            start = time.perf_counter()
            boxes.append(tracker.track(frame)["target_bbox"])
            seconds.append(time.perf_counter() - start)
        # The first frames find the caches full of another way's data.
        return float(np.median(seconds[2:])), boxes, resident_megabytes() - before

    return track


def measure(variant: str, ways: list[str], rounds: int, threads: int, folder: Path) -> list[dict[str, object]]:
    """One row a way of one variant."""
    workers = {way: Worker(threads, tracking, variant, way, folder) for way in ways}
    answers = [{way: worker.ask() for way, worker in workers.items()} for _ in range(rounds + 1)]
    for worker in workers.values():
        worker.end()
    seconds = {way: np.array([each[way][0] for each in answers[1:]]) for way in ways}
    boxes = {way: np.array(answers[0][way][1]) for way in ways}
    return [
        {
            "variant": variant,
            "way": way,
            "ms": 1000 * float(np.median(seconds[way])),
            "ratio": ratio,
            "memory (MB)": round(answers[-1][way][2]),
            "box difference (px)": f"{np.abs(boxes[way] - boxes['plain']).max():.1e}",
        }
        for way, ratio in ratios(seconds).items()
    ]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--variants", nargs="+", type=known_variant, default=VARIANTS, metavar="TRACKER:CONFIG")
    parser.add_argument("--ways", nargs="+", type=known_way, default=WAYS, metavar="ENGINE:PRECISION[+PRECISION]")
    parser.add_argument("--graphs", type=Path, help="folder to keep exported graphs in, for the next time")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for variant in given.variants:
            folder = given.graphs or Path(temporary)
            rows += measure(variant, ["plain", *given.ways], given.rounds, given.threads, folder)
    report(f"Tracking, a frame of 1280x720, {given.threads} threads", rows, given.output)


if __name__ == "__main__":
    run_command(main)
