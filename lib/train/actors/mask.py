"""Training of Alpha-Refine: masks, by binary cross-entropy."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.train.actors.stark import Actor, Outcome
from lib.train.data.loader import Batch
from lib.utils.boxes import xywh_to_xyxy


class MaskActor(Actor):
    """Forward pass and loss of `lib.models.alpha_refine.AlphaRefine`."""

    def __call__(self, batch: Batch, step: str = "") -> Outcome:
        """The loss of a batch; for the log also the mean overlap of its masks, and that of the true boxes, filled.

        Raises:
            NonFiniteError: the network's masks are not finite.
        """
        templates, search = self.regions(batch)
        boxes = batch.template_boxes.to(self.device, non_blocking=True)
        logits = self.net(templates[0].tensors, boxes, search.tensors)[:, 0].float()  # (B, S, S)
        self.check_finite(logits, batch, step)
        truth = batch.object_masks.to(self.device, non_blocking=True)
        loss = F.binary_cross_entropy_with_logits(logits, truth.float())
        masks = logits.detach().sigmoid()
        overlap = mask_iou(masks > self.cfg.TEST.MASK_THRESHOLD, truth).mean()
        filled = mask_iou(filled_boxes(batch.boxes.to(self.device), truth.shape[-1]), truth).mean()
        values = {"Loss/total": loss.detach(), "IoU": overlap, "IoU of boxes": filled}
        return Outcome(loss, values, masks=masks)


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of masks pair by pair, (..., H, W) bool each to (...); 0 where both are empty."""
    inter, union = (a & b).sum((-2, -1)), (a | b).sum((-2, -1))
    return inter / union.clamp(min=1)


def filled_boxes(boxes: Tensor, size: int) -> Tensor:
    """Masks (B, size, size) bool of boxes (B, 4), xywh in fractions of the crop: the pixels whose centre is inside."""
    centres = (torch.arange(size, device=boxes.device) + 0.5) / size
    x1, y1, x2, y2 = xywh_to_xyxy(boxes)[..., None].unbind(1)  # (B, 1) each
    columns, rows = (x1 <= centres) & (centres < x2), (y1 <= centres) & (centres < y2)
    return rows[:, :, None] & columns[:, None, :]
