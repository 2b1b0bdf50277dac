"""A network cut where tracking cuts it: a template's part, computed once, and the search region's, each frame.

What depends on padding alone (positions, and what attention may not see) is neither's: `lib.utils.regions` makes it,
once for all regions without padding, so that of masks nothing is computed where nothing is padded.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.heads import CenterPredictor
from lib.models.position_encoding import PositionEmbeddingSine
from lib.models.stark import STARKST
from lib.models.stark_lightning import STARKLightningXtrt
from lib.utils.regions import Regions
from lib.utils.tensors import NestedTensor


def regions_of(model: nn.Module, cfg: EasyDict) -> Regions:
    """What there is to know of a network's regions beside it.

    Args:
        model: the network.
        cfg: the configuration it was built from.
    """
    sizes, stride = {"template": cfg.DATA.TEMPLATE.SIZE, "search": cfg.DATA.SEARCH.SIZE}, model.extractor.stride
    positions: dict[str, np.ndarray] = {}
    encoding = None
    if not isinstance(model, STARKLightningXtrt):
        encoding = copy.deepcopy(model.backbone[1]).cpu().float() if len(model.backbone) > 1 else None
        for name, size in sizes.items():
            blank = torch.zeros(1, cfg.MODEL.HIDDEN_DIM, size // stride, size // stride)
            with torch.no_grad():
                position = blank.flatten(2).transpose(1, 2) if encoding is None else encoding(blank, None)
            positions[name] = np.ascontiguousarray(position.numpy())
    return Regions(sizes, stride, template_count(model), positions, isinstance(encoding, PositionEmbeddingSine))


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
        self.model, self.regions = model, regions_of(model, cfg)
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
        """Template crops (B, Ht, Wt, 3) uint8 to keys and values (B, Lt, C) of each layer.

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
