"""Precise RoI pooling (Jiang et al., "Acquisition of Localization Confidence for Accurate Object Detection", 2018).

A feature map is bilinearly interpolated to a function of the plane, zero outside, and each bin of a box gets the mean
of that function over its area. The function is a sum of products of hats, one in x and one in y, so the integrals
are two small matrix products; features and boxes get exact gradients.
"""

import torch
from torch import Tensor


def precise_roi_pool(features: Tensor, boxes: Tensor, cells: int, scale: float) -> Tensor:
    """The mean of the interpolated features over each of `cells` x `cells` bins of a box, a box an image.

    Args:
        features: (B, C, H, W); its cells' centres are at whole coordinates.
        boxes: (B, 4) xyxy, in pixels of the image.
        cells: bins along each side.
        scale: cells of the features per pixel.

    Returns:
        (B, C, cells, cells); zeros where a box has no area.
    """
    x1, y1, x2, y2 = (boxes * scale).unbind(-1)
    rows = mean_of_hats(y1, y2, cells, features.shape[-2])  # (B, cells, H)
    columns = mean_of_hats(x1, x2, cells, features.shape[-1])  # (B, cells, W)
    # Integrals are sums of differences of nearly equal numbers: in single precision, whatever the features are in.
    with torch.autocast(features.device.type, enabled=False):
        return rows[:, None] @ features.to(rows.dtype) @ columns[:, None].transpose(-1, -2)


def mean_of_hats(start: Tensor, end: Tensor, bins: int, size: int) -> Tensor:
    """The means of the `size` hat functions max(0, 1 - |t - i|) over equal bins of the intervals from start to end.

    Args:
        start, end: (B,), in cells.

    Returns:
        (B, bins, size); zeros where the end is not beyond the start.
    """
    steps = torch.arange(bins + 1, device=start.device, dtype=start.dtype) / bins
    edges = start[:, None] + (end - start)[:, None] * steps  # (B, bins + 1)
    centres = torch.arange(size, device=start.device, dtype=start.dtype)
    t = (edges[..., None] - centres).clamp(-1, 1)
    integral = t - t * t.abs() / 2  # of a hat from its middle to t
    length = (end - start)[:, None, None] / bins
    has_area = length > 0
    return torch.where(has_area, (integral[:, 1:] - integral[:, :-1]) / torch.where(has_area, length, 1.0), 0.0)
