"""Tensors that networks take and give: batches of crops with their padding masks, boxes and their overlaps.

Formats of boxes are spelled out: xywh, xyxy (corners), cxcywh (centre). Functions take and give tensors (..., 4);
coordinates are pixels or fractions alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NestedTensor:
    """Image crops and where they are padding; without a padded crop in the batch the network does no work on masks."""

    tensors: Tensor  # (B, 3, H, W) float, normalised pixels
    mask: Tensor | None = None  # (B, H, W) bool, True on padding


class Preprocessor:
    """From 8-bit crops to pixels in [0, 1], normalised by channel, on a device; trackers have `OnCrops`."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.device = device
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def pixels(self, crops: Tensor, brightness: Tensor) -> Tensor:
        """Crops (B, H, W, 3) uint8 to (B, 3, H, W) float32, channels last in memory.

        `brightness` (B,) multiplies each crop before it is cut off at white.
        """
        pixels = crops.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        pixels = (pixels * brightness.to(self.device, non_blocking=True).view(-1, 1, 1, 1)).clamp(max=1)
        return (pixels - self.mean) / self.std


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Top-left corner and size to two corners."""
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x, y, x + w, y + h), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Two corners to centre and size."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size to two corners."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=-1)


def sort_corners(boxes: Tensor) -> Tensor:
    """Order each xyxy box's corners so that x1 <= x2 and y1 <= y2 (an early network crosses them)."""
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat((torch.minimum(first, second), torch.maximum(first, second)), dim=-1)


def box_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap of boxes pair by pair: (..., 4) xyxy each, to IoU (...) and union area (...).

    Two boxes without area have IoU 0.
    """
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    inter = size[..., 0] * size[..., 1]
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    union = area_a + area_b - inter
    return inter / union.clamp(min=torch.finfo(union.dtype).tiny), union


def generalized_box_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """GIoU pair by pair (Rezatofighi et al., CVPR 2019): (..., 4) xyxy each, to GIoU (...) and IoU (...)."""
    iou, union = box_iou(a, b)
    size = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = size[..., 0] * size[..., 1]
    return iou - (hull - union) / hull.clamp(min=torch.finfo(hull.dtype).tiny), iou
