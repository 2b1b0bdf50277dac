"""Optimiser, learning-rate schedule, mixed precision and gradient clipping, with their state."""

import contextlib
import math
import os
import shutil
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import ConfigError, option
from lib.utils.checkpoint import CheckpointError
from lib.utils.errors import UserError

# Share of a cosine schedule in which the rate rises from 0.
WARM_UP = 0.05
# Of the loss under fp16; without it the scale is 1, and a gradient that is not finite ends the run at once.
LEAST_SCALE = 1.0


class Optimisation:
    """Everything between a loss and changed weights.

    Args:
        net: the network (not wrapped); parameters that do not learn are switched off here.
        cfg: the effective configuration.
        device: where the network is.
        steps_per_epoch: for schedules that change within an epoch.
    """

    def __init__(self, net: nn.Module, cfg: EasyDict, device: torch.device, steps_per_epoch: int) -> None:
        self.cfg, self.device, self.steps_per_epoch = cfg.TRAIN, device, steps_per_epoch
        groups = parameter_groups(net, cfg)
        self.parameters = [p for group in groups for p in group["params"]]
        self.fused = device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(
            groups, lr=cfg.TRAIN.LR, weight_decay=cfg.TRAIN.WEIGHT_DECAY, fused=self.fused
        )
        self.names = ["rest", "backbone"][: len(groups)]
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        amp = option(cfg, "TRAIN.AMP")
        # True is how published configurations say fp16.
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, True: torch.float16}.get(amp)
        if self.dtype == torch.float16 and device.type not in ("cuda", "cpu"):
            raise ConfigError(f"'TRAIN.AMP' fp16 does not work on {device.type}; use bf16 or off")
        self.may_skip = False  # whether fp16's scale may be why the last step's gradient was not finite
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> contextlib.AbstractContextManager:
        """The arithmetic of the forward pass."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to those that wait for `step`; `loss` is a scalar with a graph."""
        self.scaler.scale(loss).backward()

    def step(self, epoch: int, step: int) -> Tensor:
        """Change the weights by the gradients of the losses since the last step; gives their norm before clipping.

        Where the norm is nan or infinite the weights stay as they were; see `may_skip`.

        Args:
            epoch: counted from 1.
            step: within the epoch, counted from 0.
        """
        factor = rate_factor(self.cfg, epoch, step, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.scaler.unscale_(self.optimizer)
        limit = self.cfg.GRAD_CLIP_NORM if self.cfg.GRAD_CLIP_NORM > 0 else math.inf
        norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        # Clipping has made every gradient nan, and a step would destroy the weights. The scaler of fp16 skips it and
        # lowers its scale, until there is nothing left to lower; without one the fused step is told so, on the device.
        self.may_skip = self.scaler.is_enabled() and self.scaler.get_scale() > LEAST_SCALE
        if self.fused and not self.scaler.is_enabled():
            self.optimizer.found_inf = (~norm.isfinite()).float()
        if self.fused or self.scaler.is_enabled() or torch.isfinite(norm):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def rates(self) -> dict[str, float]:
        """The learning rates of the last step by parameter group."""
        return {name: group["lr"] for name, group in zip(self.names, self.optimizer.param_groups, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; the schedule follows from epoch and step."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            CheckpointError: other parameters learned in that run.
        """
        sizes = [
            [len(group["params"]) for group in groups]
            for groups in (state["optimizer"]["param_groups"], self.optimizer.param_groups)
        ]
        if sizes[0] != sizes[1]:
            raise CheckpointError(
                f"the run that was begun trains {sum(sizes[0])} parameters, this configuration {sum(sizes[1])}: "
                "go on with the options it began with, or choose another --save_dir"
            )
        # Which of PyTorch's implementations makes the step is not the file's: each can go on from each.
        ways = [key for key in ("foreach", "fused", "capturable") if key in self.optimizer.defaults]
        groups = [
            group | {key: self.optimizer.defaults[key] for key in ways} for group in state["optimizer"]["param_groups"]
        ]
        self.optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
        for group in self.optimizer.param_groups:  # like the rates, it is the configuration's and not the file's
            group["weight_decay"] = self.cfg.WEIGHT_DECAY
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])


def parameter_groups(net: nn.Module, cfg: EasyDict) -> list[dict[str, Any]]:
    """What learns, and how fast: the backbone slower than the rest, the score head in stage 2 and it alone."""
    score_stage = cfg.TRAIN.get("TRAIN_CLS", False)
    for name, parameter in net.named_parameters():
        if score_stage != ("cls" in name):
            parameter.requires_grad_(False)
    learning = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    rest = [p for name, p in learning if not _is_backbones(name)]
    backbone = [p for name, p in learning if _is_backbones(name)]
    groups = [{"params": rest, "lr": cfg.TRAIN.LR}]
    if backbone:
        groups.append({"params": backbone, "lr": cfg.TRAIN.LR * cfg.TRAIN.BACKBONE_MULTIPLIER})
    return groups


def _is_backbones(name: str) -> bool:
    """Whether a parameter is the backbone's, which Alpha-Refine's published names call `feature_extractor`."""
    return "backbone" in name or "feature_extractor" in name


def rate_factor(train: EasyDict, epoch: int, step: int, steps_per_epoch: int) -> float:
    """What the base learning rate is multiplied by at a step.

    `step`: by DECAY_RATE after every LR_DROP_EPOCH epochs. `cosine`: up over the first twentieth of
    the run, then down to zero along half a cosine.
    """
    if train.SCHEDULER.TYPE == "step":
        return train.SCHEDULER.DECAY_RATE ** ((epoch - 1) // train.LR_DROP_EPOCH)
    progress = ((epoch - 1) * steps_per_epoch + step + 1) / (train.EPOCH * steps_per_epoch)
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def choose_arithmetic(net: nn.Module, cfg: EasyDict, device: torch.device) -> None:
    """Do what TRAIN.COMPILE and TRAIN.TF32 say; the network's parameters and their names stay.

    Raises:
        UserError: there is no compiler for TRAIN.COMPILE.
    """
    if device.type == "cuda":
        precision = "tf32" if option(cfg, "TRAIN.TF32") else "ieee"
        torch.backends.cuda.matmul.fp32_precision = precision
        torch.backends.cudnn.conv.fp32_precision = precision
    if compiles(cfg):
        mode = option(cfg, "TRAIN.COMPILE")
        # Shapes are the same in every step; with and without padding masks there are a few programs, not one for all.
        net.compile(mode=None if mode == "default" else mode, dynamic=False)


def compiles(cfg: EasyDict) -> bool:
    """Whether TRAIN.COMPILE asks for a compiled network.

    Raises:
        UserError: it does, and there is no compiler.
    """
    mode, compiler = option(cfg, "TRAIN.COMPILE"), os.environ.get("CXX", "g++")
    if mode in (False, "off"):
        return False
    if shutil.which(compiler) is None:
        raise UserError(
            f"TRAIN.COMPILE {mode} needs a C++ compiler, and there is no '{compiler}': install g++, name another by "
            "the environment variable CXX, or set TRAIN.COMPILE=off"
        )
    return True
