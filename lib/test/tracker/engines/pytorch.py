"""PyTorch, as it is or compiled."""

import shutil
from collections.abc import Callable
from functools import partial

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


def torch_engine(
    model: nn.Module, cfg: EasyDict, device: str = "cpu", precision: str = "fp32", compiled: bool = False
) -> Engine:
    """The engine `torch` or `compile` for a network with its weights, which is rewritten for tracking.

    Args:
        precision: `fp32`, `bf16` or `fp16`: of the weights and all that is computed but positions and boxes; of a
            network that makes masks by autocast.
        compiled: by torch.compile; on CUDA with graphs, since shapes are fixed.
    """
    dtype, autocast, regions = _DTYPES[precision], torch.float32, None
    if isinstance(model, AlphaRefine):
        parts, autocast = MaskParts(model, cfg), dtype
    else:
        parts = Parts(prepare_for_tracking(model), cfg)
        regions = parts.regions
        if precision != "fp32":
            model.extractor.dtype = "fp32"  # the rest's: no cast between backbone and neck
        for parameter in parts.parameters():
            parameter.data = parameter.data.to(dtype)
    parts.to(device, memory_format=torch.channels_last)
    search = _compiled(parts.search, torch.device(device)) if compiled else parts.search
    name = f"{'compile' if compiled else 'torch'} {precision}"
    watch = None if compiled or regions is None else partial(watched, parts.model)
    return Engine(
        name, torch_part(parts.template, device, autocast), torch_part(search, device, autocast), regions, watch
    )


def torch_part(function: Callable[..., tuple[Tensor, ...]], device: str, autocast: torch.dtype = torch.float32) -> Part:
    """A function of arrays from one of tensors, which computes on a device; in half precision by autocast."""
    kind = torch.device(device).type

    @torch.inference_mode()
    def part(*inputs: np.ndarray) -> list[np.ndarray]:
        with torch.autocast(kind, autocast, enabled=autocast != torch.float32):
            found = function(*(torch.from_numpy(array).to(device, non_blocking=True) for array in inputs))
        return [tensor.cpu().numpy() for tensor in found]

    return part


def _compiled(function: Callable, device: torch.device) -> Callable:
    """A function compiled for the shapes that it is called with."""
    if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "c++", "clang++")):
        raise UserError(
            "the engine compile needs a C++ compiler, and there is none: install g++, or choose another engine"
        )
    import torch._inductor.config as inductor

    inductor.freezing = True  # weights become constants, laid out as the processor likes them
    return torch.compile(function, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None)
