"""PyTorch, as it is or compiled; on CUDA as CUDA graphs."""

import shutil
from collections.abc import Callable

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from ....models.alpha_refine import AlphaRefine
from ....models.explain import watched
from ....models.export import MaskParts
from ....models.inference import Parts, prepare_for_tracking
from ....utils.errors import UserError
from . import Engine, Part

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_WARM_UP = 3  # calls before a capture


def torch_engine(
    model: nn.Module, cfg: EasyDict, device: str = "cpu", precision: str = "fp32", compiled: bool = False
) -> Engine:
    """The engine `torch` or `compile` for a network with its weights, which is rewritten for tracking.

    The precision `fp32`, `bf16` or `fp16` is that of the weights and all that is computed but positions and boxes. A
    network that makes masks has it by autocast. On CUDA both parts are CUDA graphs, compiled or not: their shapes are
    fixed.
    """
    masks, dtype, kind = isinstance(model, AlphaRefine), _DTYPES[precision], torch.device(device).type
    parts = MaskParts(model, cfg) if masks else Parts(prepare_for_tracking(model), cfg)
    if not masks and precision != "fp32":
        model.extractor.dtype = "fp32"  # the rest's: no cast between backbone and neck
        for parameter in parts.parameters():
            parameter.data = parameter.data.to(dtype)
    parts.to(device, memory_format=torch.channels_last)
    search = _compiled(parts.search, kind) if compiled else parts.search

    def made(function: Callable[..., tuple[Tensor, ...]], graphs: bool = kind == "cuda") -> Part:
        def computed(*inputs: Tensor) -> tuple[Tensor, ...]:
            with torch.autocast(kind, dtype, enabled=masks and precision != "fp32"):
                return function(*inputs)

        return torch_part(CudaGraphs(computed, torch.device(device)) if graphs else computed, device)

    def explain(*inputs: np.ndarray) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
        with watched(parts.model) as found:  # a graph would not call what watches
            return made(parts.search, graphs=False)(*inputs), found

    name, regions = f"{'compile' if compiled else 'torch'} {precision}", None if masks else parts.regions
    return Engine(name, made(parts.template), made(search), regions, None if compiled or masks else explain)


def torch_part(function: Callable[..., tuple[Tensor, ...]], device: str) -> Part:
    """A function of arrays from one of tensors, which computes on a device."""

    @torch.inference_mode()
    def part(*inputs: np.ndarray) -> list[np.ndarray]:
        found = function(*(torch.from_numpy(array).to(device, non_blocking=True) for array in inputs))
        return [tensor.cpu().numpy() for tensor in found]

    return part


class CudaGraphs:
    """A function as CUDA graphs, one for each combination of the inputs' shapes, captured when it comes first.

    Outputs are the graph's own tensors, which the next call overwrites. One thread may call it at a time. An operation
    that cannot be captured raises its error.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self.function, self.device = function, device
        self.captured: dict[tuple, tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self.captured:
            self.captured[key] = self._capture(inputs)
        graph, own, outputs = self.captured[key]
        for tensor, given in zip(own, inputs, strict=True):
            tensor.copy_(given)
        graph.replay()
        return outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]:
        with torch.cuda.device(self.device):
            own = [tensor.clone() for tensor in inputs]
            # Libraries choose algorithms and reserve memory before the capture, on another stream, as PyTorch asks.
            stream = torch.cuda.Stream(self.device)
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    self.function(*own)
            torch.cuda.current_stream(self.device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on using the device.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = self.function(*own)
        return graph, own, outputs


def _compiled(function: Callable, kind: str) -> Callable:
    """A function compiled for the shapes that it is called with."""
    if kind == "cpu" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        raise UserError("the engine compile needs a C++ compiler: install g++, or choose another engine")
    import torch._inductor.config as inductor

    inductor.freezing = True  # weights become constants, laid out as the processor likes them
    return torch.compile(function, dynamic=False)
