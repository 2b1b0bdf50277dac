"""Forward pass and loss of a batch: boxes (STARK, equation 3), score (equation 4), masks, distillation."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from ..config import option
from ..config.options import REFINE
from ..models.explain import attention_from, watched
from ..utils.errors import UserError, few
from ..utils.tensors import NestedTensor, Preprocessor, cxcywh_to_xyxy, generalized_box_iou, sort_corners, xywh_to_xyxy
from . import distributed
from .loader import Batch
from .optimiser import compiles
from .options import RunOptions

STUDENT = "stark_lightning_X_trt"  # learns by distillation
# Deviation of the target around the object's centre: a part of the object's side, and at least so many cells.
_SPREAD, _LEAST_SPREAD = 0.15, 0.5


def box_losses(
    prediction: Tensor, truth: Tensor, giou_weight: float, l1_weight: float, crossed: str = "published"
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 3: the weighted sum of 1 - GIoU and L1, and for the log its parts and the mean IoU.

    `prediction` (B, Nq, 4) is cxcywh, `truth` (B, 4) xyxy in fractions of the crop, within [0, 1]. An early network
    predicts negative sizes (TRAIN.CROSSED_CORNERS): `published` then drops the GIoU term of the whole batch, `sorted`
    takes the GIoU of the box between the two corners.
    """
    predicted = cxcywh_to_xyxy(prediction.float())
    truth = truth[:, None].expand_as(predicted)
    giou, iou = generalized_box_iou(sort_corners(predicted), truth)
    giou_loss, l1_loss = (1 - giou).mean(), F.l1_loss(predicted, truth)
    if crossed == "published":
        giou_loss = giou_loss * (predicted[..., :2] <= predicted[..., 2:]).all()
    loss = giou_weight * giou_loss + l1_weight * l1_loss
    return loss, {"Loss/total": loss, "Loss/giou": giou_loss, "Loss/l1": l1_loss, "IoU": iou.mean()}


