"""Attention and dropout of a training step on a CPU, where PyTorch's own cost more than the layers around them.

PyTorch draws dropout on a CPU one number after the other, and its attention with dropout passes over the weights of
all samples about a dozen times, each time from main memory. Here 16 random bits decide on an element, and attention
goes through one sample at a time, whose weights stay in the cache. The functions are the same, up to rounding.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

_ONEDNN = torch.backends.mkldnn.is_available()
# What dropout's probability is rounded to a multiple of.
_STEPS = 2**16
# Where keys are padding: far enough below every logit, and without the nan of a row of infinities.
_NEVER = -1e30


def are_for(x: Tensor) -> bool:
    """Whether a tensor is one to use these functions on. A compiler or a graph's export cannot read them."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, padding: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention on the CPU, with the weights kept for the backward pass.

    Args:
        query: (B, Lq, C), `key` and `value` (B, Lk, C): projected, the heads side by side in C.
        heads: how many.
        padding: (B, Lk), True on keys to ignore, or None.
        dropout: probability that a weight is dropped.

    Returns:
        (B, Lq, C), the heads side by side.
    """
    return _Attention.apply(query * (query.shape[2] // heads) ** -0.5, key, value, heads, padding, dropout)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer, (..., I) to (..., O), on a CPU.

    In fp32 PyTorch leaves it to MKL, which on many processors is slower than oneDNN, to which convolutions go.
    """
    own = x.dtype == torch.float32 and are_for(x) and not torch.is_autocast_enabled("cpu") and _ONEDNN
    return _Linear.apply(x, weight, bias) if own else F.linear(x, weight, bias)


def drop(x: Tensor, dropout: float) -> Tensor:
    """Set elements of a CPU tensor to zero with the probability `dropout`, and scale the others up."""
    return _Dropout.apply(x, dropout)


def drop_relu(x: Tensor, dropout: float) -> Tensor:
    """ReLU and dropout of a CPU tensor; what was dropped need not be kept, for there the output is zero, too."""
    return _DroppedRelu.apply(x, dropout)


class _Draws:
    """Which elements are dropped; seeded from PyTorch's generator, so that a run's dropout follows from its seed."""

    def __init__(self, probability: float) -> None:
        dropped = round(probability * _STEPS)
        self.limit = min(dropped - _STEPS // 2, 2**15 - 1)  # of the words that mean it
        self.scale = _STEPS / (_STEPS - dropped) if dropped < _STEPS else 0.0  # of what stays, so that the mean does
        self.bits = np.random.SFC64(int(torch.randint(2**63 - 1, ())))

    def signs(self, x: Tensor) -> Tensor:
        """-1 where an element is dropped, else 0, in the shape and type of a tensor."""
        return self._words(x).lt_(self.limit).neg_().to(x.dtype)

    def factors(self, x: Tensor) -> Tensor:
        """What an element is multiplied by, in the shape and type of a tensor."""
        return self._words(x).ge_(self.limit).to(x.dtype).mul_(self.scale)

    def _words(self, x: Tensor) -> Tensor:
        """Random int16 numbers in the shape of a tensor."""
        words = self.bits.random_raw(-(-x.numel() // 4)).view(np.int16)
        return torch.from_numpy(words)[: x.numel()].view(x.shape)


class _Attention(torch.autograd.Function):
    """`attend` with the scale multiplied into the query.

    A weight that dropout takes is kept with its sign turned: ReLU gives what the values are weighted by, the absolute
    value what the softmax gave, and there is no mask to store and to read.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, heads: int, padding: Tensor | None, dropout: float
    ) -> Tensor:
        batch, queries, dim = query.shape
        keys = key.shape[1]
        keep = any(ctx.needs_input_grad)
        weights = query.new_empty(batch if keep else 1, heads, queries, keys)
        dropped = torch.empty_like(weights[0]) if dropout else None
        draws = _Draws(dropout) if dropout else None
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        if padding is not None:
            never = max(_NEVER, torch.finfo(query.dtype).min)
            bias, padded = query.new_zeros(padding.shape).masked_fill_(padding, never), padding.any(1).tolist()
        with torch.autocast("cpu", enabled=False):
            for i in range(batch):
                own = weights[i if keep else 0]
                torch.bmm(_by_head(query[i], heads), _by_head(key[i], heads).transpose(1, 2), out=own)
                if padding is not None and padded[i]:
                    own += bias[i]
                torch.softmax(own, dim=-1, out=own)
                values = _by_head(value[i], heads)
                if draws is not None:
                    torch.copysign(own, draws.signs(own), out=own)
                    own, values = torch.clamp_min(own, 0, out=dropped), values * draws.scale
                _by_head(out[i], heads).copy_(torch.bmm(own, values))
        ctx.save_for_backward(query, key, value, weights)
        ctx.heads, ctx.scale = heads, None if draws is None else draws.scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        heads, scale = ctx.heads, ctx.scale
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)]
        dropped, slope = torch.empty_like(weights[0]), torch.empty_like(weights[0])
        for i in range(len(query)):
            own, out = weights[i], _by_head(grad[i], heads)
            if scale is not None:
                out = out * scale
                torch.clamp_min(own, 0, out=dropped)
            used = own if scale is None else dropped
            _by_head(grads[2][i], heads).copy_(torch.bmm(used.transpose(1, 2), out))
            torch.bmm(out, _by_head(value[i], heads).transpose(1, 2), out=slope)
            if scale is not None:
                torch.ops.aten.threshold_backward.grad_input(slope, own, 0, grad_input=slope)
                own = torch.abs(own, out=dropped)
            torch.ops.aten._softmax_backward_data.out(slope, own, -1, own.dtype, grad_input=slope)
            _by_head(grads[0][i], heads).copy_(torch.bmm(slope, _by_head(key[i], heads)))
            _by_head(grads[1][i], heads).copy_(torch.bmm(slope.transpose(1, 2), _by_head(query[i], heads)))
        return *grads, None, None, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.ops.mkldnn._linear_pointwise(grad, weight.t(), None, "none", [], "")
        grad = grad.flatten(0, -2)
        if ctx.needs_input_grad[1]:
            grad_weight = grad.t() @ x.flatten(0, -2)
        return grad_x, grad_weight, grad.sum(0) if ctx.needs_input_grad[2] else None


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, dropout: float) -> Tensor:
        factors = _Draws(dropout).factors(x)
        ctx.save_for_backward(factors)
        return x * factors

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.saved_tensors[0], None


class _DroppedRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, dropout: float) -> Tensor:
        draws = _Draws(dropout)
        out = draws.factors(x).mul_(x).clamp_min_(0)
        ctx.save_for_backward(out)
        ctx.scale = draws.scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return torch.ops.aten.threshold_backward(grad, ctx.saved_tensors[0], 0).mul_(ctx.scale), None


def _by_head(x: Tensor, heads: int) -> Tensor:
    """One sample's tokens (L, C) as (heads, L, C / heads), without a copy."""
    return x.unflatten(1, (heads, -1)).transpose(0, 1)
