"""STARK-Lightning: one light encoder whose queries are the search tokens; no decoder."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from ..config import option
from ..utils.tensors import NestedTensor
from .backbone import Backbone, build_backbone
from .heads import build_box_head
from .stark import Tokens, join
from .transformer import EncoderLayer, PositionEmbeddingLearned, init_matrices


class LightEncoderLayer(EncoderLayer):
    """Search tokens are the queries; template and search tokens are keys and values."""

    def forward(self, templates: Sequence[Tokens], search: Tokens) -> Tensor:
        """Template tokens and search tokens (B, Ls, C) to new search features (B, Ls, C)."""
        tokens, query = join([*templates, search]), search.feature + search.position
        attended = self.self_attn(query, tokens.feature + tokens.position, tokens.feature, tokens.padding)
        # The residual includes the position: later layers and the head need to know where a token lies.
        x = self.norm1(query + self.dropout(attended))
        return self.norm2(x + self.dropout(self.feedforward(x)))


class LightTransformer(nn.Module):
    """One encoder layer as published; more layers follow where ENC_LAYERS is larger. `cfg` is the MODEL section."""

    def __init__(self, cfg: EasyDict, layers: int) -> None:
        super().__init__()
        options = cfg.TRANSFORMER
        args = (cfg.HIDDEN_DIM, options.NHEADS, options.DIM_FEEDFORWARD, options.DROPOUT)
        self.encoder = LightEncoderLayer(*args)
        self.more = nn.ModuleList(LightEncoderLayer(*args) for _ in range(layers - 1))
        init_matrices(self)

    def forward(self, templates: Sequence[Tokens], search: Tokens) -> Tensor:
        """Template and search tokens to the search region's features (B, Ls, C)."""
        for layer in (self.encoder, *self.more):
            search = replace(search, feature=layer(templates, search))
        return search.feature


class Correlation(nn.Module):
    """Adds to each search token its cosine similarity with each template token, a channel each.

    Attention can learn to compare; here it need not, which helps where training is short.
    """

    def __init__(self, dim: int, template_tokens: int) -> None:
        super().__init__()
        self.embed = nn.Linear(template_tokens, dim)

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """Template tokens (B, Lt, C) and search tokens (B, Ls, C) to search tokens (B, Ls, C)."""
        similarity = F.normalize(search, dim=-1) @ F.normalize(template, dim=-1).transpose(1, 2)  # (B, Ls, Lt)
        return search + self.embed(similarity)


class STARKLightningXtrt(nn.Module):
    """STARK-Lightning; its RepVGG blocks fold after training with `lib.models.inference.fold_repvgg`."""

    template_count = 1

    def __init__(self, cfg: EasyDict, pretrained: bool = False) -> None:
        super().__init__()
        dim, template, search = cfg.MODEL.HIDDEN_DIM, cfg.DATA.TEMPLATE.FEAT_SIZE, cfg.DATA.SEARCH.FEAT_SIZE
        self.backbone = build_backbone(cfg, pretrained)
        self.transformer = LightTransformer(cfg.MODEL, option(cfg, "MODEL.TRANSFORMER.ENC_LAYERS"))
        self.box_head = build_box_head(cfg, self.backbone.stride)
        self.pos_emb_x = PositionEmbeddingLearned(dim, search)
        self.pos_emb_z0 = PositionEmbeddingLearned(dim, template)
        self.bottleneck = nn.Conv2d(self.backbone.channels, dim, 1)
        self.correlation = Correlation(dim, template**2) if option(cfg, "MODEL.CORRELATION") else None

    @property
    def extractor(self) -> Backbone:
        return self.backbone

    def forward(self, templates: Sequence[NestedTensor], search: NestedTensor) -> dict[str, Tensor]:
        """Boxes of the object in search crops (B, 3, H, W), given one batch of template crops (B, 3, Ht, Wt).

        Gives `pred_boxes` (B, 1, 4), cxcywh in fractions of the search crop, and what else the head gives.
        """
        return self.predict([self.encode_template(template) for template in templates], self.encode_search(search))

    def encode_template(self, region: NestedTensor) -> Tokens:
        """Template crops (B, 3, Ht, Wt) to tokens."""
        return Tokens.of(self.bottleneck(self.backbone(region.tensors)), region.mask, self.pos_emb_z0)

    def encode_search(self, region: NestedTensor) -> Tokens:
        """Search crops (B, 3, H, W) to tokens."""
        return Tokens.of(self.bottleneck(self.backbone(region.tensors)), region.mask, self.pos_emb_x)

    def predict(self, templates: Sequence[Tokens], search: Tokens) -> dict[str, Tensor]:
        """Transformer and head on encoded regions; returns as `forward`."""
        if self.correlation is not None:
            search = replace(search, feature=self.correlation(templates[0].feature, search.feature))
        feature = self.transformer(templates, search)  # (B, S * S, C)
        side = math.isqrt(feature.shape[1])
        return self.box_head(feature.transpose(1, 2).unflatten(2, (side, side)))  # of (B, C, S, S)
