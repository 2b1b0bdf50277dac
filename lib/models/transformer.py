"""The spatio-temporal transformer (STARK, section 3.1): DETR's encoder and decoder, on tokens (B, L, C)."""

import contextlib
import math

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class PositionEmbeddingSine(nn.Module):
    """Sines of the position (DETR, appendix A.4), counted over unpadded cells and divided by their extent.

    y fills the first half of the channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        steps = torch.arange(dim // 2) // 2
        self.register_buffer("wavelengths", 10000.0 ** (2 * steps / (dim // 2)), persistent=False)

    def forward(self, feature: Tensor, mask: Tensor | None) -> Tensor:
        """Features (B, C, H, W) and mask (B, H, W) to positions (B, H * W, dim); (1, H * W, dim) without a mask."""
        inside = torch.ones_like(feature[:1, 0], dtype=torch.bool) if mask is None else ~mask
        axes = []
        for dim in (1, 2):
            count = inside.cumsum(dim, dtype=torch.float32)
            last = count.narrow(dim, count.shape[dim] - 1, 1)
            angle = (count / (last + 1e-6) * 2 * math.pi).unsqueeze(-1) / self.wavelengths
            axes.append(torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2))
        return torch.cat(axes, dim=-1).flatten(1, 2).to(feature.dtype)


class PositionEmbeddingLearned(nn.Module):
    """One learned vector a column and one a row; columns fill the first half of the channels."""

    def __init__(self, dim: int, size: int = 50) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(size, dim // 2)
        self.col_embed = nn.Embedding(size, dim // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, feature: Tensor, mask: Tensor | None) -> Tensor:
        """Features (B, C, H, W) to positions (1, H * W, dim); the mask is not used."""
        height, width = feature.shape[-2:]
        columns = self.col_embed.weight[:width].expand(height, -1, -1)
        rows = self.row_embed.weight[:height, None].expand(-1, width, -1)
        return torch.cat((columns, rows), dim=-1).flatten(0, 1)[None]


# By MODEL.POSITION_EMBEDDING.
POSITION_ENCODINGS = {"sine": PositionEmbeddingSine, "learned": PositionEmbeddingLearned}


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention over several heads (Vaswani et al., 2017, section 3.2).

    Its parameters have the names of `nn.MultiheadAttention`.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Queries (B, Lq, C), keys and values (B, Lk, C) to (B, Lq, C).

        `padding` (B, Lk) is bool, True on keys to ignore, or float, added to the logits (minus infinity on padding).
        """
        q, k, v = self.project(query, key, value)
        mask = None
        if padding is not None:
            mask = (padding.to(q.dtype) if padding.is_floating_point() else ~padding)[:, None, None]  # (B, 1, 1, Lk)
        # The CPU's fused kernel computes the attention weights again in its backward pass. With large logits the second
        # rounding makes gradients infinite.
        on_cpu = query.device.type == "cpu" and torch.is_grad_enabled()
        with sdpa_kernel(SDPBackend.MATH) if on_cpu else contextlib.nullcontext():
            attended = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values (B, L, C) to those of the heads, (B, heads, L, C / heads)."""
        projections = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        return [F.linear(x, w, b).unflatten(2, (self.heads, -1)).transpose(1, 2) for x, w, b in projections]


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a norm."""

    attentions = ("self_attn",)

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float, pre_norm: bool = False) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        for name in self.attentions:
            self.add_module(name, MultiheadAttention(dim, heads, dropout))
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        for i in range(len(self.attentions) + 1):
            self.add_module(f"norm{i + 1}", nn.LayerNorm(dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, padding: Tensor | None, position: Tensor) -> Tensor:
        """Tokens (B, L, C) to the same; `position` (B or 1, L, C), `padding` as of `MultiheadAttention`."""
        if self.pre_norm:
            normed = self.norm1(tokens)
            query = normed + position
            tokens = tokens + self.dropout(self.self_attn(query, query, normed, padding))
            return tokens + self.dropout(self.feedforward(self.norm2(tokens)))
        query = tokens + position
        tokens = self.norm1(tokens + self.dropout(self.self_attn(query, query, tokens, padding)))
        return self.norm2(tokens + self.dropout(self.feedforward(tokens)))

    def feedforward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.linear1(x).relu()))


class DecoderLayer(EncoderLayer):
    """Attention among the queries, attention to the encoder's memory, a feed-forward network."""

    attentions = ("self_attn", "multihead_attn")

    def forward(
        self, target: Tensor, memory: Tensor, padding: Tensor | None, position: Tensor, query_position: Tensor
    ) -> Tensor:
        """Targets (B, Nq, C) attend to memory (B, L, C); `query_position` is (Nq, C). Gives (B, Nq, C)."""
        keys = memory + position
        if self.pre_norm:
            normed = self.norm1(target)
            query = normed + query_position
            target = target + self.dropout(self.self_attn(query, query, normed))
            query = self.norm2(target) + query_position
            target = target + self.dropout(self.multihead_attn(query, keys, memory, padding))
            return target + self.dropout(self.feedforward(self.norm3(target)))
        query = target + query_position
        target = self.norm1(target + self.dropout(self.self_attn(query, query, target)))
        attended = self.multihead_attn(target + query_position, keys, memory, padding)
        target = self.norm2(target + self.dropout(attended))
        return self.norm3(target + self.dropout(self.feedforward(target)))


class Transformer(nn.Module):
    """Encoder over template and search tokens, decoder with learned queries; `cfg` is the MODEL section."""

    def __init__(self, cfg: EasyDict) -> None:
        super().__init__()
        dim, options = cfg.HIDDEN_DIM, cfg.TRANSFORMER
        args = (dim, options.NHEADS, options.DIM_FEEDFORWARD, options.DROPOUT, options.PRE_NORM)
        encoder = nn.ModuleList(EncoderLayer(*args) for _ in range(options.ENC_LAYERS))
        decoder = nn.ModuleList(DecoderLayer(*args) for _ in range(options.DEC_LAYERS))
        norm = nn.LayerNorm(dim) if options.PRE_NORM else nn.Identity()
        self.encoder = nn.ModuleDict({"layers": encoder, "norm": norm})
        self.decoder = nn.ModuleDict({"layers": decoder, "norm": nn.LayerNorm(dim)})
        init_matrices(self)

    def forward(
        self, tokens: Tensor, padding: Tensor | None, position: Tensor, query_embed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode tokens (B, L, C), templates first, then the search region, and decode the queries (Nq, C).

        `padding` is (B or 1, L) as of `MultiheadAttention`, `position` (B or 1, L, C). Gives the decoder's output hs
        (B, Nq, C) and the encoder's memory (B, L, C).
        """
        memory = tokens
        for layer in self.encoder["layers"]:
            memory = layer(memory, padding, position)
        memory = self.encoder["norm"](memory)
        hs = torch.zeros_like(query_embed).expand(tokens.shape[0], -1, -1)
        for layer in self.decoder["layers"]:
            hs = layer(hs, memory, padding, position, query_embed)
        return self.decoder["norm"](hs), memory


def init_matrices(module: nn.Module) -> None:
    """Xavier-uniform values for every matrix of a transformer."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
