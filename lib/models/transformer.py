"""The spatio-temporal transformer (STARK, section 3.1): DETR's encoder and decoder on batch-first tokens."""

import torch
from torch import Tensor, nn

from lib.models.attention import MultiheadAttention
from lib.models.layers import Dropout, Linear


def with_position(tokens: Tensor, position: Tensor | None) -> Tensor:
    """Tokens plus their position, which queries and keys see and values do not."""
    return tokens if position is None else tokens + position


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a norm."""

    def __init__(
        self, dim: int, heads: int, feedforward: int, dropout: float, pre_norm: bool = False, divide_norm: bool = False
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = MultiheadAttention(dim, heads, dropout, divide_norm)
        self.linear1 = Linear(dim, feedforward)
        self.linear2 = Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, padding: Tensor | None, position: Tensor | None) -> Tensor:
        """(B, L, C) to (B, L, C); `padding` (B, L) True on padding, `position` (B, L, C)."""
        if self.pre_norm:
            normed = self.norm1(tokens)
            tokens = tokens + self.dropout(self._attend(normed, padding, position))
            return tokens + self.dropout(self._feedforward(self.norm2(tokens)))
        tokens = self.norm1(tokens + self.dropout(self._attend(tokens, padding, position)))
        return self.norm2(tokens + self.dropout(self._feedforward(tokens)))

    def _attend(self, tokens: Tensor, padding: Tensor | None, position: Tensor | None) -> Tensor:
        query = with_position(tokens, position)
        return self.self_attn(query, query, tokens, padding)

    def _feedforward(self, tokens: Tensor) -> Tensor:
        return self.linear2(self.dropout.after_relu(self.linear1(tokens)))


class DecoderLayer(nn.Module):
    """Attention among the queries, attention to the encoder's memory, a feed-forward network."""

    def __init__(
        self, dim: int, heads: int, feedforward: int, dropout: float, pre_norm: bool = False, divide_norm: bool = False
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = MultiheadAttention(dim, heads, dropout, divide_norm)
        self.multihead_attn = MultiheadAttention(dim, heads, dropout, divide_norm)
        self.linear1 = Linear(dim, feedforward)
        self.linear2 = Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(
        self, target: Tensor, memory: Tensor, padding: Tensor | None, position: Tensor | None, query_position: Tensor
    ) -> Tensor:
        """Targets (B, Nq, C) look at memory (B, L, C); `query_position` is (Nq, C). Gives (B, Nq, C)."""
        steps = (
            (self.norm1, lambda x: self._attend_queries(x, query_position)),
            (self.norm2, lambda x: self._attend_memory(x, memory, padding, position, query_position)),
            (self.norm3, lambda x: self.linear2(self.dropout.after_relu(self.linear1(x)))),
        )
        for norm, step in steps:
            if self.pre_norm:
                target = target + self.dropout(step(norm(target)))
            else:
                target = norm(target + self.dropout(step(target)))
        return target

    def _attend_queries(self, target: Tensor, query_position: Tensor) -> Tensor:
        query = target + query_position
        return self.self_attn(query, query, target)

    def _attend_memory(self, target, memory, padding, position, query_position) -> Tensor:
        return self.multihead_attn(target + query_position, with_position(memory, position), memory, padding)


class _Stack(nn.Module):
    """Layers one after the other and, where given, a last norm."""

    def __init__(self, layers: list[nn.Module], norm: nn.Module | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, x: Tensor, *context: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, *context)
        return x if self.norm is None else self.norm(x)


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
        last_norm = nn.LayerNorm(dim) if pre_norm else None
        self.encoder = _Stack([EncoderLayer(*args) for _ in range(encoder_layers)], last_norm)
        self.decoder = _Stack([DecoderLayer(*args) for _ in range(decoder_layers)], nn.LayerNorm(dim))
        init_matrices(self)

    def forward(
        self, tokens: Tensor, padding: Tensor | None, position: Tensor | None, query_embed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Relate template and search tokens.

        Args:
            tokens: (B, L, C), templates first, then the search region.
            padding: (B, L) bool, True on padding, or None.
            position: (B or 1, L, C) or None.
            query_embed: (Nq, C) learned queries.

        Returns:
            Decoder output hs (B, Nq, C) and encoder memory (B, L, C).
        """
        memory = self.encoder(tokens, padding, position)
        target = torch.zeros_like(query_embed).expand(tokens.shape[0], -1, -1)
        return self.decoder(target, memory, padding, position, query_embed), memory


def init_matrices(module: nn.Module) -> None:
    """Xavier-uniform values for every matrix of a transformer."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
