"""TensorRT on exported graphs, for NVIDIA GPUs. Written by its documentation, and not run so far."""

from pathlib import Path

import numpy as np
import onnx
import torch

from ....utils.errors import UserError
from ....utils.files import atomic_path, locked
from . import Part, package

_WORKSPACE_BYTES = 2 << 30
_FLAGS = {"bf16": "BF16", "fp16": "FP16"}


def open_graph(graph: Path, folder: Path, device: str, precision: str) -> Part:
    """A graph as a function on a CUDA device; what TensorRT builds of it for one kind of GPU stays in a folder.

    Raises UserError where TensorRT is missing, or cannot build or read its own file.
    """
    trt = package("tensorrt", "the engine tensorrt")
    gpu = "".join(c if c.isalnum() else "_" for c in torch.cuda.get_device_name(device))
    path = folder / f"{graph.stem}.{gpu}.{trt.__version__}.{precision}.plan"
    with torch.cuda.device(device):
        with locked(folder):
            if not path.is_file():
                with atomic_path(path) as temporary:
                    temporary.write_bytes(build(graph, precision))
        engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise UserError(f"TensorRT cannot load {path}: it is damaged or of another version; remove it")
        context = engine.create_execution_context()
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    taken = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = {
        name: torch.empty(tuple(engine.get_tensor_shape(name)), dtype=torch.float32, device=device)
        for name in names
        if name not in taken
    }

    def part(*inputs: np.ndarray) -> list[np.ndarray]:
        # Pixels are floats, too: see `with_float_pixels`.
        given = [torch.from_numpy(array).to(device, torch.float32).contiguous() for array in inputs]
        for name, tensor in (*zip(taken, given, strict=True), *outputs.items()):
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(torch.cuda.current_stream(device).cuda_stream):
            raise UserError("TensorRT could not run the network; its own message is above")
        return [tensor.cpu().numpy() for tensor in outputs.values()]

    return part


def build(graph: Path, precision: str) -> bytes:
    """A plan for one crop at a time; raises UserError where TensorRT is missing or cannot take the ONNX graph."""
    trt = package("tensorrt", "the engine tensorrt")
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
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
