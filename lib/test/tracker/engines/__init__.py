"""The engines that compute a tracker's network.

A new engine is a function that opens a graph (see `base.Part`), and lines in `PRECISIONS_OF`, `engine_device` and
`graph_engine`. PyTorch is loaded only where it is needed: on a CPU, exported graphs run without it.
"""

import importlib.util
import sys
from pathlib import Path

from lib.test.tracker.engines import onnx
from lib.test.tracker.engines.base import PRECISIONS, Engine
from lib.utils.errors import UserError
from lib.utils.graph_files import REGIONS, Regions

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
        kind = _selected(device).partition(":")[0]
        able = [name for name in _FASTEST[kind] if name in here and precision in PRECISIONS_OF[name]]
        if not able:
            able_elsewhere = ", ".join(name for name, known in PRECISIONS_OF.items() if precision in known)
            raise UserError(f"no engine here computes in {precision} on {device}; those that know it: {able_elsewhere}")
        return able[0]
    if precision not in PRECISIONS_OF[engine]:
        raise UserError(
            f"the engine {engine} does not compute in {precision}; it knows {', '.join(PRECISIONS_OF[engine])}"
        )
    return engine


def _selected(device: str) -> str:
    """The device that a name of `select_device` stands for here; PyTorch is not loaded to know that it is the CPU."""
    no_accelerator = sys.platform == "linux" and not any(
        map(Path.exists, map(Path, ("/proc/driver/nvidia", "/dev/kfd")))
    )
    if device == "cpu" or (device == "auto" and no_accelerator):
        return "cpu"
    from lib.utils.device import select_device

    return str(select_device(device))


def engine_device(engine: str, device: str) -> str:
    """The device (`cpu`, `cuda`, `cuda:1`, `mps`) that an engine runs on, by the name of `select_device`.

    Raises:
        UserError: the engine's package is missing, or it cannot use the device.
    """
    if engine not in installed():
        name = _PACKAGES[engine]
        raise UserError(f"the engine {engine} needs the package {name}: pip install {name}")
    if engine == "openvino":
        if device not in ("auto", "cpu"):
            raise UserError(f"the engine openvino runs on the device cpu, not on {device}")
        return "cpu"
    if engine != "onnx":
        target = _selected(device)
        if engine == "tensorrt" and not target.startswith("cuda"):
            raise UserError(f"the engine tensorrt runs on CUDA devices, not on {target}")
        return target
    on_cuda = "CUDAExecutionProvider" in onnx.onnxruntime().get_available_providers()
    target = _selected(device if device != "auto" or on_cuda else "cpu")
    if target.startswith("cuda") and not on_cuda:
        raise UserError(
            "the onnxruntime here knows no CUDA: install onnxruntime-gpu in its place, or choose the device cpu"
        )
    if target == "mps":
        if device == "auto":
            return "cpu"
        raise UserError("the engine onnx runs on cpu or cuda, not on mps")
    return target


def graph_engine(
    engine: str, folder: Path, device: str = "cpu", precision: str = "fp32", suffix: str = ".onnx"
) -> Engine:
    """The engine `onnx`, `openvino` or `tensorrt` for the graphs of a network in a folder.

    Args:
        folder: as `lib.models.export.export_graphs` writes it.
        device: from `engine_device`.
        precision: one that the engine knows. `int8` needs the graph that `tracking/export.py` quantises.
        suffix: of the files; openvino also takes graphs in its own format.

    Raises:
        UserError: a package is missing, or the graphs cannot be run.
    """
    template, search = (folder / f"{part}{suffix}" for part in ("template", "search"))
    if engine == "onnx":
        parts = [onnx.open_graph(path, device) for path in (template, search)]
    elif engine == "openvino":
        from lib.test.tracker.engines import openvino

        if precision == "int8":
            search = openvino.require_int8(folder / f"search{openvino.INT8_SUFFIX}")
        # A template is computed once, and all boxes come of it: fp32 costs nothing there.
        parts = [openvino.open_graph(template), openvino.open_graph(search, precision)]
    else:
        from lib.test.tracker.engines import tensorrt

        parts = [
            tensorrt.Plan(tensorrt.kept_plan(path, folder, device, precision), device) for path in (template, search)
        ]
    regions = folder / REGIONS
    return Engine(f"{engine} {precision}", *parts, Regions.load(regions) if regions.is_file() else None)
