"""Milliseconds and memory of tracking a frame (crop, network, box) by engine, against the plain eager path.

`plain` is tracking as research code has it: fp32, module by module, nothing folded, crops cut from whole frames. Every
way has a process of its own; they take turns, some frames each. Weights are those of a training (STARK_SAVE_DIR) or
shipped, else random; frames are those of a clip that a package ships. A way is ENGINE:PRECISION, or
ENGINE:PRECISION+PRECISION, which also makes masks (Alpha-Refine) in the second precision. `memory` is the growth of the
process by the tracker, export of its graphs included.

python benchmarks/tracking.py [--variants stark_s:baseline …] [--ways openvino:fp32 openvino:bf16 …] [--output FILE]
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from easydict import EasyDict
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measuring
from lib.config import load_config
from lib.config.options import REFINE
from lib.data.images import Picture
from lib.models import build_model
from lib.models.alpha_refine import AlphaRefine
from lib.models.export import export_graphs
from lib.models.inference import output_names
from lib.models.stark import Tokens
from lib.test.tracker import SCRIPT_OF, find_weights, load_network
from lib.test.tracker.engines import Engine
from lib.test.tracker.engines.graphs import graph_engine
from lib.test.tracker.engines.openvino import INT8_SUFFIX
from lib.test.tracker.engines.pytorch import torch_engine
from lib.test.tracker.export import calibrate, clips_of
from lib.test.tracker.refiner import MaskTracker, Refiner
from lib.test.tracker.stark import BoxEngine, StarkTracker
from lib.utils.checkpoint_files import CheckpointError
from lib.utils.crop import region_of
from lib.utils.errors import run_command
from lib.utils.graph_files import SEARCH
from lib.utils.tensors import NestedTensor

VARIANTS = (
    *("stark_s:baseline", "stark_st:baseline", "stark_st:baseline_R101"),
    *("stark_lightning_X_trt:baseline_rephead_4_lite_search5", "stark_lightning_X_trt:mini"),
)
WAYS = ("torch:fp32", "onnx:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")
_BURST = 9  # frames
# A side of 137 pixels of the clip's 1280x720, so that the search region lies within the frame.
BOX = [520.0, 305.0, 170.0, 110.0]


class PlainEngine:
    """PyTorch as research code runs it; see `lib.test.tracker.stark.BoxEngine`."""

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        self.model, self.stride = model.eval(), model.extractor.stride
        self.outputs = [name for name in output_names(model) if name != "corner_peak"]
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))

    def encode_template(self, crop: np.ndarray, mask: np.ndarray) -> Tokens:
        with torch.no_grad():
            return self.model.encode_template(self._normalised(crop, mask))

    def search(self, templates: Sequence[Tokens], crop: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            out = self.model.predict(templates, self.model.encode_search(self._normalised(crop, mask)))
        return {name: out[name].numpy() for name in self.outputs}

    def _normalised(self, crop: np.ndarray, mask: np.ndarray) -> NestedTensor:
        pixels = torch.tensor(crop)[None].permute(0, 3, 1, 2).contiguous().float() / 255
        return NestedTensor((pixels - self.mean) / self.std, torch.from_numpy(mask)[None])


class PlainTracker(StarkTracker):
    """`StarkTracker` with region and mask padded at full size, then resized; templates are never replaced."""

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        super().__init__(PlainEngine(model, cfg), cfg, [10**9] * (model.template_count - 1))  # frames: never

    def _region(
        self, image: Picture, box: Sequence[float], factor: float, size: int
    ) -> tuple[np.ndarray, float, np.ndarray]:
        left, top, side = region_of(box, factor)
        before_x, after_x = min(max(0, -left), side), min(max(left + side - image.width + 1, 0), side)
        before_y, after_y = min(max(0, -top), side), min(max(top + side - image.height + 1, 0), side)
        frame = image.part((0, image.width), (0, image.height))
        inside = frame[top + before_y : top + side - after_y, left + before_x : left + side - after_x]
        region = cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_CONSTANT)
        mask = np.ones(region.shape[:2])
        mask[before_y : side - after_y, before_x : side - after_x] = 0
        return cv2.resize(region, (size, size)), size / side, cv2.resize(mask, (size, size)).astype(bool)


def make_network(variant: str) -> tuple[nn.Module, EasyDict]:
    """The network of a variant, and its configuration; without weights of a training they are random, always the same.

    Weights are found as `tracking/test.py` finds them: those of your training (STARK_SAVE_DIR), or those shipped.
    """
    name, config = variant.split(":")
    script = SCRIPT_OF[name]
    cfg = load_config(script, config)
    try:
        weights = find_weights(script, config)
    except CheckpointError:
        torch.manual_seed(0)
        return build_model(script, cfg).eval(), cfg
    print(f"{variant}: {weights}")
    return load_network(script, cfg, weights).eval(), cfg


def make_tracker(variant: str, way: str, folder: Path, device: str = "cpu") -> StarkTracker | MaskTracker:
    """A tracker by `plain` or a way; all ways of a variant have the same weights."""
    model, cfg = make_network(variant)
    if way == "plain":
        return PlainTracker(model, cfg)
    engine, precisions = way.split(":")
    precision, *masks = precisions.split("+")
    boxes = make_engine(engine, model, cfg, folder / variant.replace(":", "_"), precision, device)
    # Its templates stay, so that each step costs the same.
    tracker = StarkTracker(BoxEngine(boxes), cfg, [10**9] if variant.startswith("stark_st:") else ())
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


def tracking(variant: str, way: str, folder: Path, device: str = "cpu") -> Callable[[], tuple[float, list, float]]:
    """A function that tracks some frames; it returns the seconds of one frame, the boxes and the memory in MB."""
    before = measuring.resident_megabytes()
    tracker, frames = make_tracker(variant, way, folder, device), measuring.clip_frames(_BURST, 1280, 720)
    tracker.initialize(frames[0], {"init_bbox": BOX})
    box_tracker = tracker.tracker if isinstance(tracker, MaskTracker) else tracker

    def track() -> tuple[float, list, float]:
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
    answers = measuring.in_processes(tracking, variant, ways, rounds, threads, folder)
    seconds = {way: [each[0] for each in given] for way, given in answers.items()}
    rows = measuring.table(seconds, "ms", lambda median: 1e3 * median)
    for row in rows:
        (_, boxes, memory), (_, plain, _) = answers[row["way"]][-1], answers["plain"][-1]
        difference = np.abs(np.array(boxes) - plain).max()
        row |= {"memory (MB)": round(memory), "box difference (px)": f"{difference:.1e}"}
    return [{"variant": variant} | row for row in rows]


def main() -> None:
    parser = measuring.benchmark_parser(__doc__)
    known = measuring.known_variant
    parser.add_argument("--variants", nargs="+", type=known, default=VARIANTS, metavar="TRACKER:CONFIG")
    ways = {"nargs": "+", "type": measuring.known_way, "default": WAYS}
    parser.add_argument("--ways", **ways, metavar="ENGINE:PRECISION[+PRECISION]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        how = ["plain", *given.ways], given.rounds, given.threads, Path(folder)
        rows = [row for variant in given.variants for row in measure(variant, *how)]
    measuring.report(f"Tracking, a frame of 1280x720, {given.threads} threads", rows, given.output)


if __name__ == "__main__":
    run_command(main)
