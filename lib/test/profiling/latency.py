"""Measure the latency of a function, and describe the machine."""

import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib.utils.device import available_cpus


@dataclass(frozen=True)
class Latency:
    """Median and percentiles of timed runs, in milliseconds, and the number of runs."""

    median: float
    p5: float
    p95: float
    runs: int

    def columns(self) -> str:
        """The three times as columns of a table under `COLUMNS`."""
        return f"{self.median:13.2f}{self.p5:9.2f}{self.p95:9.2f}"


COLUMNS = f"{'median (ms)':>13}{'5 %':>9}{'95 %':>9}"


def measure(function: Callable[[], object], device: torch.device, runs: int, warmup: int) -> Latency:
    """Time each run of a function until the device has finished it, after `warmup` runs that do not count."""
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
    """Device, processor, cores available to this process, threads of PyTorch, versions."""
    machine: dict[str, object] = {
        "device": str(device),
        "processor": _processor(),
        "cores": available_cpus(),
        "threads": torch.get_num_threads(),
        **{"torch": torch.__version__, "python": platform.python_version(), "system": platform.system()},
    }
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine


def machine_line(machine: dict[str, object]) -> str:
    """The result of `describe_machine` as one line."""
    gpu = f"{machine['gpu']}; " if "gpu" in machine else ""
    return (
        f"{gpu}{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; "
        f"PyTorch {machine['torch']} on {machine['device']}"
    )


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    text = information.read_text(errors="replace") if information.is_file() else ""
    found = re.search(r"model name\s*: (.*)", text)
    return found[1].strip() if found else platform.processor() or platform.machine()
