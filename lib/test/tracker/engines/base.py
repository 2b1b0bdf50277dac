"""What all engines share: crops come in, boxes go out; of masks nothing is computed where nothing is padded.

Without PyTorch: an engine that runs exported graphs does not load it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.utils.graph_files import AttentionInputs, Regions, joined

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Template:
    """What an engine keeps of a template: tensors of its own kind, and what surrounds their tokens."""

    kept: tuple[Any, ...]
    attention_inputs: AttentionInputs


@dataclass(frozen=True)
class Context:
    """Positions (1, L, C), where the network takes them, and the bias (1, L) of templates and search region."""

    bias: np.ndarray
    position: np.ndarray | None
    padded: bool


class Engine:
    """Runs one network, a crop at a time; engines say how in `_template` and `_search`.

    Args:
        regions: of the network.

    Attributes:
        stride: pixels of a crop per cell of its features.
        name: the engine's name and precision, for people.
    """

    name: str

    def __init__(self, regions: Regions) -> None:
        self.stride, self.templates = regions.stride, regions.templates
        self._regions = regions
        self._plain = {region: regions.attention_inputs(region, None) for region in regions.sizes}
        self._last: tuple[list[AttentionInputs], Context] | None = None

    def encode_template(self, crop: np.ndarray, mask: np.ndarray | None = None) -> Template:
        """What `search` needs of a template.

        Args:
            crop: (Ht, Wt, 3) uint8 RGB.
            mask: (Ht, Wt) bool, True on padding; None or all False where nothing is padded.
        """
        return Template(self._template(np.ascontiguousarray(crop)), self._attention_inputs("template", mask))

    def search(
        self, templates: Sequence[Template], crop: np.ndarray, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Find the object in a crop (H, W, 3) uint8 RGB with its mask, given what `encode_template` made of templates.

        Returns:
            `pred_boxes` (1, Nq, 4), cxcywh in fractions of the crop; where there is a confidence `pred_logits`
            (1, Nq, 1), before the sigmoid; float32.
        """
        around = [*(template.attention_inputs for template in templates), self._attention_inputs("search", mask)]
        kept = [tensor for template in templates for tensor in template.kept]
        found = self._search(np.ascontiguousarray(crop), self._context(around), kept)
        # Networks without a score have one output.
        return dict(zip(("pred_boxes", "pred_logits"), found, strict=False))

    def _template(self, crop: np.ndarray) -> tuple[Any, ...]:
        """The network's template part."""
        raise TypeError("an engine says how it computes")

    def _search(self, crop: np.ndarray, context: Context, kept: list[Any]) -> Sequence[np.ndarray]:
        """The network's search part, its outputs in order."""
        raise TypeError("an engine says how it computes")

    def _attention_inputs(self, region: str, mask: np.ndarray | None) -> AttentionInputs:
        return self._plain[region] if mask is None or not mask.any() else self._regions.attention_inputs(region, mask)

    def _context(self, around: list[AttentionInputs]) -> Context:
        """Joined anew only where something changed, so that an engine can tell by identity what it was given before."""
        if self._last is None or any(a is not b for a, b in zip(self._last[0], around, strict=True)):
            position, bias, padded = joined(around)
            self._last = around, Context(bias, position, padded)
        return self._last[1]
