"""Batches of crops with their padding masks."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NestedTensor:
    """Image crops and where they are padding.

    Attributes:
        tensors: (B, 3, H, W) float, normalised pixels.
        mask: (B, H, W) bool, True on padding; None where no crop of the batch is padded,
            which spares the network all work on masks.
    """

    tensors: Tensor
    mask: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "NestedTensor":
        """The same batch on another device."""
        mask = None if self.mask is None else self.mask.to(device, non_blocking=non_blocking)
        return NestedTensor(self.tensors.to(device, non_blocking=non_blocking), mask)
