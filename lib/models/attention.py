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
        """Attend from (B, Lq, C) to (B, Lk, C); `padding` (B, Lk) is True on keys to ignore. Gives (B, Lq, C)."""
        if self.divide_norm:
            query = F.normalize(query, dim=-1) * (query.shape[-1] // self.heads) ** 0.5
            key = F.normalize(key, dim=-1)
        dropout = self.dropout if self.training else 0.0
        if query.shape[1] * self.heads < query.shape[2] // 2:
            return self.out_proj(self._look(query, key, value, padding, dropout))
        q, k, v = self._project(query, key, value)
        if kernels.are_for(query) and (dropout or torch.is_grad_enabled()):
            return self.out_proj(kernels.attend(q, k, v, self.heads, padding, dropout))
        q, k, v = (self._split(x) for x in (q, k, v))
        # Added to the logits: as a choice (a bool mask) it would be one more pass over them in exported graphs.
        mask = None if padding is None else q.new_zeros(padding.shape).masked_fill(padding, -torch.inf)[:, None, None]
        with _exact_gradients(query):
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values; those of the same tokens in one product."""
        dim = query.shape[2]
        if query is key:
            weights, biases = self.in_proj_weight.split([2 * dim, dim]), self.in_proj_bias.split([2 * dim, dim])
            both, values = (kernels.linear(x, w, b) for x, w, b in zip((query, value), weights, biases, strict=True))
            return *both.chunk(2, dim=2), values
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        return tuple(kernels.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))

    def _look(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, dropout: float) -> Tensor:
        """Attention of few queries: the same sums in another order, which projects no key and no value.

        Queries are brought to the tokens' space and compared with them there; tokens are averaged before they are
        projected. The keys' bias adds the same to all logits of a query, which the softmax takes away again.
        """
        (batch, queries, dim), heads = query.shape, self.heads
        query_weight, key_weight, value_weight = (w.view(heads, -1, dim) for w in self.in_proj_weight.chunk(3))
        query_bias, _, value_bias = (b.view(heads, 1, -1) for b in self.in_proj_bias.chunk(3))
        rows = query.flatten(0, 1).expand(heads, -1, -1)  # (heads, B * Lq, C)
        projected = (torch.bmm(rows, query_weight.transpose(1, 2)) + query_bias) * (dim // heads) ** -0.5
        probes = torch.bmm(projected, key_weight).unflatten(1, (batch, queries)).transpose(0, 1).flatten(1, 2)
        logits = torch.bmm(probes, key.transpose(1, 2))  # (B, heads * Lq, Lk)
        if padding is not None:
            logits = logits.masked_fill(padding[:, None], torch.finfo(logits.dtype).min)
        weights = logits.softmax(dim=-1)
        if dropout:
            weights = F.dropout(weights, dropout)
        means = torch.bmm(weights, value).unflatten(1, (heads, queries)).transpose(0, 1).flatten(1, 2)
        found = torch.bmm(means, value_weight.transpose(1, 2))  # (heads, B * Lq, C / heads)
        share = weights.sum(dim=-1).unflatten(1, (heads, queries)).transpose(0, 1).flatten(1)  # 1 but for dropout
        return (found + share[..., None] * value_bias).permute(1, 0, 2).reshape(batch, queries, dim)

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, C) to (B, heads, L, C / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _exact_gradients(query: Tensor) -> contextlib.AbstractContextManager:
    """The kernel that keeps its weights, where gradients are wanted on a CPU.

    The CPU's fused kernel computes the weights again in its backward pass, and where logits are
    large the second rounding makes gradients infinite. With dropout torch takes this kernel anyway.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()
