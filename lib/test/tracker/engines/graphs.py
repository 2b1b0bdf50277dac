"""The engines on exported graphs, and onnxruntime, which also runs TensorRT."""

import json
from pathlib import Path
from typing import Any

from ....utils.device import thread_count
from ....utils.errors import UserError
from ....utils.graph_files import ABOUT, REGIONS, Regions
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
    """The engine `onnx`, `openvino` or `tensorrt` for the graphs that `lib.models.export.export_graphs` writes.

    `device` is from `engine_device`; the precision `int8` needs the graph that `tracking/export.py` quantises; openvino
    also takes files of its own `suffix`. Raises UserError where a package is missing, or the graphs cannot be run.
    """
    template, search = (folder / f"{part}{suffix}" for part in ("template", "search"))
    if engine == "openvino":
        if precision == "int8":
            search = folder / f"search{openvino.INT8_SUFFIX}"
            if not search.is_file():
                origin = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["origin"]
                named = " ".join(f"--{name} {origin.get(name, name.upper())}" for name in ("script", "config"))
                command = f"python tracking/export.py {named} --format openvino --precision int8"
                raise UserError(f"{search} is missing: make it with `{command}`")
        # A template is computed once, and all boxes come of it: fp32 costs nothing there.
        precisions = ((template, "fp32"), (search, precision))
        parts = [openvino.open_graph(path, each, num_threads) for path, each in precisions]
    else:
        tensorrt = precision if engine == "tensorrt" else None
        parts = [open_graph(path, device, num_threads, tensorrt) for path in (template, search)]
    regions = folder / REGIONS
    return Engine(f"{engine} {precision}", *parts, Regions.load(regions) if regions.is_file() else None)


def open_graph(path: Path, device: str = "cpu", num_threads: int | None = None, tensorrt: str | None = None) -> Part:
    """A graph as a function of onnxruntime, on the CPU (None: with as many threads as PyTorch has), or a CUDA device.

    `tensorrt` is the precision to compute in by TensorRT (not run so far), which keeps its plans beside the graph.
    Raises UserError where onnxruntime or its support of the device is missing, or where it cannot read the file.
    """
    runtime = package("onnxruntime", "the engine onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads or thread_count()
    options.log_severity_level = 3  # errors
    # Threads that wait in a loop take the cores from those that read the next frames: half the speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    kind, _, index = device.partition(":")
    provider: tuple[str, dict[str, Any]] = ("CPUExecutionProvider", {})
    if kind == "cuda":
        provider = ("CUDAExecutionProvider", {"device_id": int(index or 0)})
    providers = [provider]
    if tensorrt:
        version = package("tensorrt", "the engine tensorrt").__version__  # loads its libraries, too
        options.add_free_dimension_override_by_name("batch", 1)  # a plan has one size
        kept = str(path.parent / f"tensorrt-{version}-{tensorrt}")
        choices = {f"trt_{half}_enable": tensorrt == half for half in ("bf16", "fp16")}
        choices |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": kept}
        providers.insert(0, ("TensorrtExecutionProvider", provider[1] | choices))
    errors = tuple(getattr(runtime.capi.onnxruntime_pybind11_state, name) for name in _ERRORS.split())
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers)
    except errors as error:
        reason = " ".join(str(error).split())
        raise UserError(f"onnxruntime cannot load {path}; remove it to have it made anew ({reason})") from error
    # Where a provider's libraries are missing, onnxruntime goes on without it.
    if missing := {name for name, _ in providers}.difference(session.get_providers()):
        lack = " and ".join(sorted(missing))
        raise UserError(f"onnxruntime has no {lack} here: install onnxruntime-gpu, and libraries of CUDA and cuDNN")
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))
