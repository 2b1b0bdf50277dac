"""The commands `tracking/ORT_lightning_X_trt_*.py`: export a graph, and compare PyTorch with onnxruntime."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib.config import load_config
from lib.models.export import fingerprint
from lib.models.inference import prepare_for_tracking
from lib.models.published_graphs import (
    SEARCH_FILE,
    TEMPLATE_FILE,
    TEMPLATE_OUTPUTS,
    TemplateGraph,
    export_search,
    export_template,
    search_inputs,
)
from lib.test.profiling.crops import example_crops
from lib.test.profiling.latency import Latency, describe_machine, machine_line, measure
from lib.test.tracker import graphs_dir, load_network, tracker_of, weights_path
from lib.test.tracker.engines import engine_device
from lib.test.tracker.engines.onnx import open_graph
from lib.test.utils.arguments import refuse_to_replace
from lib.utils.errors import UserError
from lib.utils.tensors import NestedTensor

# Largest difference that rounding explains: of a box, as a part of the crop; of a feature, of the largest one.
TOLERANCE = 1e-4
_WARMUP = 5

Pairs = list[tuple[NestedTensor, NestedTensor]]


@dataclass(frozen=True)
class Comparison:
    """One graph in onnxruntime against the network in PyTorch.

    Attributes:
        path: the graph's file.
        plain, padded: largest differences on crops without and with padding: of boxes, as a part of the crop's side
            (and of STARK-ST's logit); of template tokens, as a part of the largest number among them.
        torch, onnx: how long each takes.
    """

    path: Path
    plain: float
    padded: float
    torch: Latency
    onnx: Latency

    @property
    def agrees(self) -> bool:
        """Whether nothing but rounding differs."""
        return self.plain <= TOLERANCE and self.padded <= TOLERANCE  # which NaN is not

    def table(self) -> str:
        """For people."""
        lines = [f"largest difference: {self.plain:.1e} without padding, {self.padded:.1e} with padding"]
        lines.append(f"{'':14}{'median (ms)':>13}{'5 %':>9}{'95 %':>9}")
        for name, time in (("PyTorch", self.torch), ("onnxruntime", self.onnx)):
            lines.append(f"{name:14}{time.median:13.2f}{time.p5:9.2f}{time.p95:9.2f}")
        return "\n".join(lines)


def main(description: str | None, part: str) -> int:
    """Parse a command's arguments, export the `template` or `search` graph, compare; 1 where they disagree."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--script", default="stark_lightning_X_trt", help="stark_lightning_X_trt, stark_s or stark_st2")
    parser.add_argument(
        "--config", default="baseline_rephead_4_lite_search5", help="name of a configuration, or a path"
    )
    parser.add_argument("--checkpoint", help="checkpoint file; the configuration's own by default")
    parser.add_argument("--output", type=Path, help="folder of the graph; by default where the tracker looks for it")
    parser.add_argument("--overwrite", action="store_true", help="replace a graph that is in --output")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with onnxruntime-gpu")
    parser.add_argument("--runs", type=int, default=100, help="runs that are timed")
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
) -> Comparison:
    """Export one graph of a network, and compare it with PyTorch on painted crops with and without padding.

    Args:
        part: `template` (backbone, bottleneck, position) or `search` (all else).
        script: of a tracker: `stark_s`, `stark_st2` or `stark_lightning_X_trt`.
        config, checkpoint: as `lib.test.tracker.create_tracker` takes them.
        output: folder of the graph. Without it the graph goes beside those that trackers run, and one that
            was made from the same weights before is taken.
        overwrite: replace a graph that lies in `output`.
        device: as `engine_device` takes it.
        runs: runs that are timed.

    Raises:
        UserError: an unknown name, a missing checkpoint or package, a file that stands in the way.
    """
    if runs < 1:
        raise UserError("--runs must be at least 1")
    tracker = tracker_of(script)
    cfg, target = load_config(script, config), engine_device("onnx", device)
    model = load_network(script, cfg, weights_path(tracker, config, checkpoint))
    folder = output or graphs_dir(script, config) / fingerprint(model, cfg)
    path = folder / (TEMPLATE_FILE if part == "template" else SEARCH_FILE)
    if output is not None and not overwrite:
        refuse_to_replace([path])
    if path.exists() and output is None:
        print(f"{path} holds these weights already")
    else:
        (export_template if part == "template" else export_search)(model, cfg, path)
        print(f"wrote {path}")
    model = prepare_for_tracking(model).to(target, memory_format=torch.channels_last)
    model.extractor.dtype = "fp32"  # as the graphs
    print(machine_line(describe_machine(target)))
    compare = _compare_template if part == "template" else _compare_search
    return compare(model, path, example_crops(cfg, target), runs)


