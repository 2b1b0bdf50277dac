"""The loss of the head `CENTER`, which answers in every cell of the search feature."""

import torch
from torch import Tensor

from lib.utils.boxes import cxcywh_to_xyxy, generalized_box_iou

# Deviation of the target around the object's centre: a part of the object's side, and at least so many cells.
_SPREAD, _LEAST_SPREAD = 0.15, 0.5


def center_losses(
    output: dict[str, Tensor], truth: Tensor, giou_weight: float, l1_weight: float, center_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of where the centre is over all cells, and GIoU and L1 of the boxes of the cells around it.

    Args:
        output: what the network gave: `scores` (B, S * S), `cell_boxes` (B, S * S, 4), `pred_boxes` (B, 1, 4).
        truth: (B, 4) xyxy in fractions of the crop, within [0, 1].
        giou_weight: weight of 1 - GIoU, `l1_weight` of the mean absolute difference, `center_weight` of the entropy.

    Returns:
        The weighted sum, and for the log its parts and the mean IoU of the predicted boxes.
    """
    scores, boxes = output["scores"].float(), cxcywh_to_xyxy(output["cell_boxes"])
    target = center_target(truth, round(scores.shape[1] ** 0.5))
    center_loss = -(target * scores.log_softmax(dim=1)).sum(1).mean()
    everywhere = truth[:, None].expand_as(boxes)
    giou, _ = generalized_box_iou(boxes, everywhere)
    giou_loss = (target * (1 - giou)).sum(1).mean()
    l1_loss = (target * (boxes - everywhere).abs().mean(-1)).sum(1).mean()
    loss = giou_weight * giou_loss + l1_weight * l1_loss + center_weight * center_loss
    _, iou = generalized_box_iou(cxcywh_to_xyxy(output["pred_boxes"].detach()[:, 0]), truth)
    parts = {
        "Loss/total": loss,
        "Loss/giou": giou_loss,
        "Loss/l1": l1_loss,
        "Loss/center": center_loss,
        "IoU": iou.mean(),
    }
    return loss, {name: value.detach() for name, value in parts.items()}


def center_target(truth: Tensor, size: int) -> Tensor:
    """Where the centre is, as a distribution (B, size * size) over cells: a normal one around it; boxes (B, 4) xyxy."""
    cells = (torch.arange(size, device=truth.device) + 0.5) / size
    middle, side = (truth[:, :2] + truth[:, 2:]) / 2, truth[:, 2:] - truth[:, :2]
    spread = (_SPREAD * side).clamp(min=_LEAST_SPREAD / size)
    exponent = -0.5 * ((cells - middle[..., None]) / spread[..., None]) ** 2  # (B, 2, size)
    return (exponent[:, 1, :, None] + exponent[:, 0, None, :]).flatten(1).softmax(dim=1)
