"""OpenVINO on exported graphs: fp32, bf16 where the processor multiplies it, and int8 after calibration."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ....utils.device import thread_count
from ....utils.errors import UserError
from ....utils.files import atomic_path
from . import Part, package

# OpenVINO's own files of a graph, beside the ONNX ones.
SUFFIX, INT8_SUFFIX = ".xml", ".int8.xml"
openvino = functools.partial(package, "openvino", "the engine openvino")


def open_graph(path: Path, precision: str = "fp32", num_threads: int | None = None) -> Part:
    """A graph (ONNX or OpenVINO's own format) as a function, on the CPU; None: with as many threads as PyTorch has.

    What is not quantised of an `int8` graph runs in bf16 where that is fast; in `bf16`, `first_layers` are fp32 all the
    same. Raises UserError where OpenVINO is missing, cannot read the file, or does not compute in that precision here.
    """
    # Some processors have no bf16 beside quantised layers.
    for hint in (hint_of(precision), "f32") if precision == "int8" else (hint_of(precision),):
        try:
            model, threads = read_model(path), num_threads or thread_count()
            model.reshape({each: [1, *each.partial_shape[1:]] for each in model.inputs})
            first, rest = _cut(model) if hint == "bf16" else (None, model)
            first = first if first is None else compiled(first, "f32", threads)
            request = compiled(rest, hint, threads)
            break
        except RuntimeError as error:
            reason = error
    else:
        raise _unusable(path, reason) from reason

    def graph(*inputs: np.ndarray) -> list[np.ndarray]:
        image, *others = inputs
        if first is not None:
            first.infer([image], share_inputs=True)
            image = first.get_output_tensor(0)
        return [np.array(found) for found in request.infer([image, *others], share_inputs=True).values()]

    return graph


def compiled(model: Any, hint: str, threads: int) -> Any:
    """An infer request of a model that computes in a precision of `hint_of`."""
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # pinned, the threads of two processes would share one core
    }
    return core().compile_model(model, "CPU", options).create_infer_request()


def hint_of(precision: str) -> str:
    """OpenVINO's name of the precision to compute in."""
    has_bf16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not has_bf16:  # OpenVINO would compute in fp32 without a word
        raise UserError("OpenVINO does not compute in bf16 on this processor: choose the precision fp32 or int8")
    return "bf16" if has_bf16 and precision != "fp32" else "f32"


def first_layers(model: Any) -> list[Any]:
    """The first three convolutions of a network that begins with a plain, a depthwise and a plain one; else nothing.

    Backbones for small processors do. Depthwise kernels that look for edges add up to almost nothing; in bf16 or int8
    their rounding is larger than their sum. Computed in fp32, they halve the difference of all boxes to fp32.
    """
    convolutions = [each for each in model.get_ordered_ops() if "Convolution" in each.get_type_name()][:3]
    kinds = [each.get_type_name() for each in convolutions]
    return convolutions if kinds == ["Convolution", "GroupConvolution", "Convolution"] else []


def _cut(model: Any) -> tuple[Any | None, Any]:
    """Cut a graph behind `first_layers`: OpenVINO knows one precision a model. All is behind if they are missing.

    Quantised ones are not cut off, either.
    """
    found = first_layers(model)
    if not found or any(each.input_value(0).get_node().get_type_name() == "FakeQuantize" for each in found):
        return None, model
    operations = openvino().opset13
    users = [each.get_node() for each in found[-1].output(0).get_target_inputs()]
    border = next(each.output(0) for each in users if each.get_type_name() == "Add")  # its bias
    users = list(border.get_target_inputs())
    # Passed on as bf16 in the order (1, H, W, C) that convolutions have it in, so that nothing is copied.
    result = operations.convert(operations.transpose(border, [0, 2, 3, 1]), "bf16")
    passed = operations.parameter(result.get_output_partial_shape(0), openvino().Type.bf16)
    feature = operations.transpose(operations.convert(passed, "f32"), [0, 3, 1, 2])
    for user in users:
        user.replace_source_output(feature.output(0))
    image, *others = model.get_parameters()
    return openvino().Model([result], [image]), openvino().Model(model.get_results(), [passed, *others])


def read_model(path: Path) -> Any:
    """An `openvino.Model` from a file (ONNX or OpenVINO's own format); raises UserError where it cannot be read."""
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: RuntimeError) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(f"OpenVINO cannot load {path}; remove it to have it made anew ({reason})")


def save_model(model: Any, path: Path) -> None:
    """Write a model in OpenVINO's format, `.xml` with `.bin` beside it; the `.xml` is there only when both are whole.

    Raises UserError where a file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".openvino") as folder:
            made = Path(folder) / path.name
            openvino().save_model(model, made, compress_to_fp16=False)
            for suffix in (".bin", ".xml"):
                with atomic_path(path.with_suffix(suffix)) as temporary:
                    made.with_suffix(suffix).replace(temporary)
    except (OSError, RuntimeError) as error:  # OpenVINO's own errors do not say why
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', 0) or 'the disk may be full'}") from error


@functools.cache
def core() -> Any:
    """OpenVINO's entry point, the same for the whole process, with what computes on the CPU loaded.

    The CPU part installs an alternate signal stack in the thread that loads it, and removes one from the thread that
    drops it. If these were two threads, the next signal (such as Ctrl-C) would be a segmentation fault.
    """
    kept = openvino().Core()
    kept.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return kept
