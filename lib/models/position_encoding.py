"""Position encodings: they tell the transformer where a token lies in its crop."""

import math

import torch
from torch import Tensor, nn


class PositionEmbeddingSine(nn.Module):
    """Sines of the normalised position (DETR, appendix A.4); y fills the first half of the channels.

    The position is counted over unpadded cells only and divided by their extent, so that
    a crop at the image border is measured like any other.
    """

    def __init__(self, dim: int, temperature: float = 10000.0) -> None:
        super().__init__()
        steps = torch.arange(dim // 2) // 2
        self.register_buffer("wavelengths", temperature ** (2 * steps / (dim // 2)), persistent=False)

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


class NoPosition(nn.Module):
    """Zeros: MODEL.POSITION_EMBEDDING `none`."""

    def forward(self, feature: Tensor, mask: Tensor | None) -> Tensor:
        """Features (B, C, H, W) to zeros (1, H * W, C); the mask is not used."""
        return torch.zeros_like(feature[:1]).flatten(2).transpose(1, 2)


def build_position_encoding(kind: str, dim: int) -> nn.Module:
    """The module for MODEL.POSITION_EMBEDDING: `sine`, `learned` or `none`."""
    kinds = {"sine": PositionEmbeddingSine, "learned": PositionEmbeddingLearned}
    return NoPosition() if kind == "none" else kinds[kind](dim)