@torch.inference_mode()
def _compare_template(model: nn.Module, path: Path, pairs: Pairs, runs: int) -> Comparison:
    """The template graph against the tokens that the network makes."""
    templates = [template for template, _ in pairs]
    device = templates[0].tensors.device
    session = open_graph(path, device)
    inputs = [dict(zip(("img_z", "mask_z"), _arrays(template), strict=True)) for template in templates]

    def difference(index: int) -> float:
        found = session.run(list(TEMPLATE_OUTPUTS), inputs[index])
        expected = _template_arrays(model, templates[index])
        return np.max(
            [np.abs(a * 1.0 - b).max() / max(np.abs(b).max(), 1) for a, b in zip(found, expected, strict=True)]
        )

    return Comparison(
        path,
        *_largest(difference, [template.mask is not None for template in templates]),
        measure(lambda: model.encode_template(templates[0]), device, runs, _WARMUP),
        measure(lambda: session.run(None, inputs[0]), device, runs, _WARMUP),
    )


@torch.inference_mode()
def _compare_search(model: nn.Module, path: Path, pairs: Pairs, runs: int) -> Comparison:
    """The search graph against the boxes, and the scores, that the network finds."""
    device, count = pairs[0][1].tensors.device, model.template_count
    session = open_graph(path, device)
    tokens = [[model.encode_template(template)] * count for template, _ in pairs]
    arrays = [[*_arrays(search), *_template_arrays(model, template) * count] for template, search in pairs]
    inputs = [dict(zip(search_inputs(count), these, strict=True)) for these in arrays]

    def find(index: int) -> dict[str, Tensor]:
        return model.predict(tokens[index], model.encode_search(pairs[index][1]))

    def difference(index: int) -> float:
        expected = find(index)
        found = session.run(None, inputs[index])
        wanted = [expected[name].cpu().numpy() for name in ("pred_boxes", "pred_logits") if name in expected]
        return np.max([np.abs(a - b).max() for a, b in zip(found, wanted, strict=True)])

    return Comparison(
        path,
        *_largest(difference, [template.mask is not None or search.mask is not None for template, search in pairs]),
        measure(lambda: find(0), device, runs, _WARMUP),
        measure(lambda: session.run(None, inputs[0]), device, runs, _WARMUP),
    )


def _largest(difference: Callable[[int], float], padded: Sequence[bool]) -> tuple[float, float]:
    """The largest difference of the crops without padding, and of those with it; NaN where one is NaN."""
    found = [float(difference(index)) for index in range(len(padded))]
    plain, others = ([f for f, pads in zip(found, padded, strict=True) if pads == kind] for kind in (False, True))
    return float(np.max(plain, initial=0)), float(np.max(others, initial=0))


def _template_arrays(model: nn.Module, template: NestedTensor) -> list[np.ndarray]:
    """What the template graph gives, computed by PyTorch."""
    image, mask = (torch.from_numpy(array).to(template.tensors.device) for array in _arrays(template))
    return [tensor.cpu().numpy() for tensor in TemplateGraph(model)(image, mask)]


def _arrays(region: NestedTensor) -> tuple[np.ndarray, np.ndarray]:
    """A crop (1, 3, H, W) and its mask (1, H, W) as the graphs take them."""
    image = np.ascontiguousarray(region.tensors.cpu().numpy())
    if region.mask is None:
        return image, np.zeros((len(image), *image.shape[2:]), dtype=bool)
    return image, region.mask.cpu().numpy()
