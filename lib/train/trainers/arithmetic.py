"""How a run's network is computed, beyond mixed precision: compiled, and on CUDA in TF32."""

import os
import shutil

import torch
from easydict import EasyDict
from torch import nn

from lib.config import option
from lib.utils.errors import UserError


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
