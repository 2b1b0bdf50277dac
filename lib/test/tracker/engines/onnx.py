"""onnxruntime on exported graphs."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.test.tracker.engines.base import Context, Engine
from lib.utils.device import thread_count
from lib.utils.errors import UserError
from lib.utils.graph_files import GraphFiles, Regions

if TYPE_CHECKING:
    import torch


class OnnxEngine(Engine):
    """onnxruntime on the graphs of `lib.models.export`, with as many threads as PyTorch has.

    Args:
        graphs: the exported network.
        regions: of the network.
        device: the CPU (None, too) or a CUDA device.

    Raises:
        UserError: onnxruntime is missing, does not support the device, or cannot read a graph.
    """

    def __init__(self, graphs: GraphFiles, regions: Regions, device: "torch.device | None" = None) -> None:
        super().__init__(regions)
        self.name = "onnx fp32"
        self._template_graph, self._search_graph = (
            open_graph(graphs.template, device),
            open_graph(graphs.search, device),
        )
        self._inputs = [each.name for each in self._search_graph.get_inputs()]

    def _template(self, crop: np.ndarray) -> tuple[Any, ...]:
        return tuple(self._template_graph.run(None, {"image": crop[None]}))

    def _search(self, crop: np.ndarray, context: Context, kept: list[Any]) -> list[np.ndarray]:
        return self._search_graph.run(None, dict(zip(self._inputs, graph_inputs(crop, context, kept), strict=True)))


def graph_inputs(crop: np.ndarray, context: Context, kept: list[Any]) -> list[Any]:
    """What a search graph takes, in order."""
    position = [] if context.position is None else [context.position]
    return [crop[None], context.bias, *position, *kept]


def open_graph(path: Path, device: "torch.device | None") -> Any:
    """A graph in onnxruntime, ready to run.

    Raises:
        UserError: the package or its support of the device is missing, or the file is none of its graphs.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.log_severity_level = 3  # errors
    # Threads that wait in a loop take the cores from those that read the next frames: half the speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider: Any = "CPUExecutionProvider"
    if device is not None and device.type == "cuda":
        provider = ("CUDAExecutionProvider", {"device_id": device.index or 0})
    errors = runtime.capi.onnxruntime_pybind11_state
    try:
        session = runtime.InferenceSession(str(path), options, providers=[provider])
    except (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NoSuchFile,
        errors.NotImplemented,
        errors.RuntimeException,
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"onnxruntime cannot load {path}; remove it to have it made anew ({reason})") from error
    # Where a provider's libraries are missing, onnxruntime goes on without it.
    if device is not None and device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise UserError("onnxruntime cannot use CUDA here: its CUDA or cuDNN libraries are missing; try the device cpu")
    return session


def onnxruntime() -> ModuleType:
    """The package, which only this engine needs.

    Raises:
        UserError: it is not installed.
    """
    return package("onnxruntime", "the engine onnx")


def package(name: str, who: str, hint: str = "") -> ModuleType:
    """A package that only some users need.

    onnxruntime, OpenVINO and NNCF report over the network that and how they are used, unless they are kept from it.

    Raises:
        UserError: it is not installed; the message says how to get it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # without it, which they allow for, the other two are silent
    try:
        return importlib.import_module(name)
    except ImportError as error:
        install = hint or f"pip install {name}"
        raise UserError(f"{who} needs the package {name}: {install} ({error})") from error
