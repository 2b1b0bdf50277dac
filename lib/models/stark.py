"""STARK-S and STARK-ST (sections 3.1 and 3.2 of the paper)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.backbone import Backbone, build_backbone
from lib.models.heads import build_box_head
from lib.models.layers import MLP, kernels_once
from lib.models.position_encoding import build_position_encoding
from lib.models.transformer import Transformer
from lib.utils.boxes import xyxy_to_cxcywh
from lib.utils.tensors import NestedTensor


@dataclass(frozen=True)
class Tokens:
    """One region's part of the transformer's input.

    Attributes:
        feature: (B, L, C), row by row.
        position: (B or 1, L, C), or None without position encoding.
        padding: (B, L) bool, True on padding; None where nothing is padded.
    """

    feature: Tensor
    position: Tensor | None
    padding: Tensor | None


def downsample_mask(mask: Tensor | None, size: Sequence[int]) -> Tensor | None:
    """A padding mask (B, H, W) at feature size (B, h, w), by nearest neighbour."""
    return None if mask is None else F.interpolate(mask[:, None].float(), size=tuple(size))[:, 0].bool()


def join(regions: Sequence[Tokens]) -> Tokens:
    """Put regions one behind the other."""
    feature = torch.cat([r.feature for r in regions], dim=1)
    position = None
    if regions[0].position is not None:
        batch = max(r.position.shape[0] for r in regions)
        position = torch.cat([r.position.expand(batch, -1, -1) for r in regions], dim=1)
    return Tokens(feature, position, join_padding(regions))


def join_padding(regions: Sequence[Tokens]) -> Tensor | None:
    """The padding of all regions' tokens (B, L), None where nothing is padded."""
    if all(r.padding is None for r in regions):
        return None
    return torch.cat(
        [
            r.feature.new_zeros(r.feature.shape[:2], dtype=torch.bool) if r.padding is None else r.padding
            for r in regions
        ],
        dim=1,
    )


class _BackboneWithPosition(nn.ModuleList):
    """Holds the backbone at index 0 and the position encoding at 1, as published checkpoints name them."""


