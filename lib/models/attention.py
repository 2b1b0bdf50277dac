"""Multi-head attention on batch-first tokens, with the parameter names of `nn.MultiheadAttention`."""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention over several heads (Vaswani et al., 2017, section 3.2).

    With `divide_norm` queries and keys are first brought to unit length, queries then
    scaled by sqrt(head size).
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
        """Attend from (B, Lq, C) to (B, Lk, C); `padding` (B, Lk): see `logit_bias`. Gives (B, Lq, C)."""
        return self.attend(self.queries(query), self.keys(key), self.values(value), padding)

    def queries(self, x: Tensor) -> Tensor:
        """What is looked for: tokens (B, L, C) to (B, heads, L, C / heads); `keys` and `values` likewise."""
        if self.divide_norm:
            x = F.normalize(x, dim=-1) * (x.shape[-1] // self.heads) ** 0.5
        return self._project(x, 0)

    def keys(self, x: Tensor) -> Tensor:
        """What tokens are found by."""
        return self._project(F.normalize(x, dim=-1) if self.divide_norm else x, 1)

    def values(self, x: Tensor) -> Tensor:
        """What found tokens give."""
        return self._project(x, 2)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor | None) -> Tensor:
        """Attention of what `queries`, `keys` and `values` gave; (B, Lq, C)."""
        mask = None if padding is None else logit_bias(padding, queries.dtype)[:, None, None]
        with _exact_gradients(queries):
            attended = F.scaled_dot_product_attention(
                queries, keys, values, mask, self.dropout if self.training else 0.0
            )
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _project(self, x: Tensor, part: int) -> Tensor:
        projected = F.linear(x, self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part])
        return projected.unflatten(2, (self.heads, -1)).transpose(1, 2)


def logit_bias(padding: Tensor, dtype: torch.dtype) -> Tensor:
    """What padding (B, L) adds to the logits of attention: minus infinity where a bool is True; floats are it already.

    Added, since as a choice (a bool mask) it would be one more pass over them in exported graphs.
    """
    if padding.is_floating_point():
        return padding.to(dtype)
    return torch.zeros_like(padding, dtype=dtype).masked_fill(padding, -torch.inf)


def _exact_gradients(query: Tensor) -> contextlib.AbstractContextManager:
    """The kernel that keeps its weights, where gradients are wanted on a CPU.

    The CPU's fused kernel computes the weights again in its backward pass, and where logits are
    large the second rounding makes gradients infinite. With dropout torch takes this kernel anyway.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()