def center_losses(
    output: dict[str, Tensor], truth: Tensor, giou_weight: float, l1_weight: float, center_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The head CENTER: cross-entropy of the centre over all cells, and GIoU and L1 of the boxes of the cells around it.

    `output` has `scores` (B, S * S), `cell_boxes` (B, S * S, 4) and `pred_boxes` (B, 1, 4); `truth` (B, 4) is xyxy in
    fractions of the crop, within [0, 1]. Gives the weighted sum, and for the log its parts and the mean IoU.
    """
    scores, boxes = output["scores"].float(), cxcywh_to_xyxy(output["cell_boxes"])
    target = center_target(truth, round(scores.shape[1] ** 0.5))
    center_loss = -(target * scores.log_softmax(dim=1)).sum(1).mean()
    everywhere = truth[:, None].expand_as(boxes)
    giou, _ = generalized_box_iou(boxes, everywhere)
    giou_loss = (target * (1 - giou)).sum(1).mean()
    l1_loss = (target * (boxes - everywhere).abs().mean(-1)).sum(1).mean()
    loss = giou_weight * giou_loss + l1_weight * l1_loss + center_weight * center_loss
    _, iou = generalized_box_iou(cxcywh_to_xyxy(output["pred_boxes"][:, 0]), truth)
    parts = {"Loss/total": loss, "Loss/giou": giou_loss, "Loss/l1": l1_loss, "Loss/center": center_loss}
    return loss, {**parts, "IoU": iou.mean()}


def center_target(truth: Tensor, size: int) -> Tensor:
    """Distribution (B, size * size) of the centre over cells: a normal one around it; boxes (B, 4) xyxy."""
    cells = (torch.arange(size, device=truth.device) + 0.5) / size
    middle, side = (truth[:, :2] + truth[:, 2:]) / 2, truth[:, 2:] - truth[:, :2]
    spread = (_SPREAD * side).clamp(min=_LEAST_SPREAD / size)
    exponent = -0.5 * ((cells - middle[..., None]) / spread[..., None]) ** 2  # (B, 2, size)
    return (exponent[:, 1, :, None] + exponent[:, 0, None, :]).flatten(1).softmax(dim=1)


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of masks pair by pair, (..., H, W) bool each to (...); 0 where both are empty."""
    inter, union = (a & b).sum((-2, -1)), (a | b).sum((-2, -1))
    return inter / union.clamp(min=1)


class FiniteChecks:
    """Collects whether the values of steps are finite, and reads all answers together: reading waits for the device."""

    def __init__(self) -> None:
        self._noted: list[tuple[Tensor, str, list[list[str]]]] = []

    def note(self, values: Tensor, what: str, sources: list[list[str]]) -> None:
        """Remember whether values (B, ...) of B samples are finite; `sources` are the frames of each sample."""
        self._noted.append((torch.isfinite(values.detach()).flatten(1).all(1), what, sources))

    def require(self) -> None:
        """Raise a UserError for the first values of any process that were not finite, and forget all.

        Every process calls this, after the same notes. A prediction is noted before the gradient, which all share.
        """
        noted, self._noted = self._noted, []
        whole = torch.stack([finite.all() for finite, *_ in noted]).tolist() if noted else []
        first, message = len(noted), ""
        if False in whole:
            first = whole.index(False)
            finite, what, sources = noted[first]
            broken = [", ".join(sources[i]) for i in (~finite).nonzero().flatten().tolist()]
            message = f"{what} is not finite; samples: {few(broken, 3, '; ', 500)}"
        _, message = min(distributed.gathered((first, message)))
        if message:
            raise UserError(message)


@dataclass(frozen=True)
class Outcome:
    """The loss and the predictions of a batch of B samples; None for what is not trained."""

    loss: Tensor  # scalar with a graph
    values: dict[str, Tensor]  # scalars for the log
    boxes: Tensor | None = None  # (B, 4) xyxy in fractions of the search crop
    scores: Tensor | None = None  # (B,) confidence in [0, 1]
    masks: Tensor | None = None  # (B, H, W) probability of the object in each pixel of the search crop
    attention: Tensor | None = None  # (B, S * S) of the encoder, from the box's centre; see `Actor.explained`
    maps: Tensor | None = None  # (K, B, S * S) logits over the search feature's cells: of two corners, or the centre


class Actor:
    """Computes the `Outcome` of a batch: `actor(batch, step)`.

    Nothing here waits for the device. `checks` knows whether predictions were finite; `step` begins its error.
    """

    measures: tuple[str, ...]  # names of an outcome's values

    def __init__(self, net: nn.Module, cfg: EasyDict, device: torch.device) -> None:
        self.net, self.cfg, self.device, self.checks = net, cfg, device, FiniteChecks()
        self.preprocess = Preprocessor(cfg.DATA.MEAN, cfg.DATA.STD, device)

    def regions(self, batch: Batch) -> tuple[list[NestedTensor], NestedTensor]:
        """A batch's templates and search region as normalised pixels on the device."""
        crops = [*batch.templates, batch.search]
        masks = [None] * len(batch.templates) if batch.template_masks is None else list(batch.template_masks)
        masks = [None if mask is None else self.move(mask) for mask in [*masks, batch.search_mask]]
        *templates, search = map(NestedTensor, map(self.preprocess.pixels, crops, batch.brightness), masks)
        return templates, search

    def explained(self, batch: Batch, step: str = "") -> Outcome:
        """The outcome of a batch, with the encoder's attention where it can be read and there are boxes and maps."""
        net = getattr(self.net, "module", self.net)  # the network within DistributedDataParallel
        if compiles(self.cfg) or not hasattr(net, "transformer"):
            return self(batch, step)
        with watched(net) as found:
            outcome = self(batch, step)
        if outcome.maps is None:
            return outcome
        attention = attention_from(found["encoder"], outcome.boxes.cpu().numpy(), outcome.maps.shape[-1])
        return replace(outcome, attention=torch.from_numpy(attention))

    def move(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)


class BoxActor(Actor):
    """Stage 1 and one-stage training: the losses on boxes. With the head CENTER there is `Loss/center`, too."""

    measures = ("Loss/total", "Loss/giou", "Loss/l1", "IoU")

    def __call__(self, batch: Batch, step: str = "") -> Outcome:
        return self.outcome(self.net(*self.regions(batch)), batch, step)

    def outcome(self, output: dict[str, Tensor], batch: Batch, step: str) -> Outcome:
        """The loss of a network's output."""
        prediction = output["pred_boxes"]  # (B, Nq, 4)
        self.checks.note(prediction, f"{step}: the network's prediction", batch.sources)
        truth = xywh_to_xyxy(self.move(batch.boxes)).clamp(0, 1)
        weights = self.cfg.TRAIN.GIOU_WEIGHT, self.cfg.TRAIN.L1_WEIGHT
        if "cell_boxes" in output:
            loss, values = center_losses(output, truth, *weights, option(self.cfg, "TRAIN.CENTER_WEIGHT"))
        else:
            loss, values = box_losses(prediction, truth, *weights, option(self.cfg, "TRAIN.CROSSED_CORNERS"))
        maps = output["scores"][None] if "scores" in output else output.get("corner_maps")
        if maps is not None:  # of several queries, the first one's
            maps = maps.detach().unflatten(1, (len(prediction), -1))[:, :, 0]
        return Outcome(loss, values, boxes=cxcywh_to_xyxy(prediction.detach().float().mean(1)), maps=maps)


class ScoreActor(Actor):
    """Stage 2: the score head alone, with binary cross-entropy (equation 4)."""

    measures = ("Loss/total", "cls_loss", "accuracy")

    def __call__(self, batch: Batch, step: str = "") -> Outcome:
        logits = self.net(*self.regions(batch), score_only=True)["pred_logits"].flatten(1)  # (B, Nq)
        self.checks.note(logits, f"{step}: the network's prediction", batch.sources)
        labels = self.move(batch.labels)[:, None].expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        accuracy = ((logits > 0) == (labels > 0.5)).float().mean()
        values = {"Loss/total": loss, "cls_loss": loss, "accuracy": accuracy}
        return Outcome(loss, values, scores=logits.detach().float().sigmoid().mean(1))


class MaskActor(Actor):
    """Alpha-Refine's masks, with binary cross-entropy a pixel."""

    measures = ("Loss/total", "IoU")

    def __call__(self, batch: Batch, step: str = "") -> Outcome:
        (template,), search = self.regions(batch)
        logits = self.net(template.tensors, self.move(batch.template_boxes), search.tensors)[:, 0].float()  # (B, S, S)
        self.checks.note(logits, f"{step}: the network's prediction", batch.sources)
        truth = self.move(batch.object_masks)
        loss = F.binary_cross_entropy_with_logits(logits, truth.float())
        masks = logits.detach().sigmoid()
        overlap = mask_iou(masks > self.cfg.TEST.MASK_THRESHOLD, truth).mean()
        return Outcome(loss, {"Loss/total": loss, "IoU": overlap}, masks=masks)


class Teacher(Actor):
    """A trained spatial network that predicts where the corners are, and does not learn.

    It gets the student's crops, normalised as its own configuration says. Of their one template STARK-ST, which takes
    several, gets copies, as in tracking before its dynamic template is replaced for the first time.
    """

    def __init__(self, net: nn.Module, cfg: EasyDict, device: torch.device) -> None:
        super().__init__(net.eval().requires_grad_(False), cfg, device)
        self.copies = cfg.DATA.TEMPLATE.get("NUMBER", 1)

    @torch.no_grad()
    def corner_maps(self, batch: Batch, step: str = "") -> Tensor:
        """Probabilities (B, 2, 1, S * S) of the corners: the queries' mean, as of their boxes in tracking."""
        templates, search = self.regions(batch)
        maps = by_sample(self.net(templates * self.copies, search)["corner_maps"], batch)
        self.checks.note(maps, f"{step}, teacher: the network's prediction", batch.sources)
        return maps.softmax(-1).mean(2, keepdim=True)


class DistillActor(BoxActor):
    """Training of a Lightning student: the losses on boxes, and `corner_loss`, weighted by TRAIN.L1_WEIGHT.

    Cells are compared with cells, as published, although equal maps stand for boxes half a cell apart: a light head
    means a cell's centre, the teacher's its top-left corner. The losses on boxes pull against that.
    """

    measures = (*BoxActor.measures, "Loss/distill")

    def __init__(self, net: nn.Module, cfg: EasyDict, device: torch.device, teacher: Teacher) -> None:
        super().__init__(net, cfg, device)
        self.teacher, teacher.checks = teacher, self.checks

    def __call__(self, batch: Batch, step: str = "") -> Outcome:
        output = self.net(*self.regions(batch))
        outcome = self.outcome(output, batch, step)
        maps = by_sample(output["corner_maps"], batch)
        self.checks.note(maps, f"{step}: the network's prediction", batch.sources)
        target = self.teacher.corner_maps(batch, step)
        distillation = corner_loss(maps, target, self.cfg.TRAIN.DISTILL_LOSS_TYPE)
        loss = outcome.loss + self.cfg.TRAIN.L1_WEIGHT * distillation
        values = outcome.values | {"Loss/total": loss, "Loss/distill": distillation}
        return replace(outcome, loss=loss, values=values)


def by_sample(maps: Tensor, batch: Batch) -> Tensor:
    """Corner maps as networks give them, (2, B * Nq, S * S), to float32 (B, 2, Nq, S * S)."""
    return maps.float().unflatten(1, (len(batch.search), -1)).transpose(0, 1)


def corner_loss(logits: Tensor, target: Tensor, kind: str) -> Tensor:
    """Distance of a student's corner maps before the softmax (B, 2, Nq, S * S) from a teacher's probabilities.

    `kind` is `KL`, the divergence of the student's map from the teacher's, averaged over maps; or `L1`, the absolute
    difference of the probabilities, summed over cells and averaged over maps. The teacher may have one map for all Nq.
    """
    logits, target = logits.flatten(0, 2), target.expand_as(logits).flatten(0, 2)
    if kind == "KL":
        return F.kl_div(logits.log_softmax(-1), target, reduction="batchmean")
    return (logits.softmax(-1) - target).abs().sum(-1).mean()


def actor_type(options: RunOptions, cfg: EasyDict) -> type[Actor]:
    """Forward pass and loss of the kind of training that the options ask for."""
    if options.teacher is not None:
        return DistillActor
    if options.script == REFINE:
        return MaskActor
    return ScoreActor if cfg.TRAIN.get("TRAIN_CLS", False) else BoxActor