class STARKS(nn.Module):
    """STARK-S: a box from one template and a search region."""

    def __init__(self, cfg: EasyDict, pretrained: bool = False) -> None:
        super().__init__()
        model, options = cfg.MODEL, cfg.MODEL.TRANSFORMER
        backbone = build_backbone(cfg, pretrained)
        position = build_position_encoding(model.POSITION_EMBEDDING, model.HIDDEN_DIM)
        self.backbone = _BackboneWithPosition([backbone] if position is None else [backbone, position])
        self.transformer = Transformer(
            model.HIDDEN_DIM,
            options.NHEADS,
            options.DIM_FEEDFORWARD,
            options.DROPOUT,
            options.ENC_LAYERS,
            options.DEC_LAYERS,
            options.PRE_NORM,
            options.DIVIDE_NORM,
        )
        self.box_head = build_box_head(cfg, backbone.stride)
        self.query_embed = nn.Embedding(model.NUM_OBJECT_QUERIES, model.HIDDEN_DIM)
        self.bottleneck = nn.Conv2d(backbone.channels, model.HIDDEN_DIM, 1)

    @property
    def extractor(self) -> Backbone:
        """The convolutional backbone, without position encoding."""
        return self.backbone[0]

    def encode(self, region: NestedTensor) -> Tokens:
        """One region, template or search: crops (B, 3, H, W) to tokens, L = (H / stride) * (W / stride)."""
        feature = self.bottleneck(self.extractor(region.tensors))
        mask = downsample_mask(region.mask, feature.shape[-2:])
        position = self.backbone[1](feature, mask) if len(self.backbone) > 1 else None
        return Tokens(feature.flatten(2).transpose(1, 2), position, None if mask is None else mask.flatten(1))

    encode_template = encode_search = encode

    def encode_templates(self, regions: Sequence[NestedTensor]) -> list[Tokens]:
        """The tokens of each template, from one pass of the backbone over all of them; a repeated one counts once."""
        if all(region is regions[0] for region in regions):
            return [self.encode_template(regions[0])] * len(regions)
        if not self.extractor.by_sample:
            return [self.encode_template(region) for region in regions]
        mask = None
        if any(region.mask is not None for region in regions):
            masks = [torch.zeros_like(r.tensors[:, 0], dtype=torch.bool) if r.mask is None else r.mask for r in regions]
            mask = torch.cat(masks)
        tokens = self.encode_template(NestedTensor(torch.cat([r.tensors for r in regions]), mask))
        parts = [_parts(each, len(regions)) for each in (tokens.feature, tokens.position, tokens.padding)]
        return [Tokens(*each) for each in zip(*parts, strict=True)]

    def relate(self, templates: Sequence[Tokens], search: Tokens) -> dict[str, Tensor]:
        """Transformer and heads on encoded regions; see `forward` for what comes out."""
        hs, memory = self.transform(templates, search)
        return self.predict_boxes(hs, memory[:, -search.feature.shape[1] :])

    def transform(self, templates: Sequence[Tokens], search: Tokens) -> tuple[Tensor, Tensor]:
        """The transformer on encoded regions: decoder output (B, Nq, C) and memory (B, L, C), search tokens last."""
        tokens = join([*templates, search])
        return self.transformer(tokens.feature, tokens.padding, tokens.position, self.query_embed.weight)

    def predict_boxes(self, hs: Tensor, memory: Tensor) -> dict[str, Tensor]:
        """Decoder output (B, Nq, C) and the encoder's search tokens (B, S * S, C) to boxes."""
        batch, queries, _ = hs.shape
        if isinstance(self.box_head, MLP):
            return {"pred_boxes": self.box_head(hs).sigmoid()}
        similarity = memory @ hs.transpose(1, 2)  # (B, S * S, Nq)
        weighted = memory.unsqueeze(1) * similarity.transpose(1, 2).unsqueeze(-1)  # (B, Nq, S * S, C)
        side = math.isqrt(memory.shape[1])
        feature = weighted.flatten(0, 1).transpose(1, 2).unflatten(2, (side, side))
        boxes, maps = self.box_head(feature)
        return {"pred_boxes": xyxy_to_cxcywh(boxes).view(batch, queries, 4), "corner_maps": torch.stack(maps)}

    def forward(self, templates: Sequence[NestedTensor], search: NestedTensor) -> dict[str, Tensor]:
        """Boxes of the object in the search region.

        Args:
            templates: crops (B, 3, Ht, Wt) of the object; one for STARK-S, two for STARK-ST.
            search: crops (B, 3, H, W) to search in.

        Returns:
            `pred_boxes` (B, Nq, 4), cxcywh in fractions of the search crop; `corner_maps`
            (2, B * Nq, S * S), logits of the two corners (corner heads only);
            `pred_logits` (B, Nq, 1), confidence before the sigmoid (STARK-ST only).
        """
        with kernels_once():
            return self.relate(self.encode_templates(templates), self.encode_search(search))


def _parts(values: Tensor | None, count: int) -> Sequence[Tensor | None]:
    """Values (count * B, ...) of joined regions as those of each; what all share stays shared."""
    return [values] * count if values is None or len(values) == 1 else values.chunk(count)


class STARKST(STARKS):
    """STARK-ST: with a second, dynamic template and a score that says when to replace it."""

    def __init__(self, cfg: EasyDict, pretrained: bool = False) -> None:
        super().__init__(cfg, pretrained)
        self.cls_head = MLP(cfg.MODEL.HIDDEN_DIM, cfg.MODEL.HIDDEN_DIM, 1, cfg.MODEL.NLAYER_HEAD)

    def predict_boxes(self, hs: Tensor, memory: Tensor) -> dict[str, Tensor]:
        """As STARK-S, and `pred_logits` from the decoder output."""
        return super().predict_boxes(hs, memory) | {"pred_logits": self.cls_head(hs)}

    def forward(
        self, templates: Sequence[NestedTensor], search: NestedTensor, score_only: bool = False
    ) -> dict[str, Tensor]:
        """As STARK-S; with `score_only` just `pred_logits`, with gradients for the score head alone (stage 2)."""
        if not score_only:
            return super().forward(templates, search)
        with torch.no_grad(), kernels_once():
            hs, _ = self.transform(self.encode_templates(templates), self.encode_search(search))
        return {"pred_logits": self.cls_head(hs)}
