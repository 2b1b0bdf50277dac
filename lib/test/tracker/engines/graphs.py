"""The engines on exported graphs, and the smallest of them, onnxruntime."""

from pathlib import Path
from typing import Any

from ....utils.device import thread_count
from ....utils.errors import UserError
from ....utils.graph_files import REGIONS, Regions
from . import Engine, Part, openvino, package

_ERRORS = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented RuntimeException"


def graph_engine(
    engine: str,
    folder: Path,
    device: str = "cpu",
    precision: str = "fp32",
    suffix: str = ".onnx",
    num_threads: int | None = None,
) -> Engine:
    """The engine `onnx`, `openvino` or `tensorrt` for the graphs of a network.

    Args:
        folder: as `lib.models.export.export_graphs` writes it.
        device: from `engine_device`.
        precision: one that the engine knows. `int8` needs the graph that `tracking/export.py` quantises.
        suffix: of the files; openvino also takes graphs in its own format.
        num_threads: on the CPU; None: `lib.utils.device.thread_count`.

    Raises:
        UserError: a package is missing, or the graphs cannot be run.
    """
    template, search = (folder / f"{part}{suffix}" for part in ("template", "search"))
    if engine == "onnx":
        parts = [open_graph(path, device, num_threads) for path in (template, search)]
    elif engine == "openvino":
        if precision == "int8":
            search = openvino.require_int8(folder / f"search{openvino.INT8_SUFFIX}")
        # A template is computed once, and all boxes come of it: fp32 costs nothing there.
        parts = [openvino.open_graph(template, "fp32", num_threads)]
        parts.append(openvino.open_graph(search, precision, num_threads))
    else:
        from . import tensorrt

        parts = [tensorrt.open_graph(path, folder, device, precision) for path in (template, search)]
    regions = folder / REGIONS
    return Engine(f"{engine} {precision}", *parts, Regions.load(regions) if regions.is_file() else None)


def open_graph(path: Path, device: str = "cpu", num_threads: int | None = None) -> Part:
    """A graph as a function of onnxruntime, on the CPU (None: with as many threads as PyTorch has), or a CUDA device.

    Raises UserError where onnxruntime or its support of the device is missing, or where it cannot read the file.
    """
    runtime = package("onnxruntime", "the engine onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads or thread_count()
    options.log_severity_level = 3  # errors
    # Threads that wait in a loop take the cores from those that read the next frames: half the speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    kind, _, index = device.partition(":")
    provider: Any = ("CUDAExecutionProvider", {"device_id": int(index or 0)}) if kind == "cuda" else None
    errors = tuple(getattr(runtime.capi.onnxruntime_pybind11_state, name) for name in _ERRORS.split())
    try:
        session = runtime.InferenceSession(str(path), options, providers=[provider or "CPUExecutionProvider"])
    except errors as error:
        reason = " ".join(str(error).split())
        raise UserError(f"onnxruntime cannot load {path}; remove it to have it made anew ({reason})") from error
    # Where a provider's libraries are missing, onnxruntime goes on without it.
    if provider and "CUDAExecutionProvider" not in session.get_providers():
        raise UserError("onnxruntime cannot use CUDA here: its CUDA or cuDNN libraries are missing; try the device cpu")
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))
