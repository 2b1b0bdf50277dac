"""Weights that a run starts from or learns from: ImageNet's, the previous stage's, the teacher's."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch import nn

from lib.config import ConfigError, load_config, option
from lib.models.pretrained import imagenet_file, resnet_file_name, torch_cache
from lib.train.checks.report import Finding, note, ok, problem
from lib.train.distillation import check_fit, distills
from lib.train.networks import build_network
from lib.train.options import RunOptions, Stage
from lib.utils.checkpoint import CheckpointError, load_checkpoint, load_state
from lib.utils.errors import UserError
from lib.utils.workspace import workspace


def outline(script: str, cfg: EasyDict) -> nn.Module:
    """The network without memory for its weights: their names and shapes, and what learns.

    Raises:
        ConfigError: options that do not fit together.
    """
    with torch.device("meta"):
        return build_network(script, cfg)


def fit(net: nn.Module, checkpoint: dict[str, Any], path: Path, allow_missing: Sequence[str] = ()) -> None:
    """Hold a checkpoint against an `outline`.

    Raises:
        CheckpointError: names or shapes that differ.
    """
    with warnings.catch_warnings():
        # Torch says of every weight that an outline does not take it; here that is the point.
        warnings.filterwarnings("ignore", message=".*meta parameter.*")
        load_state(net, checkpoint, path, allow_missing=allow_missing)


def check_start(options: RunOptions, cfg: EasyDict, net: nn.Module | None, begun: bool) -> Iterator[Finding]:
    """What the first step starts from.

    Args:
        options, cfg: the run.
        net: its `outline`; None where it cannot be built.
        begun: the run goes on from a checkpoint of its own.
    """
    if options.previous is not None:
        subject, stage = "previous stage", options.previous
        if begun:
            yield ok(subject, "not read: this run has begun, and goes on from its own checkpoint")
        else:
            yield from _check_stage(subject, stage, options.save_dir, net)
    elif begun:
        return
    elif cfg.TRAIN.get("TRAIN_CLS", False):
        yield problem(
            "previous stage",
            f"{options.script} trains the score head of a network whose boxes are trained, and none is named",
            "name that stage with --script_prv stark_st1 --config_prv <config>",
        )
    elif option(cfg, "MODEL.BACKBONE.PRETRAINED"):
        yield _check_imagenet(cfg.MODEL.BACKBONE.TYPE)


def check_teacher(options: RunOptions, cfg: EasyDict) -> Iterator[Finding]:
    """Whether the teacher of a run that has one is trained, and its corner maps can guide the student's."""
    subject, teacher = "teacher", options.teacher
    try:
        if not distills(options, cfg):
            return
        teacher_cfg = load_config(teacher.script, teacher.config)
        net = outline(teacher.script, teacher_cfg)
    except UserError as error:
        yield problem(subject, str(error))
        return
    try:
        check_fit(cfg, teacher_cfg, net)
    except UserError as error:
        yield problem(subject, str(error))
    yield from _check_stage(subject, teacher, options.save_dir, net)


def _check_stage(subject: str, stage: Stage, save_dir: Path, net: nn.Module | None) -> Iterator[Finding]:
    """Whether another run's weights are there and fit, a score head aside, and whether that run came to its end."""
    command = f"python tracking/train.py --script {stage.script} --config {stage.config}"
    try:
        path = stage.find(save_dir)
    except CheckpointError as error:
        given = stage.checkpoint is not None
        yield problem(subject, str(error), "correct the path" if given else f"`{command}` trains it")
        return
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError as error:
        given = stage.checkpoint is not None
        yield problem(subject, str(error), "copy it anew" if given else f"copy it anew, or train it: `{command}`")
        return
    if net is not None:
        try:
            fit(net, checkpoint, path, allow_missing=("cls_head.",))
        except CheckpointError as error:
            yield problem(subject, str(error), "name the run it was trained by, with the MODEL options it had")
            return
    yield _came_to_its_end(subject, stage, path, checkpoint.get("epoch"))


def _came_to_its_end(subject: str, stage: Stage, path: Path, epoch: Any) -> Finding:
    """How many of its epochs a run was trained."""
    if not isinstance(epoch, int):
        return ok(subject, f"{path}: the weights fit")
    if stage.checkpoint is not None:  # of whatever run; the script and configuration need not be its own
        return ok(subject, f"{path}: epoch {epoch}, the weights fit")
    try:
        last = load_config(stage.script, stage.config).TRAIN.EPOCH
    except ConfigError as error:
        return note(subject, f"{path}: epoch {epoch}, the weights fit; its last epoch is not known ({error})")
    if epoch < last:
        return note(
            subject,
            f"{path}: epoch {epoch} of {last}, that run is not at its end",
            "the weights fit, and training starts from them as they are",
        )
    return ok(subject, f"{path}: epoch {epoch} of {last}, the weights fit")


def _check_imagenet(backbone: str) -> Finding:
    """Whether the backbone's weights are here, without fetching them."""
    subject = "ImageNet weights"
    try:
        path = imagenet_file(backbone)
        if path is not None:
            load_checkpoint(path)
    except UserError as error:
        return problem(subject, str(error))
    if path is not None:
        return ok(subject, f"of {backbone}: {path}")
    return note(
        subject,
        f"of {backbone}: not here, training downloads them to {torch_cache()} when it starts",
        f"where there is no network, put {resnet_file_name(backbone)} into {workspace('train').pretrained_dir}",
    )
