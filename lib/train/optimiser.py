"""Optimiser, learning-rate schedule, mixed precision and gradient clipping, with their state."""

import math
import os
import shutil
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from ..config import option
from ..utils.checkpoint import CheckpointError
from ..utils.errors import UserError

# Share of a cosine schedule in which the rate rises from 0.
WARM_UP = 0.05


class Optimisation:
    """Everything between a loss and changed weights; parameters that do not learn are switched off here."""

    def __init__(self, net: nn.Module, cfg: EasyDict, device: torch.device, steps_per_epoch: int) -> None:
        self.cfg, self.device, self.steps_per_epoch = cfg.TRAIN, device, steps_per_epoch
        groups = parameter_groups(net, cfg)
        self.parameters = [p for group in groups for p in group["params"]]
        fused = device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(groups, weight_decay=cfg.TRAIN.WEIGHT_DECAY, fused=fused)
        self.names = ["rest", "backbone"][: len(groups)]
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        # True is how published configurations say fp16.
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, True: torch.float16}.get(option(cfg, "TRAIN.AMP"))
        # Of other types than fp16 the scale is 1: the scaler then only leaves out steps that are not finite.
        options = {} if self.dtype == torch.float16 else {"init_scale": 1.0, "growth_interval": 2**31 - 1}
        self.scaler = torch.amp.GradScaler(device.type, **options)
        self.scaler.scale(torch.zeros((), device=device))  # it begins with the first tensor that it sees

    def autocast(self) -> torch.autocast:
        """The arithmetic of the forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, a scalar with a graph, to those that wait for `step`."""
        self.scaler.scale(loss).backward()

    def step(self, epoch: int, step: int) -> Tensor | None:
        """Change the weights by the gradients since the last step; epochs count from 1, their steps from 0.

        Gives the gradient's norm before clipping, a scalar on the device; where a gradient is nan or infinite, the
        weights stay as they were. None where fp16's loss scale may be the reason: the scale is lower at the next step.
        """
        factor = rate_factor(self.cfg, epoch, step, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.cfg.GRAD_CLIP_NORM or math.inf)
        # Only fp16 waits for the device here.
        overflown = self.dtype == torch.float16 and self.scaler.get_scale() > 1 and not torch.isfinite(norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return None if overflown else norm

    def rates(self) -> dict[str, float]:
        """The learning rates of the last step by parameter group."""
        return {name: group["lr"] for name, group in zip(self.names, self.optimizer.param_groups, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run; the schedule follows from epoch and step."""
        scaler = self.scaler.state_dict() if self.dtype == torch.float16 else {}
        return {"optimizer": self.optimizer.state_dict(), "scaler": scaler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; a CheckpointError if it is of other parameters than those that learn here."""
        moments, own = state["optimizer"]["state"], self.optimizer.state_dict()["param_groups"]
        then, now = ([len(group["params"]) for group in groups] for groups in (state["optimizer"]["param_groups"], own))
        remedy = "go on with the options it began with, or choose another --save_dir"
        if then != now:
            fault = f"the run that was begun trains {sum(then)} parameters, this configuration {sum(now)}"
            raise CheckpointError(f"{fault}: {remedy}")
        for number, values in moments.items():
            shape = self.parameters[number].shape
            found = {name: torch.as_tensor(value).shape for name, value in values.items()}
            if found != {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}:
                fault = "the optimiser's state in the checkpoint is not of the parameters that learn here"
                raise CheckpointError(f"{fault}: {remedy}")
        # Rates and the like are this run's and not the file's; each implementation of AdamW can go on from each.
        self.optimizer.load_state_dict({"state": moments, "param_groups": own})
        if state.get("scaler") and self.dtype == torch.float16:
            self.scaler.load_state_dict(state["scaler"])


def parameter_groups(net: nn.Module, cfg: EasyDict) -> list[dict[str, Any]]:
    """Parameters that learn, with their rates: the backbone's are slower; in stage 2 the score head learns alone.

    BACKBONE_MULTIPLIER 0 freezes the backbone.
    """
    score_stage = cfg.TRAIN.get("TRAIN_CLS", False)
    rest, backbone = [], []
    for name, parameter in net.named_parameters():
        of_backbone = "backbone" in name or "feature_extractor" in name  # as Alpha-Refine's published names call it
        if score_stage != ("cls" in name) or of_backbone and not cfg.TRAIN.BACKBONE_MULTIPLIER:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            (backbone if of_backbone else rest).append(parameter)
    groups = [{"params": rest, "lr": cfg.TRAIN.LR}]
    if backbone:
        groups.append({"params": backbone, "lr": cfg.TRAIN.LR * cfg.TRAIN.BACKBONE_MULTIPLIER})
    return groups


def rate_factor(train: EasyDict, epoch: int, step: int, steps_per_epoch: int) -> float:
    """The factor on the base learning rate at a step; epochs count from 1.

    `step`: DECAY_RATE after every LR_DROP_EPOCH epochs. `cosine`: up for `WARM_UP`, then down to 0 along half a cosine.
    """
    if train.SCHEDULER.TYPE == "step":
        return train.SCHEDULER.DECAY_RATE ** ((epoch - 1) // train.LR_DROP_EPOCH)
    progress = ((epoch - 1) * steps_per_epoch + step + 1) / (train.EPOCH * steps_per_epoch)
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def choose_arithmetic(net: nn.Module, cfg: EasyDict, device: torch.device) -> None:
    """Apply TRAIN.COMPILE and TRAIN.TF32; the network's parameters and their names stay."""
    if device.type == "cuda":
        # These set PyTorch's old and new flags. After new ones alone, autotuning raises where it reads old ones.
        torch.set_float32_matmul_precision("high" if option(cfg, "TRAIN.TF32") else "highest")
        torch.backends.cudnn.allow_tf32 = option(cfg, "TRAIN.TF32")
    if compiles(cfg):
        mode = option(cfg, "TRAIN.COMPILE")
        # Shapes are the same in every step; with and without padding masks there are a few programs, not one for all.
        net.compile(mode=None if mode == "default" else mode, dynamic=False)


def compiles(cfg: EasyDict) -> bool:
    """Whether TRAIN.COMPILE asks for a compiled network; a UserError if it does and there is no compiler."""
    mode, compiler = option(cfg, "TRAIN.COMPILE"), os.environ.get("CXX", "g++")
    if mode in (False, "off"):
        return False
    if shutil.which(compiler) is None:
        remedy = "install g++, name another by the environment variable CXX, or set TRAIN.COMPILE=off"
        raise UserError(f"TRAIN.COMPILE {mode} needs a C++ compiler, and there is no '{compiler}': {remedy}")
    return True
