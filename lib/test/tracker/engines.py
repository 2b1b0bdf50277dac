"""What a tracker computes the network with: PyTorch, or onnxruntime on exported graphs.

A new engine is a class with the attributes and methods of `Engine`, and a line in `ENGINES` and `create_engine`.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.export import TEMPLATE_OUTPUTS, OnnxGraphs, kept_graphs, search_inputs
from lib.models.inference import prepare_for_tracking
from lib.utils.device import select_device
from lib.utils.errors import UserError
from lib.utils.tensors import NestedTensor

ENGINES = ("torch", "onnx")


class Engine(Protocol):
    """Runs one network, a crop at a time.

    Attributes:
        device: where the crops given to it lie.
        stride: pixels of a crop per cell of its features.
    """

    device: torch.device
    stride: int

    def encode_template(self, region: NestedTensor) -> Any:
        """What `search` needs of a template crop (1, 3, Ht, Wt); of what kind is the engine's own affair."""

    def search(self, templates: Sequence[Any], region: NestedTensor) -> dict[str, Tensor]:
        """Find the object in a crop (1, 3, H, W), given what `encode_template` made of its templates.

        Returns:
            `pred_boxes` (1, Nq, 4), cxcywh in fractions of the crop; where there is a confidence `pred_logits`
            (1, Nq, 1), before the sigmoid.
        """


class TorchEngine:
    """PyTorch.

    Args:
        model: a network with its weights; it is rewritten for tracking and moved to `device`.
        device: where it runs.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = prepare_for_tracking(model).to(device, memory_format=torch.channels_last)
        self.device, self.stride = device, model.extractor.stride

    @torch.inference_mode()
    def encode_template(self, region: NestedTensor) -> Any:
        """See `Engine.encode_template`; here it gives `lib.models.stark.Tokens`."""
        return self.model.encode_template(region)

    @torch.inference_mode()
    def search(self, templates: Sequence[Any], region: NestedTensor) -> dict[str, Tensor]:
        """See `Engine.search`."""
        return self.model.relate(templates, self.model.encode_search(region))


class OnnxEngine:
    """onnxruntime on the graphs of `lib.models.export`, with as many threads as PyTorch has.

    Args:
        graphs: the exported network.
        stride: of the network's features.
        device: the CPU or a CUDA device, for the graphs; the crops lie on the CPU.

    Raises:
        UserError: onnxruntime is missing, does not support the device, or cannot read a graph.
    """

    def __init__(self, graphs: OnnxGraphs, stride: int, device: torch.device) -> None:
        self.device, self.stride = torch.device("cpu"), stride
        self.inputs = search_inputs(graphs.templates)
        self._template = open_graph(graphs.template, device)
        self._search = open_graph(graphs.search, device)
        self.outputs = [output.name for output in self._search.get_outputs()]

    def encode_template(self, region: NestedTensor) -> list[np.ndarray]:
        """See `Engine.encode_template`; here it gives the template graph's outputs."""
        image, mask = graph_arrays(region)
        return self._template.run(list(TEMPLATE_OUTPUTS), {"img_z": image, "mask_z": mask})

    def search(self, templates: Sequence[list[np.ndarray]], region: NestedTensor) -> dict[str, Tensor]:
        """See `Engine.search`."""
        arrays = [*graph_arrays(region), *(array for template in templates for array in template)]
        found = self._search.run(None, dict(zip(self.inputs, arrays, strict=True)))
        # Networks without a score have one output.
        return {
            name: torch.from_numpy(array) for name, array in zip(("pred_boxes", "pred_logits"), found, strict=False)
        }


def engine_device(engine: str, device: str) -> torch.device:
    """The device that an engine runs on by the name of `select_device`.

    Raises:
        UserError: the engine's package is missing, or it cannot use the device.
    """
    if engine == "torch":
        return select_device(device)
    on_cuda = "CUDAExecutionProvider" in _onnxruntime().get_available_providers()
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


def create_engine(engine: str, model: nn.Module, cfg: EasyDict, device: torch.device, graphs_dir: Path) -> Engine:
    """The engine of a name for a network.

    Args:
        engine: one of `ENGINES`.
        model: the network with its weights; the engine may keep it and change its form.
        cfg: the configuration it was built from.
        device: from `engine_device`.
        graphs_dir: where exported graphs are kept; those of other weights are never taken.

    Raises:
        UserError: the graphs cannot be written, or not be run.
    """
    if engine == "torch":
        return TorchEngine(model, device)
    return OnnxEngine(kept_graphs(model, cfg, graphs_dir), model.extractor.stride, device)


def open_graph(path: Path, device: torch.device) -> Any:
    """An exported graph as an onnxruntime session, which takes and gives arrays on the CPU.

    Raises:
        UserError: onnxruntime is missing, cannot read the file, or cannot use the device.
    """
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    # Threads that wait in a loop take the cores from those that read the next frames: half the speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider: Any = "CPUExecutionProvider"
    if device.type == "cuda":
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
    if device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise UserError("onnxruntime cannot use CUDA here: its CUDA or cuDNN libraries are missing; try the device cpu")
    return session


def graph_arrays(region: NestedTensor) -> tuple[np.ndarray, np.ndarray]:
    """A crop (1, 3, H, W) and its mask (1, H, W) as the graphs take them."""
    image = np.ascontiguousarray(region.tensors.cpu().numpy())
    if region.mask is None:
        return image, np.zeros((len(image), *image.shape[2:]), dtype=bool)
    return image, region.mask.cpu().numpy()


def _onnxruntime() -> ModuleType:
    """The package, which only this engine needs."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"the engine onnx needs the package onnxruntime: pip install onnxruntime ({error})") from error
    return onnxruntime
