"""STARK-Lightning: one light encoder whose queries are the search tokens; no decoder."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import option
from lib.models.attention import MultiheadAttention
from lib.models.backbone import Backbone, build_backbone
from lib.models.heads import CenterPredictor, build_box_head
from lib.models.position_encoding import PositionEmbeddingLearned
from lib.models.stark import Tokens, downsample_mask, join
from lib.models.transformer import init_matrices
from lib.utils.boxes import xyxy_to_cxcywh
from lib.utils.tensors import NestedTensor


class LightEncoderLayer(nn.Module):
    """Search tokens are the queries; template and search tokens are keys and values."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(dim, heads, dropout)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, templates: Sequence[Tokens], search: Tokens) -> Tensor:
        """Template tokens and search tokens (B, Ls, C) to new search features (B, Ls, C)."""
        tokens, query = join([*templates, search]), search.feature + search.position
        attended = self.self_attn(query, tokens.feature + tokens.position, tokens.feature, tokens.padding)
        # The residual is the query with its position: later layers and the head need to know where a token lies.
        x = self.norm1(query + self.dropout(attended))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(self.linear1(x).relu()))))


class LightTransformer(nn.Module):
    """One encoder layer as published; more layers follow where MODEL.TRANSFORMER.ENC_LAYERS is larger."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float, layers: int) -> None:
        super().__init__()
        self.encoder = LightEncoderLayer(dim, heads, feedforward, dropout)
        self.more = nn.ModuleList(LightEncoderLayer(dim, heads, feedforward, dropout) for _ in range(layers - 1))
        init_matrices(self)

    def forward(self, templates: Sequence[Tokens], search: Tokens) -> Tensor:
        """Template and search tokens to the search region's features (B, Ls, C)."""
        for layer in (self.encoder, *self.more):
            search = replace(search, feature=layer(templates, search))
        return search.feature


class Correlation(nn.Module):
    """Adds to each search token its similarity with each template token.

    Pixel-wise correlation (Yan et al., Alpha-Refine, CVPR 2021): cosine similarities, one channel a template token.
    Attention can learn to compare; here it need not, which helps where training is short.
    """

    def __init__(self, dim: int, template_tokens: int) -> None:
        super().__init__()
        self.embed = nn.Linear(template_tokens, dim)

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """Template tokens (B, Lt, C) and search tokens (B, Ls, C) to search tokens (B, Ls, C)."""
        similarity = F.normalize(search, dim=-1) @ F.normalize(template, dim=-1).transpose(1, 2)
        return search + self.embed(similarity)


class STARKLightningXtrt(nn.Module):
    """STARK-Lightning; its RepVGG blocks fold after training with `lib.models.inference.fold_repvgg`."""

    template_count = 1

    def __init__(self, cfg: EasyDict, pretrained: bool = False) -> None:
        super().__init__()
        dim, options = cfg.MODEL.HIDDEN_DIM, cfg.MODEL.TRANSFORMER
        self.backbone = build_backbone(cfg, pretrained)
        layers = option(cfg, "MODEL.TRANSFORMER.ENC_LAYERS")
        self.transformer = LightTransformer(dim, options.NHEADS, options.DIM_FEEDFORWARD, options.DROPOUT, layers)
        self.box_head = build_box_head(cfg, self.backbone.stride)
        self.pos_emb_x = PositionEmbeddingLearned(dim, cfg.DATA.SEARCH.FEAT_SIZE)
        self.pos_emb_z0 = PositionEmbeddingLearned(dim, cfg.DATA.TEMPLATE.FEAT_SIZE)
        self.bottleneck = nn.Conv2d(self.backbone.channels, dim, 1)
        tokens = cfg.DATA.TEMPLATE.FEAT_SIZE**2
        self.correlation = Correlation(dim, tokens) if option(cfg, "MODEL.CORRELATION") else None

    @property
    def extractor(self) -> Backbone:
        """The convolutional backbone."""
        return self.backbone

    def encode_template(self, region: NestedTensor) -> Tokens:
        """Template crops (B, 3, Ht, Wt) to tokens."""
        return self._encode(region, self.pos_emb_z0)

    def encode_search(self, region: NestedTensor) -> Tokens:
        """Search crops (B, 3, H, W) to tokens."""
        return self._encode(region, self.pos_emb_x)

    def _encode(self, region: NestedTensor, positions: nn.Module) -> Tokens:
        feature = self.bottleneck(self.backbone(region.tensors))
        mask = downsample_mask(region.mask, feature.shape[-2:])
        padding = None if mask is None else mask.flatten(1)
        return Tokens(feature.flatten(2).transpose(1, 2), positions(feature, mask), padding)

    def predict(self, templates: Sequence[Tokens], search: Tokens) -> dict[str, Tensor]:
        """Transformer and head on encoded regions; returns as `forward`."""
        if self.correlation is not None:
            search = replace(search, feature=self.correlation(templates[0].feature, search.feature))
        feature = self.transformer(templates, search)
        side = math.isqrt(feature.shape[1])
        feature = feature.transpose(1, 2).unflatten(2, (side, side))
        if isinstance(self.box_head, CenterPredictor):
            scores, boxes = self.box_head(feature)
            box, logit = self.box_head.best(scores, boxes)
            found = {"pred_boxes": box[:, None], "pred_logits": logit[:, None]}
            return found | {"scores": scores, "cell_boxes": boxes}
        boxes, maps = self.box_head(feature)
        return {"pred_boxes": xyxy_to_cxcywh(boxes)[:, None], "corner_maps": torch.stack(maps)}

    def forward(self, templates: Sequence[NestedTensor], search: NestedTensor) -> dict[str, Tensor]:
        """Boxes of the object in the search region.

        Args:
            templates: one batch of template crops (B, 3, Ht, Wt).
            search: crops (B, 3, H, W).

        Returns:
            `pred_boxes` (B, 1, 4), cxcywh in fractions of the search crop, and
            `corner_maps` (2, B, S * S), logits of the two corners, or with the head `CENTER`
            `pred_logits` (B, 1, 1), confidence before the sigmoid, `scores` (B, S * S), logits of the centre, and
            `cell_boxes` (B, S * S, 4), cxcywh.
        """
        return self.predict([self.encode_template(template) for template in templates], self.encode_search(search))
