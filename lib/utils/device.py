"""The machine: devices and processor cores to compute with. Imports PyTorch only where it is needed."""

import os
import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    import torch


def available_cpus() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """Threads to compute with: as many as PyTorch uses, or would use if it were imported."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    configured = os.environ.get("OMP_NUM_THREADS", "")
    return int(configured) if configured.isdecimal() and int(configured) > 0 else available_cpus()


def available_devices() -> list[str]:
    """The names `select_device` accepts on this machine, best first."""
    import torch

    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*names, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def select_device(name: str = "auto") -> "torch.device":
    """The device `auto` (CUDA, else MPS, else the CPU), `cpu`, `mps`, `cuda` or `cuda:<index>`; else a UserError."""
    if find_spec("torch") is None:
        raise UserError(f"device '{name}' needs PyTorch: pip install torch, or choose cpu")
    import torch

    available = available_devices()
    if name == "auto":
        return torch.device(available[0].removesuffix(":0"))
    if ("cuda:0" if name == "cuda" else name) in available:
        return torch.device(name)
    raise UserError(f"device '{name}' is not available here; choose auto, {', '.join(available)}")


def describe_machine(device: "torch.device") -> dict[str, object]:
    """Device, processor, cores available to this process, threads of PyTorch, versions."""
    import torch

    information = Path("/proc/cpuinfo")
    text = information.read_text(errors="replace") if information.is_file() else ""
    found = re.search(r"model name\s*: (.*)", text)
    return {
        "device": str(device),
        **({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
        "processor": found[1].strip() if found else platform.processor() or platform.machine(),
        "cores": available_cpus(),
        "threads": torch.get_num_threads(),
        **{"torch": torch.__version__, "python": platform.python_version(), "system": platform.system()},
    }


def machine_line(machine: dict[str, object]) -> str:
    """The result of `describe_machine` as one line."""
    gpu = f"{machine['gpu']}; " if "gpu" in machine else ""
    return (
        f"{gpu}{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; "
        f"PyTorch {machine['torch']} on {machine['device']}"
    )
