"""The networks as ONNX graphs: one for a template, run once; one for the search region, run each frame.

Engines of trackers run these. The batch B is free; `lib.utils.graph_files` makes bias and position (regions.npz):

    template.onnx   image (B, Ht, Wt, 3) uint8 RGB -> feature (B, Lt, C)
    search.onnx     image (B, H, W, 3) uint8 RGB, bias (1, L), position (1, L, C), feature (B, Lt, C) of each template
                    (the second one is feature_1)
                    -> pred_boxes (B, Nq, 4) cxcywh in fractions of the crop, and pred_logits (B, Nq, 1) where the
                       network predicts a confidence, else corner_peak (B, Nq, 1), how high the corners' maps are

model.json and each graph's metadata describe all of this to other programs (docs/deploy.md). Those of Alpha-Refine
make masks, and have no regions.npz:

    template.onnx   image (B, S, S, 3) uint8 RGB, box (B, 4), xywh in pixels of the crop -> kernels (B, 144, C)
    search.onnx     image (B, S, S, 3) uint8 RGB, kernels (B, 144, C) -> mask (B, S, S), probabilities

The published layout, which is STARK-Lightning's, takes one normalised crop at a time and its mask:

    backbone_bottleneck_pe.onnx   img_z (1, 3, Ht, Wt), mask_z (1, Ht, Wt) bool, True on padding
                                  -> feat (Lt, 1, C), mask (1, Lt) bool, pos (Lt, 1, C)
    complete.onnx                 img_x (1, 3, H, W), mask_x (1, H, W) bool, and of each template
                                  feat_vec_z, mask_vec_z, pos_vec_z (the second one's end in 1)
                                  -> outputs_coord (1, Nq, 4) cxcywh in fractions of the crop;
                                     with a confidence also pred_logits (1, Nq, 1)
"""

import copy
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from .. import __version__
from ..utils.crop import STRETCH
from ..utils.errors import UserError
from ..utils.files import atomic_path, write_text
from ..utils.graph_files import ABOUT, REGIONS, SEARCH, TEMPLATE, VERSION, joined
from ..utils.tensors import NestedTensor
from .alpha_refine import AlphaRefine
from .inference import OnCrops, Parts, output_names, prepare_for_tracking
from .stark import Tokens

OPSET = 17
MEANINGS = {
    "image": "pixels of a crop",
    "bias": "added to the logits of attention, of templates and search region: -inf on padding, else 0",
    "position": "positions of the same tokens; regions.npz has those without padding",
    "feature": "what template.onnx gives of a template; feature_1 of the second one",
    "pred_boxes": "cx, cy, w, h in fractions of the search crop; several are averaged",
    "pred_logits": "confidence before the sigmoid",
    "corner_peak": "mean of the corner maps' highest probabilities: compares frames, is no probability",
    "box": "x, y, w, h in pixels of the crop",
    "kernels": "what template.onnx gives of the object",
    "mask": "probability of each pixel of the crop",
}
# The published layout's files, and the outputs of its template graph.
TEMPLATE_FILE, SEARCH_FILE = "backbone_bottleneck_pe.onnx", "complete.onnx"
TEMPLATE_OUTPUTS = ("feat", "mask", "pos")


class Traced(nn.Module):
    """A method of a module as a module of its own, as tracing and counting want it."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...] | Tensor:
        return getattr(self.module, self.method)(*inputs)


def export_graphs(
    model: nn.Module, cfg: EasyDict, folder: Path, origin: Mapping[str, str] | None = None, half: bool = False
) -> None:
    """Write both graphs of a network for engines, and of a STARK network its regions; the network stays as it is.

    `origin` has names and digests that say where the weights come from, for model.json. `half` keeps the weights in
    fp16, which halves the files; they are computed with in fp32. A UserError where a file cannot be written.
    """
    sizes = cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE
    template, search = ({"image": torch.zeros(1, size, size, 3, dtype=torch.uint8)} for size in sizes)
    if isinstance(model, AlphaRefine):
        parts = MaskParts(copy.deepcopy(model).cpu(), cfg).to(memory_format=torch.contiguous_format)
        template["box"] = torch.tensor([[0.25, 0.25, 0.5, 0.5]]) * sizes[0]
        kept, outputs = ["kernels"], ["mask"]
    else:
        parts = Parts(_plain_copy(model), cfg)
        regions, outputs = parts.regions, parts.outputs
        inputs = [regions.attention_inputs(name, None) for name in ("template",) * regions.templates + ("search",)]
        position, bias = joined(inputs)
        search |= {"bias": torch.from_numpy(bias), "position": torch.from_numpy(position)}
        kept = ["feature", *(f"feature_{i}" for i in range(1, regions.templates))]
        regions.save(folder / REGIONS)
    with torch.no_grad():
        search |= dict.fromkeys(kept, parts.template(*template.values())[0])
        found = dict(zip(outputs, parts.search(*search.values()), strict=True))
    made, graphs = {kept[0]: search[kept[0]]}, {}
    batched = {*template, *search, *outputs} - {"bias", "position"}
    for name, part, inputs, given in ((TEMPLATE, "template", template, made), (SEARCH, "search", search, found)):
        write_graph(Traced(parts, part), inputs, list(given), folder / name, batched & {*inputs, *given})
        graphs[name] = {"inputs": _fields(inputs, batched), "outputs": _fields(given, batched)}
    about = _description(cfg) | {"origin": dict(origin or {}), "graphs": graphs}
    for name, described in graphs.items():
        _annotate(folder / name, about | described, half)
    write_text(folder / ABOUT, json.dumps(about, indent=2) + "\n")


def _description(cfg: EasyDict) -> dict[str, Any]:
    """What another program has to know to track with the graphs."""
    return {
        "version": __version__,
        "graphs_version": VERSION,
        "pixels": {
            "order": "RGB, uint8, height x width x 3; the first step of both graphs is (x / 255 - mean) / std",
            "mean": list(cfg.DATA.MEAN),
            "std": list(cfg.DATA.STD),
        },
        # A crop is a square about the box's centre, of side ceil(factor * sqrt(w * h)), resized to `size`.
        **{
            name.lower(): {"size": cfg.DATA[name].SIZE, "factor": cfg.TEST.get(f"{name}_FACTOR", STRETCH)}
            for name in ("TEMPLATE", "SEARCH")
        },
        "templates": cfg.DATA.TEMPLATE.get("NUMBER", 1),
        "box": "cx, cy, w, h in fractions of the search crop",
    }


def _fields(tensors: Mapping[str, Tensor], batched: Iterable[str]) -> list[dict[str, Any]]:
    """Inputs or outputs of a graph, by examples."""
    return [
        {
            "name": name,
            "shape": [*(["batch"] if name in batched else [tensor.shape[0]]), *tensor.shape[1:]],
            "type": str(tensor.dtype).removeprefix("torch."),
            "meaning": MEANINGS["feature" if name.startswith("feature") else name],
        }
        for name, tensor in tensors.items()
    ]


def _annotate(path: Path, about: Mapping[str, Any], half: bool) -> None:
    """Write `about` into a graph's metadata; `half` keeps large weights in fp16, each with a node back to fp32."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    onnx.helper.set_model_props(model, {"stark": json.dumps(about)})
    for index, tensor in enumerate(list(graph.initializer) if half else ()):
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size > 256:
            kept = onnx.numpy_helper.from_array(array.astype(np.float16), f"{tensor.name}.fp16")
            graph.node.insert(0, onnx.helper.make_node("Cast", [kept.name], [tensor.name], to=onnx.TensorProto.FLOAT))
            graph.initializer[index].CopyFrom(kept)
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


