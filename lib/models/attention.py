"""Multi-head attention on batch-first tokens, with the parameter names of `nn.MultiheadAttention`."""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lib.models import kernels
from lib.models.layers import Linear


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
        self.out_proj = Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attend from (B, Lq, C) to (B, Lk, C); `padding` (B, Lk): see `logit_bias`. Gives (B, Lq, C)."""
        if query.shape[1] * self.heads < query.shape[2] // 2:
            return self.out_proj(self._look(query, key, value, padding))
        if query is key and not self.divide_norm:
            queries, keys = self._project(query, 0, 2).chunk(2, dim=2)  # those of the same tokens in one product
        else:
            queries, keys = self.queries(query), self.keys(key)
        return self.attend(queries, keys, self.values(value), padding)

    def queries(self, x: Tensor) -> Tensor:
        """What tokens (B, L, C) look for, (B, L, C), the heads side by side; `keys` and `values` likewise."""
        return self._project(self._of_length(x) if self.divide_norm else x, 0)

    def keys(self, x: Tensor) -> Tensor:
        """What tokens are found by."""
        return self._project(F.normalize(x, dim=-1) if self.divide_norm else x, 1)

    def values(self, x: Tensor) -> Tensor:
        """What found tokens give."""
        return self._project(x, 2)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor | None) -> Tensor:
        """Attention of what `queries`, `keys` and `values` gave; (B, Lq, C)."""
        dropout = self.dropout if self.training else 0.0
        if kernels.are_for(queries) and (dropout or torch.is_grad_enabled()):
            return self.out_proj(kernels.attend(queries, keys, values, self.heads, padding, dropout))
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (queries, keys, values))
        mask = None if padding is None else logit_bias(padding, q.dtype)[:, None, None]
        with _exact_gradients(queries):
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _project(self, x: Tensor, first: int, count: int = 1) -> Tensor:
        """Tokens times the matrices of queries (0), keys (1), values (2), or several of these side by side."""
        dim = self.out_proj.in_features
        rows = slice(first * dim, (first + count) * dim)
        return kernels.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def _of_length(self, x: Tensor) -> Tensor:
        """Tokens brought to the length that queries have with `divide_norm`."""
        return F.normalize(x, dim=-1) * (x.shape[-1] // self.heads) ** 0.5

    def _look(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """Attention of few queries: the same sums in another order, which projects no key and no value.

        Queries are brought to the tokens' space and compared with them there; tokens are averaged before they are
        projected. The keys' bias adds the same to all logits of a query, which the softmax takes away again.
        """
        if self.divide_norm:
            query, key = self._of_length(query), F.normalize(key, dim=-1)
        (batch, queries, dim), heads = query.shape, self.heads
        query_weight, key_weight, value_weight = (w.view(heads, -1, dim) for w in self.in_proj_weight.chunk(3))
        query_bias, _, value_bias = (b.view(heads, 1, -1) for b in self.in_proj_bias.chunk(3))
        rows = query.flatten(0, 1).expand(heads, -1, -1)  # (heads, B * Lq, C)
        projected = (torch.bmm(rows, query_weight.transpose(1, 2)) + query_bias) * (dim // heads) ** -0.5
        probes = torch.bmm(projected, key_weight).unflatten(1, (batch, queries)).transpose(0, 1).flatten(1, 2)
        logits = torch.bmm(probes, key.transpose(1, 2))  # (B, heads * Lq, Lk)
        if padding is not None:
            logits = logits + logit_bias(padding, logits.dtype)[:, None]
        weights = logits.softmax(dim=-1)
        if self.training and self.dropout:
            weights = F.dropout(weights, self.dropout)
        means = torch.bmm(weights, value).unflatten(1, (heads, queries)).transpose(0, 1).flatten(1, 2)
        found = torch.bmm(means, value_weight.transpose(1, 2))  # (heads, B * Lq, C / heads)
        share = weights.sum(dim=-1).unflatten(1, (heads, queries)).transpose(0, 1).flatten(1)  # 1 but for dropout
        return (found + share[..., None] * value_bias).permute(1, 0, 2).reshape(batch, queries, dim)


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
