"""STARK-S and STARK-ST (sections 3.1 and 3.2 of the paper)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from ..utils.tensors import NestedTensor
from .backbone import Backbone, build_backbone
from .heads import build_box_head
from .layers import MLP
from .transformer import POSITION_ENCODINGS, Transformer


@dataclass(frozen=True)
class Tokens:
    """One region's part of the transformer's input."""

    feature: Tensor  # (B, L, C), row by row
    position: Tensor  # (B or 1, L, C)
    padding: Tensor | None  # (B, L) bool, True on padding, or float, added to the logits of attention

    @classmethod
    def of(cls, feature: Tensor, mask: Tensor | None, encoding: nn.Module) -> "Tokens":
        """Of features (B, C, h, w) and their crop's padding mask (B, H, W), with positions by an encoding."""
        if mask is not None:
            mask = F.interpolate(mask[:, None].float(), size=feature.shape[-2:])[:, 0].bool()  # (B, h, w), nearest
        position = encoding(feature, mask)  # (B or 1, h * w, C)
        return cls(feature.flatten(2).transpose(1, 2), position, None if mask is None else mask.flatten(1))


def join(regions: Sequence[Tokens]) -> Tokens:
    """Concatenate the tokens of regions."""
    batch = max(r.position.shape[0] for r in regions)
    position = torch.cat([r.position.expand(batch, -1, -1) for r in regions], dim=1)
    padding = None
    if any(r.padding is not None for r in regions):
        blank = [r.feature.new_zeros(r.feature.shape[:2], dtype=torch.bool) for r in regions]
        padding = torch.cat([b if r.padding is None else r.padding for r, b in zip(regions, blank, strict=True)], dim=1)
    return Tokens(torch.cat([r.feature for r in regions], dim=1), position, padding)


class STARKS(nn.Module):
    """STARK-S: a box from one template and a search region."""

    template_count = 1

    def __init__(self, cfg: EasyDict, pretrained: bool = False) -> None:
        super().__init__()
        dim = cfg.MODEL.HIDDEN_DIM
        extractor = build_backbone(cfg, pretrained)
        # One list, for the names of published checkpoints.
        self.backbone = nn.ModuleList([extractor, POSITION_ENCODINGS[cfg.MODEL.POSITION_EMBEDDING](dim)])
        self.transformer = Transformer(cfg.MODEL)
        self.box_head = build_box_head(cfg, extractor.stride)
        self.query_embed = nn.Embedding(cfg.MODEL.NUM_OBJECT_QUERIES, dim)
        self.bottleneck = nn.Conv2d(extractor.channels, dim, 1)

    @property
    def extractor(self) -> Backbone:
        """The convolutional backbone, without position encoding."""
        return self.backbone[0]

    def forward(self, templates: Sequence[NestedTensor], search: NestedTensor) -> dict[str, Tensor]:
        """Boxes of the object in search crops (B, 3, H, W), given template crops (B, 3, Ht, Wt).

        STARK-S takes one template, STARK-ST as many as DATA.TEMPLATE.NUMBER. Gives `pred_boxes` (B, Nq, 4), cxcywh in
        fractions of the search crop; `corner_maps` (2, B * Nq, S * S), logits of the two corners (corner heads only);
        `pred_logits` (B, Nq, 1), confidence before the sigmoid (STARK-ST only).
        """
        return self.predict([self.encode(template) for template in templates], self.encode(search))

    def encode(self, region: NestedTensor) -> Tokens:
        """One region, template or search: crops (B, 3, H, W) to tokens, L = (H / stride) * (W / stride)."""
        feature = self.bottleneck(self.extractor(region.tensors))  # (B, C, H / stride, W / stride)
        return Tokens.of(feature, region.mask, self.backbone[1])

    encode_template = encode_search = encode

    def predict(self, templates: Sequence[Tokens], search: Tokens) -> dict[str, Tensor]:
        """Transformer and heads on encoded regions; returns as `forward`."""
        tokens = join([*templates, search])  # (B, L, C), the search region's last
        hs, memory = self.transformer(tokens.feature, tokens.padding, tokens.position, self.query_embed.weight)
        return self.predict_boxes(hs, memory[:, -search.feature.shape[1] :])

    def predict_boxes(self, hs: Tensor, memory: Tensor) -> dict[str, Tensor]:
        """Decoder output (B, Nq, C) and the encoder's search tokens (B, S * S, C) to boxes."""
        if isinstance(self.box_head, MLP):
            return {"pred_boxes": self.box_head(hs).sigmoid()}
        similarity = (memory @ hs.transpose(1, 2)).transpose(1, 2)  # (B, Nq, S * S)
        weighted = memory.unsqueeze(1) * similarity.unsqueeze(-1)  # (B, Nq, S * S, C)
        side = math.isqrt(memory.shape[1])
        feature = weighted.flatten(0, 1).transpose(1, 2).unflatten(2, (side, side))  # (B * Nq, C, S, S)
        found = self.box_head(feature)  # of each query
        return found | {"pred_boxes": found["pred_boxes"].view(*hs.shape[:2], 4)}


class STARKST(STARKS):
    """STARK-ST: with dynamic templates beside the first one, and a score that decides when to replace them."""

    def __init__(self, cfg: EasyDict, pretrained: bool = False) -> None:
        super().__init__(cfg, pretrained)
        self.template_count = cfg.DATA.TEMPLATE.NUMBER
        self.cls_head = MLP(cfg.MODEL.HIDDEN_DIM, cfg.MODEL.HIDDEN_DIM, 1, cfg.MODEL.NLAYER_HEAD)

    def forward(
        self, templates: Sequence[NestedTensor], search: NestedTensor, score_only: bool = False
    ) -> dict[str, Tensor]:
        """As STARK-S; with `score_only` just `pred_logits`, with gradients for the score head alone (stage 2)."""
        if not score_only:
            return super().forward(templates, search)
        with torch.no_grad():
            tokens = join([self.encode(region) for region in (*templates, search)])
            hs, _ = self.transformer(tokens.feature, tokens.padding, tokens.position, self.query_embed.weight)
        return {"pred_logits": self.cls_head(hs)}

    def predict_boxes(self, hs: Tensor, memory: Tensor) -> dict[str, Tensor]:
        return super().predict_boxes(hs, memory) | {"pred_logits": self.cls_head(hs)}
