"""Time of tracking a frame (crop, network, box), engine by engine, against the plain eager path, and how boxes differ.

python benchmarks/tracking.py [--variants stark_s:baseline …] [--engines torch onnx] [--threads 2] [--output FILE]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ratios, report, take_turns
from benchmarks.plain import PlainEngine, PlainTracker
from lib.config import load_config
from lib.models import build_model
from lib.test.tracker import SCRIPTS
from lib.test.tracker.engines import create_engine
from lib.test.tracker.stark import StarkTracker
from lib.utils.errors import run_command

VARIANTS = (
    "stark_s:baseline",
    "stark_st:baseline",
    "stark_st:baseline_R101",
    "stark_lightning_X_trt:baseline_rephead_4_lite_search5",
    "stark_lightning_X_trt:mini",
)
FRAME = (720, 1280)
BOX = [520.0, 260.0, 170.0, 110.0]


class _Pair(StarkTracker):
    """STARK-ST with both templates and no renewal: a step that costs the same each time."""

    def _initial_templates(self, template):
        return [template, template]


class _PlainPair(PlainTracker, _Pair):
    pass


def measure(variant: str, engines: list[str], rounds: int) -> list[dict[str, object]]:
    """One row a way of one variant: milliseconds, ratio to the plain path, largest difference of boxes in pixels."""
    name, config = variant.split(":")
    script = SCRIPTS[name]
    cfg = load_config(script, config)
    torch.manual_seed(0)
    model = build_model(script, cfg).eval()
    kinds = (_PlainPair, _Pair) if name == "stark_st" else (PlainTracker, StarkTracker)
    trackers = {"plain": kinds[0](PlainEngine(model), cfg)}
    with tempfile.TemporaryDirectory() as folder:
        for engine in engines:
            own = build_model(script, cfg)
            own.load_state_dict(model.state_dict())
            made = create_engine(engine, own, cfg, torch.device("cpu"), Path(folder))
            trackers[engine] = kinds[1](made, cfg)
    frame = np.random.default_rng(0).integers(0, 256, (*FRAME, 3), dtype=np.uint8)
    for tracker in trackers.values():
        tracker.initialize(frame, {"init_bbox": BOX})
    found = {}

    def step(name: str) -> None:
        trackers[name].state = list(BOX)
        found[name] = trackers[name].track(frame)["target_bbox"]

    seconds = take_turns({name: lambda name=name: step(name) for name in trackers}, rounds)
    faster = ratios(seconds, "plain")
    return [
        {
            "variant": variant,
            "way": name,
            "ms": float(np.median(values) * 1000),
            "ratio": faster[name],
            "box difference (px)": f"{np.abs(np.subtract(found[name], found['plain'])).max():.1e}",
        }
        for name, values in seconds.items()
    ]


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, metavar="TRACKER:CONFIG")
    parser.add_argument("--engines", nargs="+", default=["torch", "onnx"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [row for variant in given.variants for row in measure(variant, given.engines, given.rounds)]
    report("Tracking, a frame of 1280x720", rows, given.output)


if __name__ == "__main__":
    run_command(main)
