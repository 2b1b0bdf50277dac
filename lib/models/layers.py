"""Small layers that several networks share."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models import kernels


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters never change.

    (B, C, H, W) to the same. All four vectors are buffers, so neither the optimiser
    nor the batch touches them.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # An ordinary batch norm also counts its batches; that count means nothing here.
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = scale_and_shift(self)
        return x * scale.to(x.dtype).view(1, -1, 1, 1) + shift.to(x.dtype).view(1, -1, 1, 1)


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The affine map a batch norm is at evaluation, frozen or not: y = scale * x + shift, each (C,)."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


# Kernels that were made in the body of `kernels_once`, by the module they are for; None outside.
_MADE: ContextVar[dict[nn.Module, tuple[Tensor, Tensor]] | None] = ContextVar("made", default=None)


@contextlib.contextmanager
def kernels_once() -> Iterator[None]:
    """In the body, weights do not change: a kernel that is computed from them is, once, for templates and search."""
    if torch.compiler.is_compiling():  # sees it by itself
        yield
        return
    token = _MADE.set({})
    try:
        yield
    finally:
        _MADE.reset(token)


def made_once(module: nn.Module, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A kernel and its bias, in the body of `kernels_once` from there, in the arithmetic that is to be used."""
    made = _MADE.get()
    if made is None:
        return make()
    if module not in made:
        kernel, bias = make()
        kind = kernel.device.type
        if torch.is_autocast_enabled(kind):  # which keeps only casts of parameters
            kernel = kernel.to(torch.get_autocast_dtype(kind))
        made[module] = kernel, bias
    return made[module]


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """A convolution without bias and the norm behind it.

    A frozen norm is multiplied into the kernel: the same function, and one pass less
    over the activations, which is what costs time on a CPU.
    """
    if not isinstance(norm, FrozenBatchNorm2d):
        return norm(conv(x))
    kernel, shift = made_once(conv, lambda: folded(conv.weight, norm))
    return F.conv2d(x, kernel, shift, conv.stride, conv.padding, conv.dilation, conv.groups)


def folded(kernel: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A convolution's kernel (O, I, k, k) and the norm behind it as one kernel and bias (O,)."""
    scale, shift = scale_and_shift(norm)
    return kernel * scale.view(-1, 1, 1, 1), shift


class Linear(nn.Linear):
    """PyTorch's linear layer, computed by what is fastest."""

    def forward(self, x: Tensor) -> Tensor:
        return kernels.linear(x, self.weight, self.bias)


class Dropout(nn.Dropout):
    """PyTorch's dropout; on a CPU with random numbers that cost a sixth."""

    def forward(self, x: Tensor) -> Tensor:
        return kernels.drop(x, self.p) if self._is_own(x) else super().forward(x)

    def after_relu(self, x: Tensor) -> Tensor:
        """ReLU, and dropout of what it gives."""
        return kernels.drop_relu(x, self.p) if self._is_own(x) else super().forward(x.relu())

    def _is_own(self, x: Tensor) -> bool:
        return self.training and self.p > 0 and kernels.are_for(x)


class MLP(nn.Module):
    """Linear layers with ReLU between them; (..., sizes[0]) to (..., sizes[-1])."""

    def __init__(self, inputs: int, hidden: int, outputs: int, num_layers: int) -> None:
        super().__init__()
        sizes = [inputs] + [hidden] * (num_layers - 1) + [outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
