"""Trackers that also give masks: Alpha-Refine on the engines that trackers run on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict

from lib.models.alpha_refine import SCRIPT, AlphaRefine
from lib.test.tracker import graphs_dir
from lib.test.tracker.engines import choose_engine, engine_device
from lib.test.tracker.engines.onnx import open_graph
from lib.test.tracker.engines.pytorch import DTYPES, compile_part
from lib.test.tracker.mask_graphs import MaskParts, kept_mask_graphs
from lib.test.tracker.refiner import DEFAULT_CONFIG, MaskEngine, MaskTracker, Refiner, load_refiner
from lib.utils.graph_files import GraphFiles

# A part of the network on some engine: arrays in, its one output out.
Part = Callable[[Sequence[np.ndarray]], np.ndarray]


class PartsEngine:
    """A `MaskEngine` of two functions.

    Args:
        name: the engine's name and precision, for people.
        template, search: compute what the parts of `lib.test.tracker.mask_graphs.MaskParts` do, a crop at a time.
    """

    def __init__(self, name: str, template: Part, search: Part) -> None:
        self.name, self.template, self.search = name, template, search

    def encode_reference(self, crop: np.ndarray, box: np.ndarray) -> np.ndarray:
        """See `MaskEngine.encode_reference`."""
        return self.template([np.ascontiguousarray(crop)[None], box[None]])

    def segment(self, kernels: np.ndarray, crop: np.ndarray) -> np.ndarray:
        """See `MaskEngine.segment`."""
        return self.search([np.ascontiguousarray(crop)[None], kernels])[0]


def with_masks(
    tracker: Any,
    config: str = DEFAULT_CONFIG,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
) -> MaskTracker:
    """A tracker of boxes that also gives masks.

    Args:
        tracker: as `lib.test.tracker.create_tracker` gives it.
        config, checkpoint: as `lib.test.tracker.refiner.load_refiner` takes them.
        device, engine, precision: as `lib.test.tracker.create_tracker` takes them.

    Raises:
        UserError: an unknown configuration, device, engine or precision; weights that are missing, damaged or of
            another network.
    """
    return MaskTracker(tracker, create_refiner(config, checkpoint, device, engine, precision))


def create_refiner(
    config: str = DEFAULT_CONFIG,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
) -> Refiner:
    """Alpha-Refine on an engine; arguments and errors as of `with_masks`."""
    chosen = choose_engine(engine, device, precision)
    target = engine_device(chosen, device)
    model, cfg = load_refiner(config, checkpoint)
    return Refiner(create_mask_engine(chosen, model, cfg, target, graphs_dir(SCRIPT, config), precision), cfg)


def create_mask_engine(
    engine: str, model: AlphaRefine, cfg: EasyDict, device: torch.device, graphs_dir: Path, precision: str = "fp32"
) -> MaskEngine:
    """The engine of a name for a network; arguments and errors as of `lib.test.tracker.engines.create_engine`."""
    name = f"{engine} {precision}"
    if engine in ("torch", "compile"):
        return PartsEngine(name, *_torch_parts(model, cfg, device, precision, engine == "compile"))
    graphs = kept_mask_graphs(model, cfg, graphs_dir)
    if engine == "onnx":
        return onnx_mask_engine(graphs, device)
    if engine == "tensorrt":
        return tensorrt_mask_engine(graphs, device, precision, graphs)[0]
    search = graphs.search
    if precision == "int8":
        from lib.test.tracker.engines.openvino import INT8_SUFFIX, require_int8

        require_int8(graphs.made_of("search", INT8_SUFFIX))
        search = graphs.made_of("search", INT8_SUFFIX)
    return openvino_mask_engine(graphs.template, search, precision)


def onnx_mask_engine(graphs: GraphFiles, device: torch.device) -> PartsEngine:
    """onnxruntime on exported graphs."""

    def opened(path: Path) -> Part:
        session = open_graph(path, device)
        names = [each.name for each in session.get_inputs()]
        return lambda given: session.run(None, dict(zip(names, given, strict=True)))[0]

    return PartsEngine("onnx fp32", opened(graphs.template), opened(graphs.search))


def openvino_mask_engine(template: Path, search: Path, precision: str) -> PartsEngine:
    """OpenVINO on the files of both parts; the template's part, run once, is always computed in fp32."""
    from lib.test.tracker.engines.openvino import OpenVinoGraph, hint_of

    def opened(path: Path, hint: str) -> Part:
        graph = OpenVinoGraph(path, hint)
        return lambda given: graph(list(given))[0]

    return PartsEngine(f"openvino {precision}", opened(template, "f32"), opened(search, hint_of(precision)))


def tensorrt_mask_engine(
    graphs: GraphFiles, device: torch.device, precision: str, target: GraphFiles
) -> tuple[PartsEngine, list[Path]]:
    """TensorRT on exported graphs, and the files that it made in `target`. Not run so far."""
    from lib.test.tracker.engines.tensorrt import Plan, kept_plan

    def opened(path: Path) -> Part:
        plan = Plan(path, device)
        return lambda given: plan.run([torch.from_numpy(each).to(device) for each in given])[0].cpu().numpy()

    with torch.cuda.device(device):
        paths = [kept_plan(graph, target, device, precision) for graph in (graphs.template, graphs.search)]
        return PartsEngine(f"tensorrt {precision}", *map(opened, paths)), paths


def _torch_parts(
    model: AlphaRefine, cfg: EasyDict, device: torch.device, precision: str, by_compiler: bool
) -> tuple[Part, Part]:
    parts = MaskParts(model, cfg).to(device, memory_format=torch.channels_last)
    dtype = DTYPES[precision]

    def run(function: Callable) -> Part:
        @torch.inference_mode()
        def part(given: Sequence[np.ndarray]) -> np.ndarray:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                found = function(*(torch.from_numpy(array).to(device, non_blocking=True) for array in given))
            return found.cpu().numpy()

        return part

    return run(parts.template), run(compile_part(parts.search, device) if by_compiler else parts.search)
