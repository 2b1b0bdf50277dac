"""Forward pass and loss of one batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import option
from lib.train.loader import Batch
from lib.utils.boxes import cxcywh_to_xyxy, generalized_box_iou, sort_corners, xywh_to_xyxy
from lib.utils.errors import UserError
from lib.utils.tensors import NestedTensor, Preprocessor

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


class NonFiniteError(UserError):
    """The network gave nan or infinity: the run has diverged, or a sample is broken."""


def name_sources(samples: list[list[str]], most: int = 3) -> str:
    """The frames of the first samples, for a message."""
    return "; ".join(", ".join(frames) for frames in samples[:most]) + ("; …" if len(samples) > most else "")


@dataclass(frozen=True)
class Outcome:
    """The loss and the predictions of a batch of B samples.

    Attributes:
        loss: scalar with a graph.
        values: scalars for the log, without one.
        boxes: (B, 4) predicted boxes, xyxy in fractions of the search crop; None where boxes are not trained.
        scores: (B,) confidence in [0, 1]; None where the score head is not trained.
        masks: (B, H, W) probability of the object in each pixel of the search crop; None where masks are not trained.
    """

    loss: Tensor
    values: dict[str, Tensor]
    boxes: Tensor | None = None
    scores: Tensor | None = None
    masks: Tensor | None = None


class FiniteChecks:
    """Checks that predictions and gradients are finite.

    On a CPU a value is checked at once. On another device this would wait for the device, so values are checked when
    `settle` is called; until then gradients that are not finite change nothing (`Optimisation.step`).
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Tensor, str, list[list[str]]]] = []

    def require(self, values: Tensor, what: str, sources: list[list[str]]) -> None:
        """Values (B, ...) of B samples with their frames; `what` begins the message.

        Raises:
            NonFiniteError: on a CPU, they are not finite.
        """
        self.waiting.append((~torch.isfinite(values.detach()).flatten(1).all(1), what, sources))
        if values.device.type == "cpu":
            self.settle()

    def settle(self) -> None:
        """Look at what was required since the last time.

        Raises:
            NonFiniteError: something is not finite; the message is that of the first, and names the samples.
        """
        waiting, self.waiting = self.waiting, []
        if not waiting or not torch.stack([broken.any() for broken, *_ in waiting]).any():
            return
        broken, what, sources = next(each for each in waiting if each[0].any())
        samples = name_sources([sources[i] for i in broken.nonzero().flatten().tolist()])
        raise NonFiniteError(f"{what} is not finite; samples: {samples}")


class Actor:
    """What both kinds of training share: bringing a batch to the network's form.

    Args:
        net: the network, possibly wrapped for several processes.
        cfg: the effective configuration.
        device: where the network is.
    """

    def __init__(self, net: nn.Module, cfg: EasyDict, device: torch.device) -> None:
        self.net, self.cfg, self.device = net, cfg, device
        self.preprocess = Preprocessor(cfg.DATA.MEAN, cfg.DATA.STD, device)
        self.checks = FiniteChecks()

    def regions(self, batch: Batch) -> tuple[list[NestedTensor], NestedTensor]:
        """A batch's templates and search region as normalised pixels on the device."""
        count = len(batch.templates)
        masks = [None] * count if batch.template_masks is None else batch.template_masks
        templates = [self._region(batch.templates[i], masks[i], batch.brightness[i]) for i in range(count)]
        return templates, self._region(batch.search, batch.search_mask, batch.brightness[-1])

    def _region(self, crops: Tensor, mask: Tensor | None, brightness: Tensor) -> NestedTensor:
        mask = None if mask is None else mask.to(self.device, non_blocking=True)
        return NestedTensor(self.preprocess.pixels(crops, brightness), mask)

    def check_finite(self, prediction: Tensor, batch: Batch, step: str) -> None:
        """Stop on a non-finite prediction (B, ...) and say which samples it came from."""
        self.checks.require(prediction, f"{step}: the network's prediction", batch.sources)


class BoxActor(Actor):
    """Stage 1 and one-stage training: GIoU and L1 loss on boxes (equation 3)."""

    def __call__(self, batch: Batch, step: str = "") -> Outcome:
        """The loss of a batch and its parts.

        Raises:
            NonFiniteError: the network's boxes are not finite.
        """
        return self.outcome(self.net(*self.regions(batch)), batch, step)

    def outcome(self, output: dict[str, Tensor], batch: Batch, step: str) -> Outcome:
        """The loss of a network's output; see `__call__`."""
        prediction = output["pred_boxes"]  # (B, Nq, 4)
        self.check_finite(prediction, batch, step)
        truth = xywh_to_xyxy(batch.boxes.to(self.device, non_blocking=True)).clamp(0, 1)
        weights = self.cfg.TRAIN.GIOU_WEIGHT, self.cfg.TRAIN.L1_WEIGHT
        if "cell_boxes" in output:
            loss, values = center_losses(output, truth, *weights, option(self.cfg, "TRAIN.CENTER_WEIGHT"))
        else:
            loss, values = box_losses(prediction, truth, *weights)
        return Outcome(loss, values, boxes=cxcywh_to_xyxy(prediction.detach().float().mean(1)))


class ScoreActor(Actor):
    """Stage 2: the score head alone, with binary cross-entropy (equation 4)."""

    def __call__(self, batch: Batch, step: str = "") -> Outcome:
        """The loss of a batch, and how often the score is on the right side of one half.

        Raises:
            NonFiniteError: the network's scores are not finite.
        """
        logits = self.net(*self.regions(batch), score_only=True)["pred_logits"].flatten(1)  # (B, Nq)
        self.check_finite(logits, batch, step)
        labels = batch.labels.to(self.device, non_blocking=True)[:, None].expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        accuracy = ((logits > 0) == (labels > 0.5)).float().mean()
        values = {"Loss/total": loss.detach(), "cls_loss": loss.detach(), "accuracy": accuracy}
        return Outcome(loss, values, scores=logits.detach().float().sigmoid().mean(1))


def box_losses(
    prediction: Tensor, truth: Tensor, giou_weight: float, l1_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss between predicted and true boxes.

    Args:
        prediction: (B, Nq, 4) cxcywh in fractions of the crop.
        truth: (B, 4) xyxy in fractions, within [0, 1].
        giou_weight: weight of 1 - GIoU, and `l1_weight` of the mean absolute difference.

    Returns:
        The weighted sum, and its parts and the mean IoU for the log.
    """
    predicted = cxcywh_to_xyxy(prediction.float())
    truth = truth[:, None].expand_as(predicted)
    giou, iou = generalized_box_iou(sort_corners(predicted), truth)
    giou_loss, l1_loss = (1 - giou).mean(), F.l1_loss(predicted, truth)
    loss = giou_weight * giou_loss + l1_weight * l1_loss
    parts = {"Loss/total": loss, "Loss/giou": giou_loss, "Loss/l1": l1_loss}
    return loss, {name: value.detach() for name, value in parts.items()} | {"IoU": iou.detach().mean()}


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
