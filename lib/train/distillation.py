"""Distillation: the corner maps of a trained spatial network guide a Lightning student."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from ..config.options import REFINE
from ..models import build_model
from ..models.inference import prepare_for_tracking
from ..models.layers import MLP
from ..utils.errors import UserError
from .loader import Batch
from .losses import Actor, BoxActor, MaskActor, Outcome, ScoreActor
from .options import RunOptions, Stage

STUDENT = "stark_lightning_X_trt"


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


def actor_type(options: RunOptions, cfg: EasyDict) -> type[Actor]:
    """Forward pass and loss of the kind of training that the options ask for."""
    if options.teacher is not None:
        return DistillActor
    if options.script == REFINE:
        return MaskActor
    return ScoreActor if cfg.TRAIN.get("TRAIN_CLS", False) else BoxActor


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
        values = outcome.values | {"Loss/total": loss.detach(), "Loss/distill": distillation.detach()}
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


def load_teacher(stage: Stage, save_dir: Path, device: torch.device) -> Teacher:
    """The trained network that a stage names, built as its checkpoint says; errors as of `Stage.load`."""
    cfg = stage.network_config(save_dir)
    net = build_model(stage.script, cfg)
    stage.load(net, save_dir)
    return Teacher(prepare_for_tracking(net).to(device, memory_format=torch.channels_last), cfg, device)


def check_fit(cfg: EasyDict, teacher_cfg: EasyDict, teacher: nn.Module) -> None:
    """Raise a UserError unless a teacher gives corner maps of the student's cells, from crops like those it knows."""
    if isinstance(teacher.box_head, MLP):
        raise UserError("the teacher's MODEL.HEAD_TYPE MLP gives no corner maps: name a teacher with a corner head")
    if cfg.MODEL.HEAD_TYPE == "CENTER":
        raise UserError("the student's MODEL.HEAD_TYPE CENTER has no corner maps to guide: give it a corner head")
    side = teacher_cfg.DATA.SEARCH.SIZE // teacher.extractor.stride
    pairs = [("side of the feature map", cfg.DATA.SEARCH.FEAT_SIZE, side)]
    for region, key in (("SEARCH", "SIZE"), ("SEARCH", "FACTOR"), ("TEMPLATE", "SIZE"), ("TEMPLATE", "FACTOR")):
        pairs.append((f"DATA.{region}.{key}", cfg.DATA[region][key], teacher_cfg.DATA[region][key]))
    differ = [f"{name} is {its}, the student's {ours}" for name, ours, its in pairs if ours != its]
    if differ:
        raise UserError(f"the teacher's {'; '.join(differ)}: both see the same crops; name a teacher trained on such")
