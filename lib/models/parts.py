"""A network cut where tracking cuts it: a template's part, computed once, and the search region's, each frame.

What depends on padding alone (positions and what attention may not see) is neither's: `Surroundings` makes it, once
for all regions without padding, so that of masks nothing is computed where nothing is padded.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.attention import logit_bias
from lib.models.heads import CenterPredictor
from lib.models.stark import STARKST, downsample_mask
from lib.models.stark_lightning import STARKLightningXtrt
from lib.utils.tensors import NestedTensor


@dataclass(frozen=True)
class Surroundings:
    """What the attention of a region's tokens needs beside them.

    Attributes:
        position: (1, L, C) float; None where the network's parts have it themselves.
        bias: (1, L) float, minus infinity on padding, else 0.
        padded: whether anything is padded.
    """

    position: Tensor | None
    bias: Tensor
    padded: bool


class Regions:
    """Sizes of a network's regions, and their surroundings; small, and of use without the network.

    Args:
        model: the network.
        cfg: the configuration it was built from.

    Attributes:
        sizes: sides in pixels of the crops, of a `template` and the `search` region.
        stride: pixels of a crop per cell of its feature.
        templates: how many templates the network takes.
        takes_position: whether its search part is given positions.
    """

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        self.sizes = {"template": cfg.DATA.TEMPLATE.SIZE, "search": cfg.DATA.SEARCH.SIZE}
        self.stride = model.extractor.stride
        self.templates = template_count(model)
        self.takes_position = not isinstance(model, STARKLightningXtrt)
        self._dim, self._encoding = cfg.MODEL.HIDDEN_DIM, None
        if self.takes_position and len(model.backbone) > 1:
            # A copy: on the CPU and in fp32, whatever the network runs in.
            self._encoding = copy.deepcopy(model.backbone[1]).cpu().float()

    def cells(self, region: str) -> int:
        """Cells a side of the feature of a region."""
        return self.sizes[region] // self.stride

    @torch.inference_mode()
    def surroundings(self, region: str, mask: np.ndarray | None) -> Surroundings:
        """Of a `template` or the `search` region with a padding mask (H, W) bool, None where nothing is padded."""
        cells = self.cells(region)
        if mask is None:
            return Surroundings(self._position(cells, None), torch.zeros(1, cells**2), padded=False)
        padding = downsample_mask(torch.from_numpy(mask)[None], (cells, cells))
        return Surroundings(self._position(cells, padding), logit_bias(padding.flatten(1), torch.float32), padded=True)

    def _position(self, cells: int, padding: Tensor | None) -> Tensor | None:
        """Positions (1, cells * cells, C), zeros without position encoding; None where the parts have them."""
        if not self.takes_position:
            return None
        blank = torch.zeros(1, self._dim, cells, cells)
        return blank.flatten(2).transpose(1, 2) if self._encoding is None else self._encoding(blank, padding)


class Parts(nn.Module):
    """The network in two parts.

    Crops are uint8 (B, H, W, 3), as they were cut out of the frame: normalising them is the network's first step.

    Args:
        model: a network with its weights, for tracking (see `lib.models.inference`).
        cfg: the configuration it was built from.

    Attributes:
        kept: names of the tensors that `template` gives.
        outputs: names of what `search` gives, as in the network's own output.
    """

    kept: tuple[str, ...]

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        super().__init__()
        self.model, self.regions = model, Regions(model, cfg)
        scores = isinstance(model, STARKST) or isinstance(model.box_head, CenterPredictor)
        self.outputs = ("pred_boxes", "pred_logits") if scores else ("pred_boxes",)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.model.bottleneck.weight.dtype

    def pixels(self, crops: Tensor) -> NestedTensor:
        """Crops (B, H, W, 3) uint8 to the network's input (B, 3, H, W)."""
        return NestedTensor((crops.permute(0, 3, 1, 2).float() * self.scale + self.shift).to(self.dtype))

    def found(self, output: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """What tracking needs of the network's output, in the order of `outputs`, in fp32."""
        return tuple(output[name].float() for name in self.outputs)


class StarkParts(Parts):
    """STARK-S and STARK-ST: of a template its features are kept; all tokens then see each other anew each frame."""

    kept = ("feature",)

    def template(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Template crops (B, Ht, Wt, 3) uint8 to their features (B, Lt, C)."""
        return (self.model.encode_template(self.pixels(crops)).feature,)

    def search(self, crops: Tensor, bias: Tensor | None, position: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        """Search crops (B, H, W, 3) uint8 to what `outputs` names; see `lib.models.stark.STARKS.forward`.

        Args:
            bias: (B or 1, L) added to the logits of attention, of templates and search region; or None.
            position: (B or 1, L, C) of templates and search region.
            features: what `template` gave of each template.
        """
        search = self.model.encode_search(self.pixels(crops)).feature
        tokens = torch.cat([*features, search], dim=1)
        hs, memory = self.model.transformer(tokens, bias, position.to(self.dtype), self.model.query_embed.weight)
        return self.found(self.model.predict_boxes(hs, memory[:, -search.shape[1] :]))


class LightningParts(Parts):
    """STARK-Lightning: of a template the keys and values of every layer are kept."""

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        super().__init__(model, cfg)
        names = [f"{name}{i}" for i in range(len(model.transformer.layers())) for name in ("keys", "values")]
        self.kept = tuple(names) if model.correlation is None else (*names, "feature")

    def template(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Template crops (B, Ht, Wt, 3) uint8 to keys and values (B, heads, Lt, C / heads) of each layer.

        With the correlation hint, then the features (B, Lt, C).
        """
        tokens = self.model.encode_template(self.pixels(crops))
        kept = [tensor for layer in self.model.transformer.layers() for tensor in layer.keep(tokens)]
        return tuple(kept) if self.model.correlation is None else (*kept, tokens.feature)

    def search(self, crops: Tensor, bias: Tensor | None, *kept: Tensor) -> tuple[Tensor, ...]:
        """Search crops (B, H, W, 3) uint8 to what `outputs` names; see `STARKLightningXtrt.forward`.

        Args:
            bias: (B or 1, Lt + L) added to the logits of attention, of template and search region; or None.
            kept: what `template` gave.
        """
        search = self.model.encode_search(self.pixels(crops))
        if self.model.correlation is not None:
            search = replace(search, feature=self.model.correlation(kept[-1], search.feature))
        for i, layer in enumerate(self.model.transformer.layers()):
            search = replace(search, feature=layer.look(kept[2 * i : 2 * i + 2], search, bias))
        return self.found(self.model.predict_boxes(search.feature))


def template_count(model: nn.Module) -> int:
    """How many templates a network takes."""
    return 2 if isinstance(model, STARKST) else 1


def cut(model: nn.Module, cfg: EasyDict) -> Parts:
    """A network for tracking in its two parts."""
    return (LightningParts if isinstance(model, STARKLightningXtrt) else StarkParts)(model, cfg)


def joined(surroundings: Sequence[Surroundings]) -> tuple[Tensor | None, Tensor, bool]:
    """Templates and search region one behind the other: position (1, L, C) or None, bias (1, L), any padding."""
    positions = [each.position for each in surroundings]
    position = None if positions[0] is None else torch.cat(positions, dim=1)
    return position, torch.cat([each.bias for each in surroundings], dim=1), any(s.padded for s in surroundings)
