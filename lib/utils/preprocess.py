"""From 8-bit crops to what the network takes."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from lib.utils.tensors import NestedTensor


class Preprocessor:
    """Scale to [0, 1] and normalise by channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.device = device
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)
        self.table = self._tables(torch.ones(1))[0]

    def pixels(self, crops: Tensor, brightness: Tensor | None = None) -> Tensor:
        """Crops (B, H, W, 3) uint8 to (B, 3, H, W) float32, channels last in memory.

        `brightness` (B,) multiplies each crop before it is cut off at white.
        """
        if self.device.type != "cpu":
            return self._normalised(crops.to(self.device, non_blocking=True), brightness)
        # One pass over the pixels in place of five.
        pixels = torch.empty(crops.shape)
        tables = self._tables(torch.ones(len(crops)) if brightness is None else brightness)
        for crop, table, out in zip(crops, tables, pixels, strict=True):
            cv2.LUT(crop.numpy(), table, out.numpy())
        return pixels.permute(0, 3, 1, 2)

    def _tables(self, brightness: Tensor) -> np.ndarray:
        """What each of the 256 values becomes at a brightness (B,), by channel: (B, 1, 256, 3) float32."""
        values = torch.arange(256, dtype=torch.uint8, device=self.device).view(1, 1, 256, 1)
        tables = self._normalised(values.expand(len(brightness), -1, -1, 3), brightness)
        return tables.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _normalised(self, crops: Tensor, brightness: Tensor | None = None) -> Tensor:
        """`pixels`, of crops on the device."""
        pixels = crops.permute(0, 3, 1, 2).float() / 255
        if brightness is not None:
            pixels = (pixels * brightness.to(self.device, non_blocking=True).view(-1, 1, 1, 1)).clamp(max=1)
        return (pixels - self.mean) / self.std

    def __call__(self, crop: np.ndarray, mask: np.ndarray) -> NestedTensor:
        """One crop (H, W, 3) uint8 and its padding mask (H, W) bool as a batch of one."""
        padding = torch.from_numpy(mask)[None].to(self.device) if mask.any() else None
        if self.device.type != "cpu":
            return NestedTensor(self.pixels(torch.from_numpy(crop)[None]), padding)
        # Without PyTorch's threads: they would wait for more to do, and take the cores from another engine's.
        return NestedTensor(torch.from_numpy(cv2.LUT(crop, self.table)).permute(2, 0, 1)[None], padding)
