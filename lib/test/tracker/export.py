"""The command `tracking/export.py`: write a network for an engine, and compare it with PyTorch on real crops."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from lib.config import load_config
from lib.models.alpha_refine import SCRIPT as MASK_SCRIPT
from lib.models.export import export_graphs, fingerprint, kept_graphs
from lib.models.inference import regions_of
from lib.test.tracker import graphs_dir, load_network, tracker_of, weights_path
from lib.test.tracker.engines import choose_engine, engine_device
from lib.test.tracker.engines.base import Engine
from lib.test.tracker.engines.onnx import OnnxEngine
from lib.test.tracker.engines.openvino import INT8_SUFFIX, SUFFIX, OpenVinoEngine, read_model, save_model
from lib.test.tracker.engines.pytorch import TorchEngine
from lib.test.tracker.quantise import Clip, calibrate, clips_of, sample_clips
from lib.test.tracker.stark import StarkTracker
from lib.test.utils.arguments import refuse_to_replace
from lib.utils.crop import region_of
from lib.utils.errors import UserError
from lib.utils.graph_files import GraphFiles, Regions
from lib.utils.text import ruled_table

if TYPE_CHECKING:
    from lib.test.tracker.engines.tensorrt import TensorRtEngine

FORMATS = ("onnx", "openvino", "tensorrt")
# Largest difference of an fp32 box, in fractions of the crop, that rounding explains.
TOLERANCE = 1e-4
_FRAMES = 60  # of each clip that is compared


@dataclass
class Comparison:
    """An engine held against PyTorch in fp32, on the same crops.

    Attributes:
        fractions: largest difference of each box's four numbers, in fractions of the crop.
        pixels: the same in pixels of the frame.
        logits: differences of the confidence's logit, where there is one.
    """

    fractions: list[float] = field(default_factory=list)
    pixels: list[float] = field(default_factory=list)
    logits: list[float] = field(default_factory=list)

    def table(self) -> str:
        """For people: mean, 95th percentile and maximum."""
        rows = [["difference to PyTorch in fp32", "mean", "95 %", "largest"]]
        named = {"box (fraction of the crop)": self.fractions, "box (pixels of the frame)": self.pixels}
        named |= {"logit of the confidence": self.logits} if self.logits else {}
        for name, values in named.items():
            found = np.mean(values), np.percentile(values, 95), np.max(values)
            rows.append([name, *(f"{value:.2e}" for value in found)])
        return f"{len(self.fractions)} search regions of real frames\n{ruled_table(rows)}"


class _Side:
    """Two engines in one: a tracker follows the first, and the second is given the same crops."""

    def __init__(self, reference: Engine, other: Engine) -> None:
        self.stride, self._engines, self.pairs = reference.stride, (reference, other), []

    def encode_template(self, crop: np.ndarray, mask: np.ndarray | None) -> tuple[Any, ...]:
        return tuple(engine.encode_template(crop, mask) for engine in self._engines)

    def search(self, templates: Sequence[tuple[Any, ...]], crop: np.ndarray, mask: np.ndarray | None) -> dict:
        each = zip(self._engines, zip(*templates, strict=True), strict=True)
        found = [engine.search(list(own), crop, mask) for engine, own in each]
        self.pairs.append(found)
        return found[0]


def compare_engines(
    reference: Engine, other: Engine, cfg: EasyDict, clips: list[Clip], templates: int = 1
) -> Comparison:
    """Track clips with one engine, and see what another one finds in the same crops.

    Args:
        templates: how many the network takes; all are the first one.

    Raises:
        UserError: a frame cannot be read, or there is none.
    """
    side, comparison = _Side(reference, other), Comparison()
    tracker = StarkTracker(side, cfg)
    for frames, boxes in clips:
        for index, frame in enumerate(frames):
            if index == 0:
                tracker.initialize(frame, {"init_bbox": list(boxes[0])})
                tracker.templates = tracker.templates * templates
                continue
            if index > _FRAMES:
                break
            extent, before = region_of(tracker.state, cfg.TEST.SEARCH_FACTOR)[2], len(side.pairs)
            tracker.track(frame)
            for expected, found in side.pairs[before:]:
                difference = float(np.abs(expected["pred_boxes"] - found["pred_boxes"]).max())
                comparison.fractions.append(difference)
                comparison.pixels.append(difference * extent)
                if "pred_logits" in expected:
                    comparison.logits.append(float(np.abs(expected["pred_logits"] - found["pred_logits"]).max()))
    if not comparison.fractions:
        raise UserError("there is no frame to compare on: sequences need at least two")
    return comparison


def export(
    script: str,
    config: str,
    checkpoint: str | None = None,
    format: str = "onnx",
    precision: str = "fp32",
    output: Path | None = None,
    overwrite: bool = False,
    calibration: str | None = None,
    frames: str | None = None,
    device: str = "auto",
) -> int:
    """Write both graphs of a network for an engine, and print how what they find differs from PyTorch's.

    Args:
        script: of a tracker: `stark_s`, `stark_st2` or `stark_lightning_X_trt`; or `alpha_refine`, whose masks are
            compared.
        config, checkpoint: as `lib.test.tracker.create_tracker` takes them.
        format: `onnx`, `openvino` or `tensorrt`.
        precision: one that the engine of that name knows.
        output: folder for the files; by default where trackers look for them.
        overwrite: write files again that are there.
        calibration: test set by name whose sequences int8 is calibrated on; the samples' clips by default.
        frames: test set by name whose frames are compared on; the samples' clips by default.
        device: for TensorRT, the CUDA device that it builds for.

    Returns:
        0, or 1 where fp32 boxes differ by more than rounding explains.

    Raises:
        UserError: an unknown name, a missing checkpoint or package, a file that stands in the way.
    """
    if script == MASK_SCRIPT:
        from lib.test.tracker.export_masks import export_masks

        return export_masks(config, checkpoint, format, precision, output, overwrite, calibration, frames, device)
    tracker = tracker_of(script)
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'; valid: {', '.join(FORMATS)}")
    choose_engine(format, device, precision)
    cfg = load_config(script, config)
    model = load_network(script, cfg, weights_path(tracker, config, checkpoint))
    root = graphs_dir(script, config)
    files = GraphFiles(output or root / fingerprint(model, cfg))
    suffix = {"onnx": ".onnx", "openvino": INT8_SUFFIX if precision == "int8" else SUFFIX}.get(format, ".plan")
    written = [files.made_of(part, suffix) for part in ("template", "search")]
    if output is not None and not overwrite:
        refuse_to_replace(written)
    if format == "onnx":
        other = _for_onnx(model, cfg, files, overwrite)
    elif format == "openvino":
        other = _for_openvino(kept_graphs(model, cfg, root), files, cfg, precision, calibration, overwrite)
    else:
        other = _for_tensorrt(kept_graphs(model, cfg, root), files, precision, device)
        written = other.paths
    print("\n".join(f"wrote {path}" for path in written))
    return _report(model, cfg, other, frames, precision)


def _report(model: nn.Module, cfg: EasyDict, other: Engine, frames: str | None, precision: str) -> int:
    """Print how an engine's boxes differ from PyTorch's; 1 where fp32 ones do by more than rounding explains."""
    clips = clips_of(frames) if frames else sample_clips()
    reference = TorchEngine(model, cfg, torch.device("cpu"))
    comparison = compare_engines(reference, other, cfg, clips, model.template_count)
    print(f"{other.name}: {comparison.table()}")
    if precision == "fp32" and not max(comparison.fractions) <= TOLERANCE:
        print(f"boxes differ by more than {TOLERANCE:.0e} of the crop, which rounding does not explain")
        return 1
    return 0


def _for_onnx(model: nn.Module, cfg: EasyDict, files: GraphFiles, overwrite: bool) -> OnnxEngine:
    """The engine onnx on the exported graphs."""
    if overwrite or not files.complete:
        export_graphs(model, cfg, files)
    return OnnxEngine(files, regions_of(model, cfg))


def _for_openvino(
    graphs: GraphFiles, files: GraphFiles, cfg: EasyDict, precision: str, calibration: str | None, overwrite: bool
) -> OpenVinoEngine:
    """The engine openvino on the files that it writes of exported graphs."""
    regions = _with_regions(graphs, files)
    if precision == "int8":
        calibrate(graphs, regions, cfg, clips_of(calibration) if calibration else None, files, overwrite)
        return OpenVinoEngine(files, regions, precision)
    for part in ("template", "search"):
        save_model(read_model(graphs.made_of(part, ".onnx")), files.made_of(part, SUFFIX))
    return OpenVinoEngine(files, regions, precision, SUFFIX)


def _for_tensorrt(graphs: GraphFiles, files: GraphFiles, precision: str, device: str) -> "TensorRtEngine":
    """The engine tensorrt on the files that it builds of exported graphs."""
    from lib.test.tracker.engines.tensorrt import TensorRtEngine

    target = engine_device("tensorrt", device)
    return TensorRtEngine(graphs, _with_regions(graphs, files), target, precision, files)


def _with_regions(graphs: GraphFiles, files: GraphFiles) -> Regions:
    """What is known of a network's regions: what an engine makes of its graphs cannot be used without it, either."""
    regions = Regions.load(graphs.regions)
    if not files.regions.is_file() or files.regions.read_bytes() != graphs.regions.read_bytes():
        regions.save(files.regions)
    return regions
