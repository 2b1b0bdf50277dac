"""The networks as ONNX graphs for engines: one for a template, run once; one for the search region, run each frame.

    template.onnx   image (B, Ht, Wt, 3) uint8 RGB -> feature (B, Lt, C)
    search.onnx     image (B, H, W, 3) uint8 RGB, bias (1, L), position (1, L, C), feature (B, Lt, C) of each template
                    (the second one is feature_1)
                    -> pred_boxes (B, Nq, 4) cxcywh in fractions of the crop; where the network predicts a confidence
                       also pred_logits (B, Nq, 1)

`lib.utils.graph_files` makes bias and position, and saves them beside the graphs (regions.npz). The batch B is free.
Everything is fp32. `lib.models.published_graphs` writes the layout of the published graphs.
"""

import copy
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import option
from lib.models.inference import prepare_for_tracking
from lib.models.parts import Parts
from lib.utils.errors import UserError
from lib.utils.files import atomic_path, locked
from lib.utils.graph_files import VERSION, GraphFiles, joined

OPSET = 17
_WITHOUT = "the engine torch needs none"


class _Part(nn.Module):
    """One part of a network as the module that tracing wants."""

    def __init__(self, parts: Parts, name: str) -> None:
        super().__init__()
        self.parts, self.name = parts, name

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return getattr(self.parts, self.name)(*inputs)


def kept_graphs(model: nn.Module, cfg: EasyDict, root: Path) -> GraphFiles:
    """The graphs of a network, exported unless an earlier call left them.

    Args:
        model: the network with its weights; it stays as it is.
        cfg: the configuration it was built from.
        root: the graphs lie in a folder of it that carries their `fingerprint`.

    Raises:
        UserError: they cannot be written.
    """
    files = GraphFiles(root / fingerprint(model, cfg))
    return written_once(files, lambda: export_graphs(model, cfg, files), lambda: files.complete)


def written_once(files: GraphFiles, write: Callable[[], None], written: Callable[[], bool]) -> GraphFiles:
    """Files that `write` makes, unless `written` says that an earlier call left them.

    Raises:
        UserError: they cannot be written.
    """
    if not written():
        try:
            with locked(files.folder):  # of several processes that start together one exports
                if not written():
                    write()
        except OSError as error:
            reason = f"cannot write the graphs to {files.folder}: {error.strerror or error}"
            raise UserError(f"{reason}; {_WITHOUT}") from error
        except UserError as error:
            raise UserError(f"{error}; {_WITHOUT}") from error
    return files


def export_graphs(model: nn.Module, cfg: EasyDict, files: GraphFiles) -> None:
    """Write both graphs of a network, which stays as it is.

    Raises:
        UserError: a file cannot be written.
    """
    parts = Parts(plain_copy(model), cfg)
    regions = parts.regions
    crops = {name: torch.zeros(1, size, size, 3, dtype=torch.uint8) for name, size in regions.sizes.items()}
    with torch.no_grad():
        kept = parts.template(crops["template"])
    around = [regions.attention_inputs(name, None) for name in ("template",) * regions.templates + ("search",)]
    position, bias, _ = joined(around)
    arguments = {"image": crops["search"], "bias": torch.from_numpy(bias), "position": torch.from_numpy(position)}
    for i in range(regions.templates):
        arguments |= {f"{name}_{i}" if i else name: tensor for name, tensor in zip(parts.kept, kept, strict=True)}
    batched = {"image", *parts.outputs, *arguments} - {"bias", "position"}
    write_graph(
        _Part(parts, "template"), {"image": crops["template"]}, parts.kept, files.template, {"image", *parts.kept}
    )
    write_graph(_Part(parts, "search"), arguments, parts.outputs, files.search, batched)
    regions.save(files.regions)


def fingerprint(model: nn.Module, cfg: EasyDict) -> str:
    """Name of a network's graphs; it changes with the weights, the sizes and the graphs' version.

    Args:
        model: the network with its weights.
        cfg: the configuration it was built from.
    """
    digest = hashlib.sha256(f"{VERSION} {torch.__version__} ".encode())
    sizes = [cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE]
    others = [option(cfg, "TEST.WINDOW"), cfg.DATA.MEAN, cfg.DATA.STD]
    digest.update(json.dumps([type(model).__name__, cfg.MODEL, sizes, *others], sort_keys=True).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:20]


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy to trace: on the CPU, rewritten for tracking, all of it in fp32."""
    plain = prepare_for_tracking(copy.deepcopy(model).cpu())
    plain.extractor.dtype = "fp32"
    return plain.to(memory_format=torch.contiguous_format)


def write_graph(
    graph: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path, batched: Iterable[str] = ()
) -> None:
    """Trace a graph and write it, whole or not at all.

    Args:
        inputs: by name, values to trace with.
        batched: names of inputs and outputs whose first size is free.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_path(path) as temporary, warnings.catch_warnings(), torch.no_grad():
            # Tracing fixes sizes, which is what these graphs are meant for, and says so each time. The other
            # exporter of PyTorch needs one package more and ten times as long for the same graph.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                graph.eval(),
                tuple(inputs.values()),
                str(temporary),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=False,
                dynamic_axes={name: {0: "batch"} for name in batched},
            )
    except OSError as error:
        raise UserError(f"cannot write the ONNX graph {path}: {error.strerror or error}") from error
