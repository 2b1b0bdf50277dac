"""The commands `tracking/ORT_lightning_X_trt_*.py`: export a published graph, compare onnxruntime with PyTorch."""

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from lib.config import load_config
from lib.models.export import SEARCH_FILE, TEMPLATE_FILE, PublishedParts, export_published
from lib.models.inference import prepare_for_tracking
from lib.test.profiling.latency import COLUMNS, Latency, describe_machine, machine_line, measure
from lib.test.tracker import graphs_folder, load_network, tracker_of, weights_path
from lib.test.tracker.clips import sample_clips
from lib.test.tracker.engines import engine_device
from lib.test.tracker.engines.onnx import open_graph
from lib.test.tracker.engines.pytorch import torch_part
from lib.test.utils.arguments import refuse_to_replace
from lib.utils.crop import sample_target
from lib.utils.errors import UserError
from lib.utils.tensors import NestedTensor, Preprocessor

# Largest difference that rounding explains: of a box, as a fraction of the crop; of a feature, of the largest one.
TOLERANCE = 1e-4
_WARMUP = 5

Pair = tuple[NestedTensor, NestedTensor]  # template and search crop


@dataclass(frozen=True)
class GraphComparison:
    """One graph in onnxruntime against the network in PyTorch.

    Attributes:
        path: the graph's file.
        plain, padded: largest differences on crops without and with padding, see `TOLERANCE`.
        torch, onnx: latency of each.
    """

    path: Path
    plain: float
    padded: float
    torch: Latency
    onnx: Latency

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the differences. NaN does not agree."""
        return self.plain <= TOLERANCE and self.padded <= TOLERANCE

    def table(self) -> str:
        """The differences and latencies as text."""
        lines = [f"largest difference: {self.plain:.1e} without padding, {self.padded:.1e} with padding"]
        lines.append(f"{'':14}{COLUMNS}")
        lines += [f"{name:14}{time.columns()}" for name, time in (("PyTorch", self.torch), ("onnxruntime", self.onnx))]
        return "\n".join(lines)


def main(description: str | None, part: str) -> int:
    """Run the command of the `template` or `search` graph; 1 where onnxruntime and PyTorch disagree."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--script", default="stark_lightning_X_trt", help="stark_lightning_X_trt, stark_s or stark_st2")
    config = "baseline_rephead_4_lite_search5"
    parser.add_argument("--config", default=config, help="name of a configuration, or a path")
    parser.add_argument("--checkpoint", help="checkpoint file; the configuration's own by default")
    parser.add_argument("--output", type=Path, help="folder of the graph; by default beside those of trackers")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing graph in --output")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with onnxruntime-gpu")
    parser.add_argument("--runs", type=int, default=100, help="timed runs")
    comparison = check_graph(part, **vars(parser.parse_args()))
    print(comparison.table())
    if comparison.agrees:
        return 0
    print(f"PyTorch and onnxruntime disagree by more than {TOLERANCE:.0e}")
    return 1


def check_graph(
    part: str,
    script: str,
    config: str,
    checkpoint: str | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    runs: int = 100,
) -> GraphComparison:
    """Export the `template` or `search` graph of a network, and compare it with PyTorch on crops of real frames.

    Without `output`, a graph exported before from the same weights is used again.

    Raises:
        UserError: an unknown name, a missing checkpoint or package, or the file exists.
    """
    if runs < 1:
        raise UserError("--runs must be at least 1")
    tracker = tracker_of(script)
    cfg, target = load_config(script, config), torch.device(engine_device("onnx", device))
    weights = weights_path(tracker, config, checkpoint)
    model = load_network(script, cfg, weights)
    folder = output or graphs_folder(script, config, cfg, weights)
    path = folder / (TEMPLATE_FILE if part == "template" else SEARCH_FILE)
    if output is not None and not overwrite:
        refuse_to_replace([path])
    if path.exists() and output is None:
        print(f"{path} holds these weights already")
    else:
        export_published(part, model, cfg, path)
        print(f"wrote {path}")
    model = prepare_for_tracking(model).to(target, memory_format=torch.channels_last)
    model.extractor.dtype = "fp32"  # as the graphs
    print(machine_line(describe_machine(target)))
    return compare_graph(part, model, path, real_crops(cfg, target), runs)


def real_crops(cfg: EasyDict, device: torch.device) -> list[Pair]:
    """Crops of the first frames of the sample clips: two of each frame, the first without padding, the second with it.

    Raises:
        UserError: the package with the clips is missing.
    """
    preprocess, test, pairs = Preprocessor(cfg.DATA.MEAN, cfg.DATA.STD, device), cfg.TEST, []
    regions = ((test.TEMPLATE_FACTOR, test.TEMPLATE_SIZE), (test.SEARCH_FACTOR, test.SEARCH_SIZE))
    for frames, _ in sample_clips():
        frame = next(iter(frames))
        height, width = frame.shape[:2]
        side = height / (2 * test.SEARCH_FACTOR)  # the search region is half as high as the frame
        for x, y in (((width - side) / 2, (height - side) / 2), (0, 0)):
            crops = (sample_target(frame, (x, y, side, side), factor, size) for factor, size in regions)
            template, search = (preprocess(crop, mask) for crop, _, mask in crops)
            pairs.append((template, search))
    return pairs


def compare_graph(part: str, model: nn.Module, path: Path, pairs: list[Pair], runs: int) -> GraphComparison:
    """Run a graph in onnxruntime and the network in PyTorch on the same crops."""
    device = str(next(model.parameters()).device)
    published, graph = PublishedParts(model), open_graph(path, device)
    network, template = (torch_part(getattr(published, name), device) for name in (part, "template"))
    cases = []
    for pair in pairs:
        crop, search = map(_arrays, pair)
        cases.append(crop if part == "template" else (*search, *template(*crop) * model.template_count))
    differences: dict[bool, list[float]] = {False: [0.0], True: [0.0]}
    for inputs, pair in zip(cases, pairs, strict=True):
        padded = any(crop.mask is not None for crop in pair)
        for found, wanted in zip(graph(*inputs), network(*inputs), strict=True):
            scale = max(np.abs(wanted).max(), 1) if part == "template" else 1
            differences[padded].append(float(np.abs(found * 1.0 - wanted).max() / scale))
    plain, padded = (float(np.max(differences[kind])) for kind in (False, True))  # NaN where one is NaN
    timed = (functools.partial(run, *cases[0]) for run in (network, graph))
    times = (measure(run, torch.device(device), runs, _WARMUP) for run in timed)
    return GraphComparison(path, plain, padded, *times)


def _arrays(crop: NestedTensor) -> tuple[np.ndarray, np.ndarray]:
    """A crop (1, 3, H, W) and its mask (1, H, W) as the graphs take them."""
    image = np.ascontiguousarray(crop.tensors.cpu().numpy())
    if crop.mask is None:
        return image, np.zeros((len(image), *image.shape[2:]), dtype=bool)
    return image, crop.mask.cpu().numpy()
