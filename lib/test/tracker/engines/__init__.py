"""What a tracker computes its network with.

A new engine is a class derived from `base.Engine`, and a line in `PRECISIONS_OF`, `engine_device` and `create_engine`.
PyTorch is loaded only where it is needed: on a CPU, graphs that are there run without it.
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from easydict import EasyDict

from lib.test.tracker.engines.base import PRECISIONS, Engine
from lib.test.tracker.engines.onnx import OnnxEngine, onnxruntime
from lib.utils.errors import UserError
from lib.utils.graph_files import GraphFiles, Regions

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "PRECISIONS_OF",
    "Engine",
    "choose_engine",
    "create_engine",
    "device_kind",
    "engine_device",
    "graph_engine",
    "installed",
]

PRECISIONS_OF = {
    "torch": ("fp32", "bf16", "fp16"),
    "compile": ("fp32", "bf16", "fp16"),
    "onnx": ("fp32",),
    "openvino": ("fp32", "bf16", "int8"),
    "tensorrt": ("fp32", "bf16", "fp16"),
}
ENGINES = ("auto", *PRECISIONS_OF)
# Package that an engine needs, where it is not PyTorch.
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
# Fastest first, as measured on CPUs (benchmarks/tracking.py); on CUDA by reputation.
_FASTEST = {"cpu": ("openvino", "onnx", "torch"), "cuda": ("tensorrt", "torch"), "mps": ("torch",)}


def installed() -> list[str]:
    """The engines whose packages are here."""
    return [name for name in ENGINES if name not in _PACKAGES or importlib.util.find_spec(_PACKAGES[name])]


def choose_engine(engine: str, device: str, precision: str) -> str:
    """The engine itself, or what `auto` stands for: the fastest that is installed and knows device and precision.

    Raises:
        UserError: an unknown name, or an engine that does not compute in that precision.
    """
    for what, value, valid in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in valid:
            raise UserError(f"unknown {what} '{value}'; valid: {', '.join(valid)}")
    if engine == "auto":
        here = installed()
        able = [name for name in _FASTEST[device_kind(device)] if name in here and precision in PRECISIONS_OF[name]]
        if not able:
            able_elsewhere = ", ".join(name for name, known in PRECISIONS_OF.items() if precision in known)
            raise UserError(f"no engine here computes in {precision} on {device}; those that know it: {able_elsewhere}")
        return able[0]
    if precision not in PRECISIONS_OF[engine]:
        raise UserError(
            f"the engine {engine} does not compute in {precision}; it knows {', '.join(PRECISIONS_OF[engine])}"
        )
    return engine


def device_kind(device: str) -> str:
    """The kind of device that a name of `select_device` stands for here."""
    no_accelerator = sys.platform == "linux" and not any(
        map(Path.exists, map(Path, ("/proc/driver/nvidia", "/dev/kfd")))
    )
    if device == "cpu" or (device == "auto" and no_accelerator):
        return "cpu"  # which PyTorch need not be loaded to know
    from lib.utils.device import select_device

    return select_device(device).type


def engine_device(engine: str, device: str) -> "torch.device":
    """The device that an engine runs on by the name of `select_device`.

    Raises:
        UserError: the engine's package is missing, or it cannot use the device.
    """
    import torch

    from lib.utils.device import select_device

    if engine not in installed():
        name = _PACKAGES[engine]
        raise UserError(f"the engine {engine} needs the package {name}: pip install {name}")
    if engine in ("torch", "compile"):
        return select_device(device)
    if engine == "openvino":
        if device not in ("auto", "cpu"):
            raise UserError(f"the engine openvino runs on the device cpu, not on {device}")
        return torch.device("cpu")
    if engine == "tensorrt":
        target = select_device(device)
        if target.type != "cuda":
            raise UserError(f"the engine tensorrt runs on CUDA devices, not on {target}")
        return target
    on_cuda = "CUDAExecutionProvider" in onnxruntime().get_available_providers()
    target = select_device(device if device != "auto" or on_cuda else "cpu")
    if target.type == "cuda" and not on_cuda:
        raise UserError(
            "the onnxruntime here knows no CUDA: install onnxruntime-gpu in its place, or choose the device cpu"
        )
    if target.type == "mps":
        if device == "auto":
            return torch.device("cpu")
        raise UserError("the engine onnx runs on cpu or cuda, not on mps")
    return target


def create_engine(
    engine: str, model: "nn.Module", cfg: EasyDict, device: "torch.device", graphs_dir: Path, precision: str = "fp32"
) -> Engine:
    """The engine of a name for a network.

    Args:
        engine: one of `ENGINES`, but not `auto`: see `choose_engine`.
        model: the network with its weights; the engine may keep it and change its form.
        cfg: the configuration it was built from.
        device: from `engine_device`.
        graphs_dir: where exported graphs are kept; those of other weights are never taken.
        precision: one that the engine knows; see `graph_engine`.

    Raises:
        UserError: a package is missing; graphs cannot be written, or not be run.
    """
    if engine in ("torch", "compile"):
        from lib.test.tracker.engines.pytorch import TorchEngine

        return TorchEngine(model, cfg, device, precision, compiled=engine == "compile")
    from lib.models.export import kept_graphs

    return graph_engine(engine, kept_graphs(model, cfg, graphs_dir), device, precision)


def graph_engine(
    engine: str, graphs: GraphFiles, device: "torch.device | None" = None, precision: str = "fp32"
) -> Engine:
    """The engine `onnx`, `openvino` or `tensorrt` for exported graphs.

    Args:
        graphs: all of them written.
        device: from `engine_device`; None for the CPU.
        precision: one that the engine knows. `int8` needs the graphs that `tracking/export.py` quantises.

    Raises:
        UserError: a package is missing, or the graphs cannot be run.
    """
    regions = Regions.load(graphs.regions)
    if engine == "onnx":
        return OnnxEngine(graphs, regions, device)
    if engine == "tensorrt":
        from lib.test.tracker.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(graphs, regions, device, precision)
    from lib.test.tracker.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(graphs, regions, precision)
