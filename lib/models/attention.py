"""Multi-head attention on batch-first tokens, with the parameter names of `nn.MultiheadAttention`."""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention over several heads (Vaswani et al., 2017, section 3.2).

    Args:
        divide_norm: first scale queries and keys to unit length, then queries by sqrt(head size).
    """

    def __init__(self, dim: int, heads: int, dropout: float, divide_norm: bool = False) -> None:
        super().__init__()
        self.heads, self.dropout, self.divide_norm = heads, dropout, divide_norm
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Queries (B, Lq, C), keys and values (B, Lk, C) to (B, Lq, C).

        `padding` (B, Lk) is bool, True on keys to ignore, or float, added to the logits (minus infinity on padding).
        """
        if self.divide_norm:
            query = F.normalize(query, dim=-1) * (query.shape[-1] // self.heads) ** 0.5
            key = F.normalize(key, dim=-1)
        projections = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (F.linear(x, w, b).unflatten(2, (self.heads, -1)).transpose(1, 2) for x, w, b in projections)
        mask = None
        if padding is not None:
            mask = (padding.to(q.dtype) if padding.is_floating_point() else ~padding)[:, None, None]  # (B, 1, 1, Lk)
        with _exact_gradients(query):
            attended = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def _exact_gradients(query: Tensor) -> contextlib.AbstractContextManager:
    """The kernel that keeps the attention weights, where gradients are computed on a CPU.

    The CPU's fused kernel computes the weights again in its backward pass. With large logits the second rounding makes
    gradients infinite.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()
