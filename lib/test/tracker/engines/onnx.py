"""onnxruntime on exported graphs."""

import functools
from pathlib import Path
from typing import Any

from lib.test.tracker.engines.base import Part, package
from lib.utils.device import thread_count
from lib.utils.errors import UserError

onnxruntime = functools.partial(package, "onnxruntime", "the engine onnx")


def open_graph(path: Path, device: str = "cpu") -> Part:
    """A graph as a function, on the CPU with as many threads as PyTorch has, or on a CUDA device.

    Raises:
        UserError: onnxruntime or its support of the device is missing, or it cannot read the file.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.log_severity_level = 3  # errors
    # Threads that wait in a loop take the cores from those that read the next frames: half the speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    kind, _, index = device.partition(":")
    provider: Any = ("CUDAExecutionProvider", {"device_id": int(index or 0)}) if kind == "cuda" else None
    errors = runtime.capi.onnxruntime_pybind11_state
    kinds = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented RuntimeException"
    try:
        session = runtime.InferenceSession(str(path), options, providers=[provider or "CPUExecutionProvider"])
    except tuple(getattr(errors, name) for name in kinds.split()) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"onnxruntime cannot load {path}; remove it to have it made anew ({reason})") from error
    # Where a provider's libraries are missing, onnxruntime goes on without it.
    if provider and "CUDAExecutionProvider" not in session.get_providers():
        raise UserError("onnxruntime cannot use CUDA here: its CUDA or cuDNN libraries are missing; try the device cpu")
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))
