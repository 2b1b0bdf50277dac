"""The engines that compute a tracker's network: which of them exist, which device they use, the form that all have.

PyTorch is loaded only where it is needed: on a CPU, exported graphs run without it.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ....utils.errors import UserError
from ....utils.graph_files import Regions

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
PRECISIONS_OF = {
    "torch": ("fp32", "bf16", "fp16"),
    "compile": ("fp32", "bf16", "fp16"),
    "onnx": ("fp32",),
    "openvino": ("fp32", "bf16", "int8"),
    "tensorrt": ("fp32", "bf16", "fp16"),
}
# Package that an engine needs.
_PACKAGES = {name: name for name in PRECISIONS_OF} | {"compile": "torch", "onnx": "onnxruntime"}
# Kinds of devices that an engine can use; all where it has no line.
_DEVICES = {"onnx": ("cpu", "cuda"), "openvino": ("cpu",), "tensorrt": ("cuda",)}
# What an engine needs of onnxruntime for CUDA; nothing where it has no line.
_PROVIDERS = {"onnx": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
# Fastest first, as measured on CPUs (benchmarks/tracking.py); on CUDA by reputation.
_FASTEST = {"cpu": ("openvino", "onnx", "torch"), "cuda": ("tensorrt", "torch"), "mps": ("torch",)}
Part = Callable[..., list[np.ndarray]]


@dataclass(frozen=True)
class Engine:
    """Computes a network in two parts, whose inputs and outputs are those of the graphs (see `lib.models.export`)."""

    name: str  # the engine's name and precision, for people
    template: Part  # runs once for a template
    search: Part  # runs each frame; takes the outputs of `template`, too
    regions: Regions | None = None  # of a network that finds boxes; None of one that makes masks
    explain: Callable[..., tuple[list[np.ndarray], dict]] | None = None  # `search`, and what `watched` finds meanwhile


def package(name: str, who: str) -> ModuleType:
    """A package that `who` needs; raises UserError where it is not installed.

    onnxruntime, OpenVINO and NNCF report over the network that and how they are used, unless they are kept from it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # without it, which they allow for, the other two are silent
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{who} needs the package {name}: pip install {name} ({error})") from error


def installed() -> list[str]:
    """The engines whose packages are here, and `auto`."""
    return ["auto", *(name for name in PRECISIONS_OF if importlib.util.find_spec(_PACKAGES[name]))]


def choose_engine(engine: str, device: str, precision: str) -> str:
    """The engine itself, or for `auto` the fastest that is installed and knows device and precision.

    Raises UserError for an unknown name, or an engine that does not compute in that precision.
    """
    for what, value, valid in (("engine", engine, ("auto", *PRECISIONS_OF)), ("precision", precision, PRECISIONS)):
        if value not in valid:
            raise UserError(f"unknown {what} '{value}'; valid: {', '.join(valid)}")
    if engine != "auto":
        if precision not in PRECISIONS_OF[engine]:
            known = ", ".join(PRECISIONS_OF[engine])
            raise UserError(f"the engine {engine} does not compute in {precision}; it knows {known}")
        return engine
    here, kind = installed(), _selected(device).partition(":")[0]
    for name in _FASTEST[kind]:
        if name in here and precision in PRECISIONS_OF[name] and (kind != "cuda" or not _missing_provider(name)):
            return name
    able_elsewhere = ", ".join(name for name, known in PRECISIONS_OF.items() if precision in known)
    raise UserError(f"no engine here computes in {precision} on {device}; those that know it: {able_elsewhere}")


def _missing_provider(engine: str) -> str:
    """The part of onnxruntime that an engine needs for CUDA and that is missing here; "" where none is."""
    if (name := _PROVIDERS.get(engine, "")) and importlib.util.find_spec("onnxruntime"):
        return "" if name in package("onnxruntime", f"the engine {engine}").get_available_providers() else name
    return name


def _selected(device: str) -> str:
    """The device that a name of `select_device` stands for here; PyTorch is not loaded to know that it is the CPU."""
    drivers = sys.platform != "linux" or any(map(os.path.exists, ("/proc/driver/nvidia", "/dev/kfd")))
    if device == "cpu" or (device == "auto" and not (drivers and importlib.util.find_spec("torch"))):
        return "cpu"
    from ....utils.device import select_device

    return str(select_device(device))


def engine_device(engine: str, device: str) -> str:
    """The device (`cpu`, `cuda`, `cuda:1`, `mps`) that an engine runs on, by the name of `select_device`.

    Raises UserError where the engine's package is missing, or where it cannot use the device.
    """
    if engine not in installed():
        name = _PACKAGES[engine]
        raise UserError(f"the engine {engine} needs the package {name}: pip install {name}")
    kinds, lack = _DEVICES.get(engine, ("cpu", "cuda", "mps")), _missing_provider(engine)
    usable = [kind for kind in kinds if kind != "cuda" or not lack]
    if device == "auto" and usable == ["cpu"]:
        return "cpu"
    target = _selected(device)
    kind = target.partition(":")[0]
    if kind in usable:
        return target
    if device == "auto" and "cpu" in usable:
        return "cpu"
    if kind in kinds:
        reason = f"the onnxruntime here has no {lack}: install onnxruntime-gpu in its place"
        raise UserError(f"the engine {engine} cannot run on {target}: {reason}")
    raise UserError(f"the engine {engine} runs on {' or '.join(kinds)}, not on {target}")
