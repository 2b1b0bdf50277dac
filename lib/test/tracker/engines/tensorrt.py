"""TensorRT on exported graphs, for NVIDIA GPUs. Written by its documentation, and not run so far."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from lib.models.export import GraphFiles
from lib.test.tracker.engines.base import Context, Engine
from lib.test.tracker.engines.onnx import package
from lib.utils.errors import UserError
from lib.utils.files import atomic_path, locked
from lib.utils.graph_files import Regions

_WORKSPACE_BYTES = 2 << 30
_FLAGS = {"bf16": "BF16", "fp16": "FP16"}


class TensorRtEngine(Engine):
    """TensorRT on the graphs of `lib.models.export`; what it makes of them is kept beside them, by kind of GPU.

    Args:
        graphs: the exported network.
        regions: of the network.
        device: a CUDA device.
        precision: `fp32`, `bf16` or `fp16`.
        target: where the built engines are kept; beside the graphs by default.

    Attributes:
        paths: the built engines' files.

    Raises:
        UserError: TensorRT is missing, or cannot build or read an engine.
    """

    def __init__(
        self,
        graphs: GraphFiles,
        regions: Regions,
        device: torch.device,
        precision: str = "fp32",
        target: GraphFiles | None = None,
    ) -> None:
        super().__init__(regions)
        self.name, self.device = f"tensorrt {precision}", device
        with torch.cuda.device(device):
            self.paths = [
                kept_plan(graphs.made_of(part, ".onnx"), target or graphs, device, precision)
                for part in ("template", "search")
            ]
            self._template_plan, self._search_plan = (Plan(path, device) for path in self.paths)
        self._moved: tuple[Context, list[Tensor]] | None = None

    @torch.inference_mode()
    def _template(self, crop: np.ndarray) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in self._template_plan.run([self._crop(crop)]))

    @torch.inference_mode()
    def _search(self, crop: np.ndarray, context: Context, kept: list[Any]) -> list[np.ndarray]:
        if self._moved is None or self._moved[0] is not context:
            given = [context.bias] if context.position is None else [context.bias, context.position]
            self._moved = context, [torch.from_numpy(array).to(self.device) for array in given]
        return [found.cpu().numpy() for found in self._search_plan.run([self._crop(crop), *self._moved[1], *kept])]

    def _crop(self, crop: np.ndarray) -> Tensor:
        return torch.from_numpy(crop)[None].to(self.device, non_blocking=True)


class Plan:
    """A built engine, and the memory that its outputs go to."""

    def __init__(self, path: Path, device: torch.device) -> None:
        trt = tensorrt()
        engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise UserError(f"TensorRT cannot load {path}: it is damaged or of another version; remove it")
        self._engine, self._context, self._device = engine, engine.create_execution_context(), device
        self._inputs, self._outputs = [], {}
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self._inputs.append(name)
            else:
                shape = tuple(engine.get_tensor_shape(name))
                self._outputs[name] = torch.empty(shape, dtype=torch.float32, device=device)

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        """Outputs, in memory that the next run writes over."""
        stream = torch.cuda.current_stream(self._device)
        inputs = [tensor.float().contiguous() for tensor in inputs]  # see `with_float_pixels`
        for name, tensor in (*zip(self._inputs, inputs, strict=True), *self._outputs.items()):
            self._context.set_tensor_address(name, tensor.data_ptr())
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise UserError("TensorRT could not run the network; its own message is above")
        return list(self._outputs.values())


def kept_plan(graph: Path, target: GraphFiles, device: torch.device, precision: str) -> Path:
    """The engine built from a graph, in a folder, unless an earlier call left it there.

    Raises:
        UserError: TensorRT is missing, or cannot build it.
    """
    trt = tensorrt()
    gpu = "".join(c if c.isalnum() else "_" for c in torch.cuda.get_device_name(device))
    path = target.made_of(graph.stem, f".{gpu}.{trt.__version__}.{precision}.plan")
    with locked(target.folder):
        if not path.is_file():
            with atomic_path(path) as temporary:
                temporary.write_bytes(build(graph, precision))
    return path


def build(graph: Path, precision: str) -> bytes:
    """An engine for one crop at a time, built from an ONNX graph.

    Raises:
        UserError: TensorRT is missing, or cannot take the graph.
    """
    trt = tensorrt()
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.WARNING))
    if not parser.parse(with_float_pixels(graph)):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise UserError(f"TensorRT cannot read {graph}: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    if precision in _FLAGS:
        config.set_flag(getattr(trt.BuilderFlag, _FLAGS[precision]))
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        shape = (1, *network.get_input(i).shape[1:])
        profile.set_shape(network.get_input(i).name, shape, shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UserError(f"TensorRT cannot build an engine of {graph}; its own message is above")
    return bytes(plan)


def with_float_pixels(graph: Path) -> bytes:
    """An ONNX graph that takes pixels as floats.

    TensorRT takes 8-bit ones only where they are cast before anything else; on CPUs graphs are faster that order their
    axes first.
    """
    model = onnx.load(graph)
    for each in model.graph.input:
        if each.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            each.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model.SerializeToString()


def tensorrt() -> ModuleType:
    """The package, which only this engine needs.

    Raises:
        UserError: it is not installed.
    """
    return package("tensorrt", "the engine tensorrt")
