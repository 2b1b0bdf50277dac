"""Choosing the device to compute on."""

import re

import torch

from lib.utils.errors import UserError


def available_devices() -> list[str]:
    """The names `select_device` accepts on this machine, best first."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def select_device(name: str = "auto") -> torch.device:
    """The device of a name: `auto` (CUDA, else MPS, else the CPU), `cpu`, `mps`, `cuda` or `cuda:<index>`.

    Raises:
        UserError: an unknown name, or a device that this machine has not; the message lists what it has.
    """
    available = available_devices()
    if name == "auto":
        return torch.device(available[0].removesuffix(":0"))
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UserError(f"unknown device '{name}'; choose auto, {', '.join(available)}")
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in available:
        raise UserError(f"device '{name}' is not available here; choose auto, {', '.join(available)}")
    return torch.device(name)
