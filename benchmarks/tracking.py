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
from easydict import EasyDict
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measuring
from benchmarks.measuring import Worker, rate
from benchmarks.plain import PlainTracker
from lib.config import load_config
from lib.config.options import REFINE
from lib.models import build_model
from lib.models.alpha_refine import AlphaRefine
from lib.models.export import export_graphs
from lib.test.tracker import SCRIPT_OF, load_network, shipped_weights
from lib.test.tracker.engines import Engine
from lib.test.tracker.engines.graphs import graph_engine
from lib.test.tracker.engines.openvino import INT8_SUFFIX
from lib.test.tracker.engines.pytorch import torch_engine
from lib.test.tracker.export import calibrate, clips_of
from lib.test.tracker.refiner import MaskTracker, Refiner
from lib.test.tracker.stark import BoxEngine, StarkTracker
from lib.utils.errors import run_command
from lib.utils.graph_files import SEARCH

VARIANTS = (
    *("stark_s:baseline", "stark_st:baseline", "stark_st:baseline_R101"),
    *("stark_lightning_X_trt:baseline_rephead_4_lite_search5", "stark_lightning_X_trt:mini"),
)
WAYS = ("torch:fp32", "onnx:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")
_BURST = 9  # frames
_NEVER = 10**9  # frames; templates stay, so that each step costs the same
# A side of 137 pixels of the clip's 1280x720, so that the search region lies within the frame.
BOX = [520.0, 305.0, 170.0, 110.0]


def make_network(variant: str) -> tuple[nn.Module, EasyDict]:
    """The network of a variant, and its configuration; weights are random where none are shipped, always the same."""
    name, config = variant.split(":")
    script = SCRIPT_OF[name]
    cfg, trained = load_config(script, config), shipped_weights(script, config)
    torch.manual_seed(0)
    return load_network(script, cfg, trained) if trained.is_file() else build_model(script, cfg).eval(), cfg


def make_tracker(variant: str, way: str, folder: Path, device: str = "cpu") -> StarkTracker | MaskTracker:
    """A tracker by `plain` or a way; all ways of a variant have the same weights."""
    model, cfg = make_network(variant)
    if way == "plain":
        return PlainTracker(model, cfg)
    engine, precisions = way.split(":")
    precision, *masks = precisions.split("+")
    boxes = make_engine(engine, model, cfg, folder / variant.replace(":", "_"), precision, device)
    tracker = StarkTracker(BoxEngine(boxes), cfg, [_NEVER] if variant.startswith("stark_st:") else ())
    if not masks:
        return tracker
    cfg = load_config(REFINE, "baseline")
    refiner = make_engine(engine, AlphaRefine(cfg).eval(), cfg, folder / "masks", masks[0], device)
    return MaskTracker(tracker, Refiner(refiner, cfg))


def make_engine(
    engine: str, model: nn.Module, cfg: EasyDict, folder: Path, precision: str, device: str = "cpu"
) -> Engine:
    """An engine for a network in memory; its graphs are kept in a folder."""
    if engine in ("torch", "compile"):
        return torch_engine(model, cfg, device, precision, engine == "compile")
    if not (folder / SEARCH).is_file():
        export_graphs(model, cfg, folder)
    if precision == "int8" and not (folder / f"search{INT8_SUFFIX}").is_file():
        calibrate(folder, cfg, clips_of())
    return graph_engine(engine, folder, device, precision)


def tracking(
    variant: str, way: str, folder: Path, device: str = "cpu"
) -> Callable[[object], tuple[float, list, float]]:
    """A function that tracks some frames; it returns the seconds of one frame, the boxes and the memory in MB."""
    before = measuring.resident_megabytes()
    tracker, frames = make_tracker(variant, way, folder, device), measuring.clip_frames(_BURST, 1280, 720)
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
        return float(np.median(seconds[2:])), boxes, measuring.resident_megabytes() - before

    return track


def measure(variant: str, ways: list[str], rounds: int, threads: int, folder: Path) -> list[dict[str, object]]:
    """One row a way of one variant."""
    workers = {way: Worker(threads, tracking, variant, way, folder) for way in ways}
    answers = [{way: worker.ask() for way, worker in workers.items()} for _ in range(rounds + 1)]
    for worker in workers.values():
        worker.end()
    rows = rate({way: np.array([each[way][0] for each in answers[1:]]) for way in ways}, "ms", 1e-3, seconds_each=True)
    for row in rows:
        (_, boxes, memory), (_, plain, _) = answers[-1][row["way"]], answers[-1]["plain"]
        difference = np.abs(np.array(boxes) - plain).max()
        row |= {"memory (MB)": round(memory), "box difference (px)": f"{difference:.1e}"}
    return [{"variant": variant} | row for row in rows]


def main() -> None:
    """Measure each way of each variant; print the table and save it."""
    parser = measuring.benchmark_parser(__doc__)
    variants, ways = {"type": measuring.known_variant, "nargs": "+"}, {"type": measuring.known_way, "nargs": "+"}
    parser.add_argument("--variants", **variants, default=VARIANTS, metavar="TRACKER:CONFIG")
    parser.add_argument("--ways", **ways, default=WAYS, metavar="ENGINE:PRECISION[+PRECISION]")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside, as other programs do")
    parser.add_argument("--graphs", type=Path, help="folder to keep exported graphs in, for the next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, measuring.busy(given.busy):
        folder, ways = given.graphs or Path(temporary), ["plain", *given.ways]
        tables = [measure(variant, ways, given.rounds, given.threads, folder) for variant in given.variants]
    rows = [row for table in tables for row in table]
    measuring.report(f"Tracking, a frame of 1280x720, {given.threads} threads, {given.busy} others", rows, given.output)


if __name__ == "__main__":
    run_command(main)
