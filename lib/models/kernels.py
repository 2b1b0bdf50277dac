"""Attention and dropout of a training step on a CPU, where PyTorch's own cost more than the layers around them.

PyTorch draws dropout on a CPU one number after the other, and its attention with dropout passes over the weights of
all samples about a dozen times, each time from main memory. Here 16 random bits decide on an element, and attention
goes through one sample at a time, whose weights stay in the cache. The functions are the same, up to rounding.
"""

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# What dropout's probability is rounded to a multiple of.
_STEPS = 2**16
# Where keys are padding: far enough below every logit, and without the nan of a row of infinities.
_NEVER = -1e30


def are_for(x: Tensor) -> bool:
    """Whether a tensor is one to use these functions on. A compiler makes its own, and cannot read these."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


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


def drop(x: Tensor, dropout: float) -> Tensor:
    """Set elements of a CPU tensor to zero with the probability `dropout`, and scale the others up."""
    return _Dropout.apply(x, dropout)


def drop_relu(x: Tensor, dropout: float) -> Tensor:
    """ReLU and dropout of a CPU tensor; what was dropped need not be kept, for there the output is zero, too."""
    return _DroppedRelu.apply(x, dropout)


class _Signs:
    """Random signs, negative with a given probability; seeded from PyTorch's generator, as dropout is."""

    def __init__(self, probability: float) -> None:
        self.below = round(probability * _STEPS)
        self.scale = _STEPS / (_STEPS - self.below)  # exactly unbiased
        self.bits = np.random.SFC64(int(torch.randint(2**63 - 1, ())))

    def like(self, x: Tensor) -> Tensor:
        """0 or -1 in the shape and type of a contiguous tensor."""
        words = torch.from_numpy(self.bits.random_raw(-(-x.numel() // 4)).view(np.int16))[: x.numel()]
        return words.lt_(self.below - _STEPS // 2).neg_().view(x.shape).to(x.dtype)


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
        signs = _Signs(dropout) if dropout else None
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        bias = None if padding is None else query.new_zeros(padding.shape).masked_fill_(padding, _NEVER)
        with torch.autocast("cpu", enabled=False):
            for i in range(batch):
                own = weights[i if keep else 0]
                torch.bmm(_by_head(query[i], heads), _by_head(key[i], heads).transpose(1, 2), out=own)
                if bias is not None:
                    own += bias[i]
                torch.softmax(own, dim=-1, out=own)
                values = _by_head(value[i], heads)
                if signs is not None:
                    torch.copysign(own, signs.like(own), out=own)
                    own, values = torch.clamp_min(own, 0, out=dropped), values * signs.scale
                _by_head(out[i], heads).copy_(torch.bmm(own, values))
        ctx.save_for_backward(query, key, value, weights)
        ctx.heads, ctx.scale = heads, None if signs is None else signs.scale
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


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, dropout: float) -> Tensor:
        signs = _Signs(dropout)
        kept = signs.like(x).add_(1).mul_(signs.scale)
        ctx.save_for_backward(kept)
        return x * kept

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.saved_tensors[0], None


class _DroppedRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, dropout: float) -> Tensor:
        signs = _Signs(dropout)
        kept = signs.like(x).add_(1).mul_(signs.scale)
        out = torch.clamp_min(x, 0, out=torch.empty_like(x)).mul_(kept)
        ctx.save_for_backward(out)
        ctx.scale = signs.scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return torch.ops.aten.threshold_backward(grad, ctx.saved_tensors[0], 0).mul_(ctx.scale), None


def _by_head(x: Tensor, heads: int) -> Tensor:
    """One sample's tokens (L, C) as (heads, L, C / heads), without a copy."""
    return x.unflatten(1, (heads, -1)).transpose(0, 1)
