"""Box heads: from what the transformer found to a box (STARK, section 3.1, "prediction head").

A head takes features (B, C, S, S) and gives a dictionary of tensors: `pred_boxes` (B, 1, 4), cxcywh in fractions of the
crop, and what its loss needs. MLP alone is none of these heads: it reads the decoder's query.
"""

import torch
from easydict import EasyDict
from torch import Tensor, nn

from ..config import option
from ..utils.tensors import xyxy_to_cxcywh
from .layers import MLP, RepVGGBlock


class CornerPredictor(nn.Module):
    """Two probability maps, one a corner; the box is their expected positions (equations 1 and 2).

    The kind `CORNER` has a tower of convolutions for each corner and sample points at the cells' corners. The light
    kinds share one tower and put the points at the cells' centres: `CORNER_LITE` (convolutions), `CORNER_LITE_REP`
    (RepVGG blocks), `CORNER_LITE_REP_v2` (two of them at full width). `channels` are those of the first layer, `size`
    the cells a side of the search feature.
    """

    def __init__(self, kind: str, inputs: int, channels: int, size: int) -> None:
        super().__init__()
        widths = [inputs, channels, channels // 2, channels // 4, channels // 8]
        if kind == "CORNER_LITE_REP_v2":
            widths = [inputs, channels, channels]
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.shared = kind != "CORNER"
        if self.shared:
            block = _conv_block if kind == "CORNER_LITE" else RepVGGBlock
            self.conv_tower = nn.Sequential(*(block(*step) for step in steps), nn.Conv2d(widths[-1], 2, 3, padding=1))
        else:
            for corner in ("tl", "br"):
                for i, step in enumerate(steps, start=1):
                    self.add_module(f"conv{i}_{corner}", _conv_block(*step))
                self.add_module(f"conv5_{corner}", nn.Conv2d(widths[-1], 1, 1))
        self.register_buffer("points", _cell_points(size, 0.5 if self.shared else 0.0), persistent=False)

    def score_maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, S, S) to the logits of the top-left and of the bottom-right corner, (B, S * S) each."""
        if self.shared:
            return self.conv_tower(x).flatten(2).unbind(1)
        return self._tower(x, "tl"), self._tower(x, "br")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features (B, C, S, S) to `pred_boxes` (B, 1, 4) and `corner_maps` (2, B, S * S), their logits."""
        maps = self.score_maps(x)
        # In fp32 whatever the network runs in: rounding summed over all cells would move the box. A sum and
        # not a matrix product, which autocast would bring back to bf16.
        corners = [(logits.float().softmax(-1).unsqueeze(-1) * self.points).sum(1) for logits in maps]
        return {"pred_boxes": xyxy_to_cxcywh(torch.cat(corners, dim=-1))[:, None], "corner_maps": torch.stack(maps)}

    def _tower(self, x: Tensor, corner: str) -> Tensor:
        for i in range(1, 6):
            x = getattr(self, f"conv{i}_{corner}")(x)
        return x.flatten(1)


class CenterPredictor(nn.Module):
    """For each cell of the search feature how likely the object's centre lies in it, and the box if it does.

    The box is that of the likeliest cell and its neighbours (as in CenterNet, Zhou et al., 2019; in trackers since
    OSTrack, Ye et al., ECCV 2022). Where there are two alike, expected corners would lie between them; this takes one.

    `usual` is the boxes' side before training as a fraction of the crop. At test a cosine window's logarithm, weighted
    by `window`, is added to the logits: the object moves little between two frames.
    """

    def __init__(self, inputs: int, channels: int, size: int, usual: float, window: float = 0.0) -> None:
        super().__init__()
        self.usual = usual
        self.shared = nn.Sequential(RepVGGBlock(inputs, channels), RepVGGBlock(channels, channels))
        self.score = nn.Sequential(RepVGGBlock(channels, channels), nn.Conv2d(channels, 1, 1))
        self.box = nn.Sequential(RepVGGBlock(channels, channels), nn.Conv2d(channels, 4, 1))
        nn.init.zeros_(self.box[-1].weight)
        nn.init.zeros_(self.box[-1].bias)
        self.register_buffer("points", _cell_points(size, 0.5), persistent=False)
        hann = torch.sin(torch.pi * self.points).square().prod(dim=1)
        self.register_buffer("prior", window * hann.clamp(min=1e-3).log(), persistent=False)
        distance = (self.points[:, None] - self.points).abs().amax(dim=2)
        self.register_buffer("near", distance < 1.5 / size, persistent=False)  # (S * S, S * S)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features to `pred_boxes` (B, 1, 4), `pred_logits` (B, 1, 1), and the `scores` and `cell_boxes` of `cells`."""
        scores, boxes = self.cells(x)
        box, logit = self.best(scores, boxes)
        return {"pred_boxes": box[:, None], "pred_logits": logit[:, None], "scores": scores, "cell_boxes": boxes}

    def cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, S, S) to logits (B, S * S) and each cell's box (B, S * S, 4), cxcywh in parts of the crop."""
        x = self.shared(x)
        raw = self.box(x).flatten(2).transpose(1, 2).float()
        centre = self.points + self.usual * raw[..., :2]
        side = self.usual * raw[..., 2:].clamp(-4, 4).exp()
        return self.score(x).flatten(1).float(), torch.cat((centre, side), dim=-1)

    def best(self, scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Of the likeliest cell and its neighbours the mean box (B, 4), and the logit (B, 1) that it is one of them."""
        if not self.training:
            scores = scores + self.prior
        near = self.near[scores.argmax(dim=1)]
        inside, outside = scores.masked_fill(~near, -torch.inf), scores.masked_fill(near, -torch.inf)
        box = (inside.softmax(dim=1)[..., None] * boxes).sum(dim=1)
        return box, inside.logsumexp(dim=1, keepdim=True) - outside.logsumexp(dim=1, keepdim=True)


def _cell_points(size: int, offset: float) -> Tensor:
    """(size * size, 2) xy of the cells of a square grid, row by row, in parts of its side."""
    axis = (torch.arange(size, dtype=torch.float32) + offset) / size
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack((columns, rows), dim=-1).flatten(0, 1)


def _conv_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def build_box_head(cfg: EasyDict, stride: int) -> nn.Module:
    """The head of MODEL.HEAD_TYPE; the MLP goes from a query (C) to its cxcywh box."""
    dim, size = cfg.MODEL.HIDDEN_DIM, cfg.DATA.SEARCH.SIZE // stride
    if cfg.MODEL.HEAD_TYPE == "MLP":
        return MLP(dim, dim, 4, 3)
    channels = option(cfg, "MODEL.HEAD_DIM")
    if cfg.MODEL.HEAD_TYPE == "CENTER":
        return CenterPredictor(dim, channels, size, 1 / cfg.DATA.SEARCH.FACTOR, option(cfg, "TEST.WINDOW"))
    return CornerPredictor(cfg.MODEL.HEAD_TYPE, dim, channels, size)
