"""PyTorch, as it is or compiled."""

import shutil
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.inference import Parts, prepare_for_tracking
from lib.test.tracker.engines.base import Context, Engine
from lib.utils.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(Engine):
    """PyTorch.

    Args:
        model: a network with its weights; it is rewritten for tracking and moved to `device`.
        cfg: the configuration it was built from.
        device: where it runs.
        precision: `fp32`, `bf16` or `fp16`: of the weights and all that is computed but positions and boxes.
        compiled: by torch.compile; on CUDA with graphs, since shapes are fixed.
    """

    def __init__(
        self, model: nn.Module, cfg: EasyDict, device: torch.device, precision: str = "fp32", compiled: bool = False
    ) -> None:
        prepared = prepare_for_tracking(model)
        if precision != "fp32":
            prepared.extractor.dtype = "fp32"  # the rest's: no cast between backbone and neck
        self.parts = Parts(prepared, cfg)
        super().__init__(self.parts.regions)
        for parameter in self.parts.parameters():
            parameter.data = parameter.data.to(DTYPES[precision])
        self.parts.to(device, memory_format=torch.channels_last)
        self.device, self.name = device, f"{'compile' if compiled else 'torch'} {precision}"
        self._search_part = compile_part(self.parts.search, device) if compiled else self.parts.search
        self._moved: tuple[Context, list[Tensor | None]] | None = None

    @torch.inference_mode()
    def _template(self, crop: np.ndarray) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in self.parts.template(self._crop(crop)))

    @torch.inference_mode()
    def _search(self, crop: np.ndarray, context: Context, kept: list[Any]) -> list[np.ndarray]:
        if self._moved is None or self._moved[0] is not context:
            # Without padding nothing is added to the logits.
            inputs = [torch.from_numpy(context.bias).to(self.device) if context.padded else None]
            if context.position is not None:
                inputs.append(torch.from_numpy(context.position).to(self.device))
            self._moved = context, inputs
        return [found.cpu().numpy() for found in self._search_part(self._crop(crop), *self._moved[1], *kept)]

    def _crop(self, crop: np.ndarray) -> Tensor:
        return torch.from_numpy(crop)[None].to(self.device, non_blocking=True)


def compile_part(function: Any, device: torch.device) -> Any:
    """A function compiled for the shapes that it is called with."""
    if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "c++", "clang++")):
        raise UserError(
            "the engine compile needs a C++ compiler, and there is none: install g++, or choose another engine"
        )
    import torch._inductor.config as inductor

    inductor.freezing = True  # weights become constants, laid out as the processor likes them
    return torch.compile(function, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None)
