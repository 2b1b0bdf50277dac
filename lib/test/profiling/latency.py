"""How long something takes, and on what machine."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Latency:
    """Times of equal runs, in milliseconds.

    Attributes:
        median: half of the runs took less.
        p5, p95: 5 % and 95 % of the runs took less.
        runs: how many there were.
    """

    median: float
    p5: float
    p95: float
    runs: int


def measure(function: Callable[[], object], device: torch.device, runs: int, warmup: int) -> Latency:
    """Time a function, each run on its own until the device has finished it.

    Args:
        function: what to time.
        device: where it computes.
        runs: runs that count, at least 1.
        warmup: runs before them that do not: the first ones allocate memory and choose kernels.
    """
    seconds = []
    with torch.inference_mode():
        for _ in range(warmup):
            function()
        for _ in range(runs):
            _finish(device)
            start = time.perf_counter()
            function()
            _finish(device)
            seconds.append(time.perf_counter() - start)
    p5, median, p95 = (float(value) * 1000 for value in np.percentile(seconds, (5, 50, 95)))
    return Latency(median, p5, p95, runs)


def describe_machine(device: torch.device) -> dict[str, object]:
    """What a measurement depends on: processor, cores this process may use, PyTorch's threads, versions."""
    machine: dict[str, object] = {
        "device": str(device),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine


def machine_line(machine: dict[str, object]) -> str:
    """`describe_machine` as one line."""
    gpu = f"{machine['gpu']}; " if "gpu" in machine else ""
    return (
        f"{gpu}{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; "
        f"PyTorch {machine['torch']} on {machine['device']}"
    )


def _finish(device: torch.device) -> None:
    """Wait until the device has done all it was given; a CPU has by the time a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
