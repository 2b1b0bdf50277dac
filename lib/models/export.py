"""The networks as ONNX graphs: one for a template, run once; one for the search region, run each frame.

The names of files, inputs and outputs, and the shapes, are those of the published STARK-Lightning graphs; the
other variants follow them. A graph takes one crop at a time, in fp32:

    backbone_bottleneck_pe.onnx   img_z (1, 3, Ht, Wt), mask_z (1, Ht, Wt) bool, True on padding
                                  -> feat (Lt, 1, C), mask (1, Lt) bool, pos (Lt, 1, C)
    complete.onnx                 img_x (1, 3, H, W), mask_x (1, H, W) bool, and of each template
                                  feat_vec_z, mask_vec_z, pos_vec_z (the second one's end in 1)
                                  -> outputs_coord (1, Nq, 4) cxcywh in fractions of the crop;
                                     where there is a confidence also pred_logits (1, Nq, 1)
"""

import copy
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import option
from lib.models.heads import CenterPredictor
from lib.models.inference import prepare_for_tracking
from lib.models.stark import STARKST, Tokens
from lib.utils.errors import UserError
from lib.utils.files import atomic_path
from lib.utils.tensors import NestedTensor

TEMPLATE_FILE = "backbone_bottleneck_pe.onnx"
SEARCH_FILE = "complete.onnx"
TEMPLATE_OUTPUTS = ("feat", "mask", "pos")
OPSET = 17


@dataclass(frozen=True)
class OnnxGraphs:
    """The two files of one network.

    Attributes:
        template: turns a template crop into tokens.
        search: finds the box in a search crop, given the templates' tokens.
        templates: how many templates the search graph takes.
    """

    template: Path
    search: Path
    templates: int


class TemplateGraph(nn.Module):
    """Backbone, bottleneck and position encoding of a template."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crop (1, 3, Ht, Wt) and mask (1, Ht, Wt) to features (Lt, 1, C), padding (1, Lt), positions (Lt, 1, C)."""
        tokens = _with_position(self.model.encode_template(NestedTensor(image, mask)))
        return tokens.feature.transpose(0, 1), tokens.padding, tokens.position.transpose(0, 1)


class SearchGraph(nn.Module):
    """The whole network but for the templates' backbone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, mask: Tensor, *templates: Tensor) -> tuple[Tensor, ...]:
        """Crop (1, 3, H, W), mask (1, H, W) and what `TemplateGraph` gave of each template to boxes (1, Nq, 4).

        Where there is a confidence, also its logits (1, Nq, 1).
        """
        parts = [templates[i : i + 3] for i in range(0, len(templates), 3)]
        regions = [Tokens(f.transpose(0, 1), p.transpose(0, 1), padding) for f, padding, p in parts]
        search = _with_position(self.model.encode_search(NestedTensor(image, mask)))
        out = self.model.relate(regions, search)
        return tuple(out[name] for name in ("pred_boxes", "pred_logits") if name in out)


def template_count(model: nn.Module) -> int:
    """How many templates a network takes."""
    return 2 if isinstance(model, STARKST) else 1


def search_inputs(templates: int) -> list[str]:
    """The names of the search graph's inputs, in order."""
    ends = ["", *(str(i) for i in range(1, templates))]
    return ["img_x", "mask_x", *(f"{name}_vec_z{end}" for end in ends for name in TEMPLATE_OUTPUTS)]


def search_outputs(model: nn.Module) -> list[str]:
    """The names of the search graph's outputs, in order."""
    scores = isinstance(model, STARKST) or isinstance(model.box_head, CenterPredictor)
    return ["outputs_coord", "pred_logits"] if scores else ["outputs_coord"]


def fingerprint(model: nn.Module, cfg: EasyDict) -> str:
    """Names the graphs of a network: another one as soon as its weights, its sizes or this code change."""
    digest = hashlib.sha256(f"{torch.__version__} {OPSET} ".encode())
    sizes = [cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE]
    window = option(cfg, "TEST.WINDOW")
    digest.update(json.dumps([type(model).__name__, cfg.MODEL, sizes, window], sort_keys=True).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:20]


def graphs_in(folder: Path, model: nn.Module) -> OnnxGraphs:
    """Where the graphs of a network lie in a folder, written or not."""
    return OnnxGraphs(folder / TEMPLATE_FILE, folder / SEARCH_FILE, template_count(model))


def kept_graphs(model: nn.Module, cfg: EasyDict, root: Path) -> OnnxGraphs:
    """The graphs of a network, exported unless an earlier call left them.

    Args:
        model: the network with its weights; it stays as it is.
        cfg: the configuration it was built from.
        root: the graphs lie in a folder of it that carries their `fingerprint`.

    Raises:
        UserError: they cannot be written.
    """
    graphs = graphs_in(root / fingerprint(model, cfg), model)
    if not graphs.template.is_file():
        export_template(model, cfg, graphs.template)
    if not graphs.search.is_file():
        export_search(model, cfg, graphs.search)
    return graphs


def export_template(model: nn.Module, cfg: EasyDict, path: Path) -> None:
    """Write the template graph of a network, which stays as it is.

    Raises:
        UserError: the file cannot be written.
    """
    crop = _blank(cfg.DATA.TEMPLATE.SIZE)
    _export(TemplateGraph(_plain(model)), crop, ["img_z", "mask_z"], TEMPLATE_OUTPUTS, path)


def export_search(model: nn.Module, cfg: EasyDict, path: Path) -> None:
    """Write the search graph of a network, which stays as it is.

    Raises:
        UserError: the file cannot be written.
    """
    plain = _plain(model)
    with torch.no_grad():
        template = TemplateGraph(plain)(*_blank(cfg.DATA.TEMPLATE.SIZE))
    arguments = (*_blank(cfg.DATA.SEARCH.SIZE), *template * template_count(model))
    _export(SearchGraph(plain), arguments, search_inputs(template_count(model)), search_outputs(model), path)


def _plain(model: nn.Module) -> nn.Module:
    """A copy to trace: on the CPU, rewritten for tracking, all of it in fp32."""
    plain = prepare_for_tracking(copy.deepcopy(model).cpu())
    plain.extractor.dtype = "fp32"
    return plain.to(memory_format=torch.contiguous_format)


def _blank(size: int) -> tuple[Tensor, Tensor]:
    """A crop and a mask in which nothing is padded."""
    return torch.zeros(1, 3, size, size), torch.zeros(1, size, size, dtype=torch.bool)


def _with_position(tokens: Tokens) -> Tokens:
    """A graph's inputs and outputs are fixed: without position encoding the positions are zeros."""
    return tokens if tokens.position is not None else replace(tokens, position=torch.zeros_like(tokens.feature))


def _export(
    graph: nn.Module, arguments: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str], path: Path
) -> None:
    """Trace a graph and write it, whole or not at all."""
    try:
        with atomic_path(path) as temporary, warnings.catch_warnings(), torch.no_grad():
            # Tracing fixes every size, which is what these graphs are meant for, and says so each time. The other
            # exporter of PyTorch needs one package more and ten times as long for the same graph.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                graph.eval(),
                arguments,
                str(temporary),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=False,
            )
    except OSError as error:
        raise UserError(f"cannot write the ONNX graph {path}: {error.strerror or error}") from error
