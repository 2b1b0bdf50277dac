"""The spatio-temporal transformer (STARK, section 3.1): DETR's encoder and decoder on batch-first tokens."""

import torch
from torch import Tensor, nn

from lib.models.attention import MultiheadAttention


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a norm."""

    def __init__(
        self, dim: int, heads: int, feedforward: int, dropout: float, pre_norm: bool = False, divide_norm: bool = False
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = MultiheadAttention(dim, heads, dropout, divide_norm)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, padding: Tensor | None, position: Tensor) -> Tensor:
        """Tokens (B, L, C) to the same; `position` (B or 1, L, C), `padding` as of `MultiheadAttention`."""
        if self.pre_norm:
            normed = self.norm1(tokens)
            query = normed + position
            tokens = tokens + self.dropout(self.self_attn(query, query, normed, padding))
            return tokens + self.dropout(self._feedforward(self.norm2(tokens)))
        query = tokens + position
        tokens = self.norm1(tokens + self.dropout(self.self_attn(query, query, tokens, padding)))
        return self.norm2(tokens + self.dropout(self._feedforward(tokens)))

    def _feedforward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.linear1(x).relu()))


class DecoderLayer(nn.Module):
    """Attention among the queries, attention to the encoder's memory, a feed-forward network."""

    def __init__(
        self, dim: int, heads: int, feedforward: int, dropout: float, pre_norm: bool = False, divide_norm: bool = False
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = MultiheadAttention(dim, heads, dropout, divide_norm)
        self.multihead_attn = MultiheadAttention(dim, heads, dropout, divide_norm)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

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
            return target + self.dropout(self._feedforward(self.norm3(target)))
        query = target + query_position
        target = self.norm1(target + self.dropout(self.self_attn(query, query, target)))
        attended = self.multihead_attn(target + query_position, keys, memory, padding)
        target = self.norm2(target + self.dropout(attended))
        return self.norm3(target + self.dropout(self._feedforward(target)))

    def _feedforward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.linear1(x).relu()))


class Transformer(nn.Module):
    """Encoder over template and search tokens, decoder with learned queries."""

    def __init__(
        self,
        dim: int,
        heads: int,
        feedforward: int,
        dropout: float,
        encoder_layers: int,
        decoder_layers: int,
        pre_norm: bool,
        divide_norm: bool,
    ) -> None:
        super().__init__()
        args = (dim, heads, feedforward, dropout, pre_norm, divide_norm)
        encoder = nn.ModuleList(EncoderLayer(*args) for _ in range(encoder_layers))
        decoder = nn.ModuleList(DecoderLayer(*args) for _ in range(decoder_layers))
        self.encoder = nn.ModuleDict({"layers": encoder, "norm": nn.LayerNorm(dim) if pre_norm else nn.Identity()})
        self.decoder = nn.ModuleDict({"layers": decoder, "norm": nn.LayerNorm(dim)})
        init_matrices(self)

    def forward(
        self, tokens: Tensor, padding: Tensor | None, position: Tensor, query_embed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode template and search tokens, and decode the queries.

        Args:
            tokens: (B, L, C), templates first, then the search region.
            padding: (B or 1, L) as of `MultiheadAttention`.
            position: (B or 1, L, C).
            query_embed: (Nq, C) learned queries.

        Returns:
            Decoder output hs (B, Nq, C) and encoder memory (B, L, C).
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
