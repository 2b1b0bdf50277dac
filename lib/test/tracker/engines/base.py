"""The form that all engines have. Without PyTorch: an engine that runs exported graphs does not load it."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from lib.utils.errors import UserError
from lib.utils.graph_files import Regions

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
Part = Callable[..., list[np.ndarray]]


@dataclass(frozen=True)
class Engine:
    """Computes a network in two parts, one crop at a time; each part is a function of arrays.

    Inputs and outputs are those of the graphs (see `lib.models.export`).

    Attributes:
        name: the engine's name and precision, for people.
        template: the part that runs once for a template.
        search: the part that runs each frame; it takes the outputs of `template`, too.
        regions: of a network that finds boxes; None of one that makes masks.
    """

    name: str
    template: Part
    search: Part
    regions: Regions | None = None


def package(name: str, who: str) -> ModuleType:
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
        raise UserError(f"{who} needs the package {name}: pip install {name} ({error})") from error
