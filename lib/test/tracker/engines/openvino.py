"""OpenVINO on exported graphs: fp32, bf16 where the processor multiplies it, and int8 after calibration."""

import contextlib
import ctypes
import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lib.test.tracker.engines.base import Context, Engine
from lib.test.tracker.engines.onnx import graph_inputs, package
from lib.test.tracker.engines.openvino_cut import cut, pad_less
from lib.utils.device import thread_count
from lib.utils.errors import UserError
from lib.utils.files import atomic_path
from lib.utils.graph_files import GraphFiles, Regions

# OpenVINO's own files of a graph, beside the ONNX ones.
SUFFIX, INT8_SUFFIX = ".xml", ".int8.xml"
_LIBRARY = ctypes.CDLL(None) if os.name == "posix" else None
# C's `fenv_t` has 8 bytes on some processors and 32 on others.
_BYTES = 256
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine(Engine):
    """OpenVINO on the graphs of `lib.models.export`, on the CPU, with as many threads as PyTorch has.

    Args:
        graphs: the exported network; for `int8` calibrated (see `lib.test.tracker.quantise`).
        regions: of the network.
        precision: `fp32`, `bf16` or `int8`. What is not quantised of an int8 network runs in bf16 where that is fast.
            Templates, and first layers that `lib.test.tracker.engines.openvino_cut` names, are fp32 all the same.
        suffix: of the files, where they are not the ONNX graphs, or for `int8` the calibrated ones.

    Raises:
        UserError: OpenVINO is missing, cannot read a graph, or does not compute in that precision here.
    """

    def __init__(self, graphs: GraphFiles, regions: Regions, precision: str = "fp32", suffix: str = "") -> None:
        super().__init__(regions)
        self.name = f"openvino {precision}"
        hint = hint_of(precision)
        suffix = suffix or (INT8_SUFFIX if precision == "int8" else ".onnx")
        if precision == "int8":
            require_int8(graphs.made_of("search", suffix))
        # A template is computed once, and all boxes come of it: fp32 costs nothing there.
        self._template_graph = OpenVinoGraph(graphs.made_of("template", suffix), "f32")
        self._search_graph = OpenVinoGraph(graphs.made_of("search", suffix), hint)

    def _template(self, crop: np.ndarray) -> tuple[Any, ...]:
        return tuple(self._template_graph([crop[None]]))

    def _search(self, crop: np.ndarray, context: Context, kept: list[Any]) -> list[np.ndarray]:
        return self._search_graph(graph_inputs(crop, context, kept))


class OpenVinoGraph:
    """A graph (ONNX or OpenVINO's own format) for one crop at a time.

    Numbers too small for fp32 are 0 in it: attention that is sure of itself makes many, each slow to compute with.
    OpenVINO asks that of the threads that it computes with, this one being among them; outside, it stays as it was.

    Args:
        path: the graph's file.
        hint: OpenVINO's name of the precision to compute in: `f32` or `bf16`, which first layers may be kept from
            (see `lib.test.tracker.engines.openvino_cut`).

    Raises:
        UserError: OpenVINO is missing, or cannot read the file.
    """

    def __init__(self, path: Path, hint: str) -> None:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": thread_count(),
            # Pinned, the threads of two processes would share one core.
            "ENABLE_CPU_PINNING": False,
            "CPU_DENORMALS_OPTIMIZATION": _has_environment(),
        }
        model = read_model(path)
        try:
            model.reshape({each: [1, *each.partial_shape[1:]] for each in model.inputs})
            pad_less(model)
            first, model = (cut(model) if hint == "bf16" else None) or (None, model)
            with _environment_restored():
                self._request = core().compile_model(model, "CPU", options).create_infer_request()
                if first is not None:
                    options["INFERENCE_PRECISION_HINT"] = "f32"
                    first = core().compile_model(first, "CPU", options).create_infer_request()
                self._first = first
                self._environment = _environment()
        except RuntimeError as error:
            raise _unusable(path, error) from error

    def __call__(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """The graph's outputs, in their order."""
        with _environment_restored():
            _set_environment(self._environment)
            if self._first is not None:
                self._first.infer(inputs[:1], share_inputs=True)
                inputs = [self._first.get_output_tensor(0), *inputs[1:]]
            found = self._request.infer(inputs, share_inputs=True)
        return [np.array(array) for array in found.values()]


def hint_of(precision: str) -> str:
    """OpenVINO's name of what computes a precision; what is not quantised of int8 runs in bf16 where that is fast.

    Raises:
        UserError: OpenVINO is missing, or the processor does not compute in that precision.
    """
    has_bf16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not has_bf16:  # OpenVINO would compute in fp32 without a word
        raise UserError("OpenVINO does not compute in bf16 on this processor: choose the precision fp32 or int8")
    return "bf16" if precision == "int8" and has_bf16 else _HINTS[precision]


def require_int8(path: Path) -> None:
    """The file of a quantised graph must exist: an engine does not calibrate.

    Raises:
        UserError: it is missing; the message has the command that makes it.
    """
    if not path.is_file():
        script, config = path.parts[-4:-2]  # …/onnx/<script>/<config>/<hash>/<file>
        command = f"python tracking/export.py --script {script} --config {config} --format openvino --precision int8"
        raise UserError(f"{path} is missing: make it with `{command}`")


def read_model(path: Path) -> Any:
    """An `openvino.Model` from a file (ONNX or OpenVINO's own format).

    Raises:
        UserError: OpenVINO is missing, or cannot read the file.
    """
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: RuntimeError) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(f"OpenVINO cannot load {path}; remove it to have it made anew ({reason})")


def save_model(model: Any, path: Path) -> None:
    """Write a model in OpenVINO's format, `.xml` with `.bin` beside it; the `.xml` is there only when both are whole.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=path.parent, prefix=".openvino") as folder,
            atomic_path(path) as description,
        ):
            made = Path(folder) / path.name
            try:
                openvino().save_model(model, made, compress_to_fp16=False)
            except RuntimeError as error:  # which says of no file why
                raise UserError(f"OpenVINO cannot write {path}: the disk may be full") from error
            with atomic_path(path.with_suffix(".bin")) as weights:
                made.with_suffix(".bin").replace(weights)
            made.replace(description)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def openvino() -> ModuleType:
    """The package, which only this engine needs.

    Raises:
        UserError: it is not installed.
    """
    return package("openvino", "the engine openvino")


@functools.cache
def core() -> Any:
    """OpenVINO's entry point, the same for the whole process, with what computes on the CPU loaded.

    That gives the thread that loads it a stack for signals, and takes a stack away from the thread that drops it. Were
    these two threads, the next signal that Python handles, as that of Ctrl-C, would be a segmentation fault.

    Raises:
        UserError: OpenVINO is missing.
    """
    kept = openvino().Core()
    kept.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return kept


def _has_environment() -> bool:
    """False where the system has no functions for the floating-point environment: those below then do nothing."""
    return hasattr(_LIBRARY, "fegetenv") and hasattr(_LIBRARY, "fesetenv")


def _environment() -> ctypes.Array:
    """The floating-point environment of this thread: rounding, and the treatment of numbers that are nearly 0."""
    found = ctypes.create_string_buffer(_BYTES)
    if _has_environment():
        _LIBRARY.fegetenv(found)
    return found


def _set_environment(wanted: ctypes.Array) -> None:
    """Give this thread an environment of `_environment`."""
    if _has_environment():
        _LIBRARY.fesetenv(wanted)


@contextlib.contextmanager
def _environment_restored() -> Iterator[None]:
    """Restore the environment after the body."""
    before = _environment()
    try:
        yield
    finally:
        _set_environment(before)