class MaskParts(OnCrops):
    """Alpha-Refine in two parts; the model, with its weights, is rewritten for tracking."""

    def __init__(self, model: AlphaRefine, cfg: EasyDict) -> None:
        super().__init__(cfg)
        self.model = prepare_for_tracking(model)

    def template(self, crops: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        """Crops and the object's boxes (B, 4), xywh in their pixels, to kernels (B, 144, C)."""
        return (self.model.encode_reference(self.normalised(crops), boxes).float(),)

    def search(self, crops: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        """Crops to the probability that a pixel is the object's, (B, S, S)."""
        return (self.model.segment(kernels, self.normalised(crops))[:, 0].float().sigmoid(),)


class PublishedParts(nn.Module):
    """The parts of a network in the published layout."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.outputs = model, [name for name in output_names(model) if name != "corner_peak"]

    def template(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crop (1, 3, Ht, Wt) and mask (1, Ht, Wt) to features (Lt, 1, C), padding (1, Lt), positions (Lt, 1, C)."""
        tokens = self.model.encode_template(NestedTensor(image, mask))
        return tokens.feature.transpose(0, 1), tokens.padding, tokens.position.transpose(0, 1)

    def search(self, image: Tensor, mask: Tensor, *templates: Tensor) -> tuple[Tensor, ...]:
        """Crop (1, 3, H, W), mask (1, H, W) and the outputs of `template` for each template to boxes (1, Nq, 4).

        Where the network predicts a confidence, also its logits (1, Nq, 1).
        """
        parts = [templates[i : i + 3] for i in range(0, len(templates), 3)]
        regions = [Tokens(f.transpose(0, 1), p.transpose(0, 1), padding) for f, padding, p in parts]
        output = self.model.predict(regions, self.model.encode_search(NestedTensor(image, mask)))
        return tuple(output[name] for name in self.outputs)


def export_published(part: str, model: nn.Module, cfg: EasyDict, path: Path) -> None:
    """Write the `template` or the `search` graph of a network in the published layout; else as `export_graphs`."""
    parts = PublishedParts(_plain_copy(model))
    crop, search_crop = (
        (torch.zeros(1, 3, size, size), torch.zeros(1, size, size, dtype=torch.bool))
        for size in (cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE)
    )
    names, values, outputs = ["img_z", "mask_z"], crop, TEMPLATE_OUTPUTS
    if part == "search":
        ends = ["", *(str(i) for i in range(1, model.template_count))]
        names = ["img_x", "mask_x", *(f"{name}_vec_z{end}" for end in ends for name in TEMPLATE_OUTPUTS)]
        with torch.no_grad():
            values = (*search_crop, *parts.template(*crop) * model.template_count)
        outputs = ["outputs_coord", *parts.outputs[1:]]
    write_graph(Traced(parts, part), dict(zip(names, values, strict=True)), outputs, path)


def _plain_copy(model: nn.Module) -> nn.Module:
    """A copy to trace: on the CPU, rewritten for tracking, all of it in fp32."""
    plain = prepare_for_tracking(copy.deepcopy(model).cpu())
    plain.extractor.dtype = "fp32"
    return plain.to(memory_format=torch.contiguous_format)


def write_graph(
    graph: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path, batched: Iterable[str] = ()
) -> None:
    """Trace a graph with example inputs and write it, whole or not at all.

    The first size of the inputs and outputs named by `batched` is free. Raises UserError where the file cannot be
    written.
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
