"""Alpha-Refine cut where tracking cuts it, and written as ONNX graphs for engines.

    template.onnx   image (B, S, S, 3) uint8 RGB, box (B, 4), xywh in pixels of the crop -> kernels (B, 144, C)
    search.onnx     image (B, S, S, 3) uint8 RGB, kernels (B, 144, C) -> mask (B, S, S), probabilities

The first is run once for an object, the second each frame. The batch B is free, and everything is fp32.
"""

import copy
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.alpha_refine import AlphaRefine, prepare_for_masks
from lib.models.export import fingerprint, write_graph, written_once
from lib.utils.graph_files import GraphFiles


class MaskParts(nn.Module):
    """The network in two parts, on crops as they are cut out of a frame: normalising them is the first step.

    Args:
        model: with its weights; it is rewritten for tracking.
        cfg: the configuration it was built from.
    """

    def __init__(self, model: AlphaRefine, cfg: EasyDict) -> None:
        super().__init__()
        self.model = prepare_for_masks(model, cfg.DATA.SEARCH.SIZE)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def template(self, crops: Tensor, boxes: Tensor) -> Tensor:
        """Crops (B, S, S, 3) uint8 and the object's boxes (B, 4), xywh in their pixels, to kernels (B, 144, C)."""
        return self.model.encode_reference(self._pixels(crops), boxes).float()

    def search(self, crops: Tensor, kernels: Tensor) -> Tensor:
        """Crops (B, S, S, 3) uint8 to how likely each pixel is the object's, (B, S, S)."""
        return self.model.segment(kernels, self._pixels(crops))[:, 0].float().sigmoid()

    def _pixels(self, crops: Tensor) -> Tensor:
        return crops.permute(0, 3, 1, 2).float() * self.scale + self.shift


class _Part(nn.Module):
    """One part as the module that tracing wants."""

    def __init__(self, parts: MaskParts, name: str) -> None:
        super().__init__()
        self.parts, self.name = parts, name

    def forward(self, *inputs: Tensor) -> Tensor:
        return getattr(self.parts, self.name)(*inputs)


def kept_mask_graphs(model: AlphaRefine, cfg: EasyDict, root: Path) -> GraphFiles:
    """The graphs of a network, exported unless an earlier call left them; arguments as of `export.kept_graphs`.

    Raises:
        UserError: they cannot be written.
    """
    files = mask_graphs_in(model, cfg, root)
    return written_once(
        files,
        lambda: export_mask_graphs(model, cfg, files),
        lambda: files.template.is_file() and files.search.is_file(),
    )


def mask_graphs_in(model: AlphaRefine, cfg: EasyDict, root: Path) -> GraphFiles:
    """Where the graphs of a network lie in a folder, written or not."""
    return GraphFiles(root / fingerprint(model, cfg))


def export_mask_graphs(model: AlphaRefine, cfg: EasyDict, files: GraphFiles) -> None:
    """Write both graphs of a network, which stays as it is.

    Raises:
        UserError: a file cannot be written.
    """
    parts = MaskParts(copy.deepcopy(model).cpu(), cfg).to(memory_format=torch.contiguous_format)
    size = cfg.DATA.TEMPLATE.SIZE
    shown = {"image": _blank(size), "box": torch.tensor([[size / 4, size / 4, size / 2, size / 2]])}
    with torch.no_grad():
        kernels = parts.template(*shown.values())
    write_graph(_Part(parts, "template"), shown, ["kernels"], files.template, {*shown, "kernels"})
    given = {"image": _blank(cfg.DATA.SEARCH.SIZE), "kernels": kernels}
    write_graph(_Part(parts, "search"), given, ["mask"], files.search, {*given, "mask"})


def _blank(size: int) -> Tensor:
    return torch.zeros(1, size, size, 3, dtype=torch.uint8)
