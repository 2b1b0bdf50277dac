"""Batches of crops as networks take them: normalised pixels with their padding masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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


class Preprocessor:
    """From 8-bit crops to pixels in [0, 1], normalised by channel, on a device."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.device = device
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def pixels(self, crops: Tensor, brightness: Tensor | None = None) -> Tensor:
        """Crops (B, H, W, 3) uint8 to (B, 3, H, W) float32, channels last in memory.

        `brightness` (B,) multiplies each crop before it is cut off at white.
        """
        pixels = crops.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        if brightness is not None:
            pixels = (pixels * brightness.to(self.device, non_blocking=True).view(-1, 1, 1, 1)).clamp(max=1)
        return (pixels - self.mean) / self.std

    def __call__(self, crop: np.ndarray, mask: np.ndarray) -> NestedTensor:
        """One crop (H, W, 3) uint8 and its padding mask (H, W) bool as a batch of one."""
        padding = torch.from_numpy(mask)[None].to(self.device) if mask.any() else None
        return NestedTensor(self.pixels(torch.from_numpy(crop)[None]), padding)
