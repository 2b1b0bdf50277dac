"""Files of an exported network, and the inputs of its attention that follow from the padding of a crop.

Apart from the networks, so that exported graphs run without PyTorch, which takes half a gigabyte of memory.
"""

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import UserError
from .files import atomic_path

# Raise it when inputs, outputs or arithmetic of the exported graphs change: graphs of other versions are not used.
VERSION = 3
TEMPLATE, SEARCH, REGIONS, ABOUT = "template.onnx", "search.onnx", "regions.npz", "model.json"


@dataclass(frozen=True)
class Regions:
    """Sizes of a network's regions, and their positions."""

    sizes: Mapping[str, int]  # sides in pixels of the crops, of a `template` and the `search` region
    stride: int  # pixels of a crop per cell of its feature
    templates: int  # how many the network takes
    positions: Mapping[str, np.ndarray]  # (1, L, C) float32 of each region without padding
    sine: bool  # positions are counted over what is not padded (see `sine_position`), and do not stay as they are
    outputs: Sequence[str]  # of the search graph, in order: `pred_boxes`, and a confidence (see `lib.models.export`)

    def attention_inputs(self, region: str, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Position (1, L, C) and bias (1, L) of a region's tokens, float32; the mask is (H, W) bool, True on padding.

        The bias is added to the logits of attention: minus infinity on padding, else 0.
        """
        cells, position = self.sizes[region] // self.stride, self.positions[region]
        if mask is None or not mask.any():
            return position, np.zeros((1, cells**2), np.float32)
        padding = mask[:: self.stride, :: self.stride]  # by nearest neighbour
        if self.sine:
            position = sine_position(~padding, position.shape[2])[None]
        return position, np.where(padding.reshape(1, -1), np.float32(-np.inf), np.float32(0))

    def save(self, path: Path) -> None:
        """Write it to an `.npz` file."""
        about = {name: value for name, value in vars(self).items() if name != "positions"}
        with atomic_path(path) as temporary:
            np.savez(temporary, about=json.dumps(about), **self.positions)

    @classmethod
    def load(cls, path: Path) -> "Regions":
        """Read a file of `save`; raises UserError where it is missing or damaged."""
        try:
            with np.load(path) as file:
                about = json.loads(str(file["about"]))
                positions = {name: file[name] for name in file.files if name != "about"}
            return cls(positions=positions, **about)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (zipfile.BadZipFile, EOFError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged; remove it to have it made anew") from error


def joined(regions: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Position (1, L, C) and bias (1, L) of templates and search region, one behind the other."""
    positions, biases = zip(*regions, strict=True)
    return np.concatenate(positions, axis=1), np.concatenate(biases, axis=1)


def sine_position(inside: np.ndarray, dim: int) -> np.ndarray:
    """`lib.models.transformer.PositionEmbeddingSine`, (h * w, dim) float32, for cells (h, w) bool without padding."""
    half = dim // 2
    wavelengths = (10000.0 ** (2 * (np.arange(half) // 2) / half)).astype(np.float32)
    axes = []
    for axis in (0, 1):
        count = inside.cumsum(axis, dtype=np.float32)
        last = count[-1:] if axis == 0 else count[:, -1:]
        angle = (count / (last + np.float32(1e-6)) * np.float32(2 * math.pi))[..., None] / wavelengths
        axes.append(np.stack((np.sin(angle[..., 0::2]), np.cos(angle[..., 1::2])), axis=-1).reshape(*count.shape, half))
    return np.concatenate(axes, axis=-1).reshape(-1, dim)
