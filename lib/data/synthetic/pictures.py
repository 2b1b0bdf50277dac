"""Pictures that generated videos are made of: photographs, outlined objects, clip-art and painted patterns.

Nothing is downloaded: photographs are those of scikit-image and of the user. The splits share no photograph, so test
sequences show material that training never showed. Images are (H, W, 3) uint8 RGB, palettes (N, 3) float RGB in
0..255, fields (H, W) float32 in 0..1.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator

from ...utils.errors import UserError
from ...utils.files import read_text
from ..images import IMAGE_SUFFIXES, read_image

Split = Literal["train", "test"]

# Split -> files in scikit-image's folder of sample pictures.
PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("astronaut.png", "coffee.png", "motorcycle_left.png", "camera.png", "brick.png"),
        *("grass.png", "ihc.png", "hubble_deep_field.jpg", "text.png", "color.png"),
    ),
    "test": ("chelsea.png", "rocket.jpg", "gravel.png", "coins.png", "retina.jpg", "moon.png", "clock_motion.png"),
}
_LONGEST_SIDE = 640  # pixels; larger photographs are shrunk
_LEAST_SIDE, _LEAST_AREA = 24, 1200  # pixels; smaller objects are not cut out
_LEAST_CONTRAST = 16.0  # standard deviation of grey values; a flatter piece of a photograph is drawn again

Cutout = Callable[[], tuple[np.ndarray, np.ndarray]]  # reads the colours (H, W, 3) and the opacity (H, W) of an object


@dataclass(frozen=True)
class Materials:
    """Folders with pictures for crowded scenes; each may be empty."""

    coco: tuple[str, ...] = ()  # COCO's layout: photographs, and objects cut out by their outlines
    clipart: tuple[str, ...] = ()  # PNG files with transparency; each subfolder is a category
    photographs: tuple[str, ...] = ()  # photographs, with subfolders

    def __post_init__(self) -> None:
        for folder in (*self.coco, *self.clipart, *self.photographs):
            if not Path(folder).is_dir():
                raise UserError(f"embedded data: folder {folder} is missing: correct the path")


def load_photographs(split: Split, materials: Materials = Materials()) -> list[np.ndarray]:
    """The photographs of a split and of `materials`, at most 640 pixels a side; a UserError without scikit-image."""
    spec = find_spec("skimage")
    folder = Path(spec.submodule_search_locations[0] if spec else "") / "data"
    paths = [folder / name for name in PHOTOGRAPHS[split]]
    if not all(path.is_file() for path in paths):
        raise UserError("embedded data: photographs are missing: pip install --force-reinstall scikit-image")
    folders = [*map(Path, materials.photographs), *map(_coco_images, materials.coco)]
    paths += sorted(path for place in folders for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return [shrunk(read_image(path), _LONGEST_SIDE) for path in paths]


def shrunk(image: np.ndarray, longest: int) -> np.ndarray:
    """The image (H, W) or (H, W, 3), shrunk where a side is longer than `longest` pixels."""
    scale = longest / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def find_cutouts(materials: Materials) -> dict[str, dict[int, list[Cutout]]]:
    """Kind (`object` of COCO, `clipart`) -> group (COCO's category, folder of clip-art) -> pictures.

    COCO's objects are taken where they are single, exactly outlined and not too small. Kinds without any are left out.
    """
    objects, clipart = defaultdict(list), defaultdict(list)
    for folder in materials.coco:
        path = Path(folder) / "annotations/instances_train2017.json"
        try:
            content = json.loads(read_text(path))
            names = {image["id"]: image["file_name"] for image in content["images"]}
            for entry in filter(_can_be_cut, content["annotations"]):
                file = _coco_images(folder) / names[entry["image_id"]]
                objects[entry["category_id"]].append(partial(_read_outlined, file, entry["segmentation"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {path} as a COCO annotation file: {error!r}") from error
    for folder in materials.clipart:
        for path in sorted(Path(folder).rglob("*.png")):
            clipart[path.parent].append(partial(_read_clipart, path))
    found = {"object": dict(objects), "clipart": dict(enumerate(clipart.values()))}
    return {kind: groups for kind, groups in found.items() if groups}


def _coco_images(folder: str) -> Path:
    inner = Path(folder) / "images" / "train2017"
    return inner if inner.is_dir() else Path(folder) / "train2017"


def _can_be_cut(entry: dict) -> bool:
    """Whether an annotation of COCO outlines one object that is large enough; `exact_mask` false: only by its box."""
    _, _, width, height = entry["bbox"]
    outlined = not entry.get("iscrowd") and entry.get("exact_mask", True) and isinstance(entry["segmentation"], list)
    return outlined and min(width, height) >= _LEAST_SIDE and width * height >= _LEAST_AREA


def _read_outlined(path: Path, polygons: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photograph around an object, and its opacity there; polygons are x, y, x, y, … in pixels."""
    image = read_image(path)
    mask = filled(*image.shape[:2], *(np.array(polygon).reshape(-1, 2) for polygon in polygons))
    x, y, width, height = solid_box(mask)
    part = slice(max(y - 2, 0), y + height + 3), slice(max(x - 2, 0), x + width + 3)
    return image[part], mask[part]


def _read_clipart(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colours and opacity; one transparent pixel where the file has no 8-bit transparency."""
    rgba = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if rgba is None or rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
        return np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8)
    return cv2.cvtColor(rgba[..., :3], cv2.COLOR_BGR2RGB), np.ascontiguousarray(rgba[..., 3])


def filled(height: int, width: int, *polygons: np.ndarray) -> np.ndarray:
    """Mask (height, width) uint8 of polygons (N, 2), xy in pixels: 255 inside, with smooth edges."""
    mask = np.zeros((height, width), np.uint8)
    for points in polygons:
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def solid_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """xywh in pixels of all that has an opacity of half or more; zeros where nothing has."""
    return cv2.boundingRect((mask >= 128).astype(np.uint8))


def photograph_piece(
    rng: Generator, photographs: Sequence[np.ndarray], height: int, width: int, magnify: tuple[float, float]
) -> np.ndarray:
    """A random piece of a random photograph, turned; `magnify` is a range of output pixels per photograph pixel."""
    piece = np.zeros((height, width, 3), np.uint8)
    for _ in range(4):
        photograph = photographs[rng.integers(len(photographs))]
        scale = rng.uniform(*magnify)
        if scale < 1:
            photograph = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            scale = 1.0
        rows, columns = photograph.shape[:2]
        centre = (columns * rng.uniform(0.2, 0.8), rows * rng.uniform(0.2, 0.8))
        matrix = cv2.getRotationMatrix2D(centre, rng.normal(0, 12), scale)
        matrix[:, 2] += (width / 2 - centre[0], height / 2 - centre[1])
        piece = cv2.warpAffine(photograph, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        if cv2.meanStdDev(cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY))[1].item() > _LEAST_CONTRAST:
            break
    return piece


def random_material(rng: Generator, photographs: Sequence[np.ndarray]) -> Callable[[Generator, int, int], np.ndarray]:
    """A function (rng, height, width) -> image of one random material: a pattern, or pieces of photographs."""
    # Colours of similar hue, spread over lightness so that a pattern of them is visible.
    count = int(rng.integers(2, 5))
    hue = (rng.uniform(0, 180) + rng.normal(0, 45, count)) % 180
    saturation = 255 * rng.beta(1.4, 2.0, count)
    value = rng.permutation(np.linspace(rng.uniform(30, 110), rng.uniform(190, 255), count))
    hsv = np.stack((hue, saturation, value), axis=-1).astype(np.uint8)[None]
    palette = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.float64)
    pattern, kind = _PATTERNS[rng.integers(len(_PATTERNS))], rng.random()

    def material(rng: Generator, height: int, width: int) -> np.ndarray:
        if kind < 0.5:
            return pattern(rng, height, width, palette)
        piece = photograph_piece(rng, photographs, height, width, (0.35, 1.1))
        if kind < 0.75:
            return piece
        # Grey values become colours of the palette, dark by dark.
        grey = cv2.equalizeHist(cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY)).astype(np.float32) / 255
        return cv2.addWeighted(_colour_ramp(grey, palette[np.argsort(palette.sum(axis=1))]), 0.85, piece, 0.15, 0)

    return material


def shift_hue(image: np.ndarray, degrees: float, saturation: float = 1.0, value: float = 1.0) -> np.ndarray:
    """Turn the hue of an image by `degrees` and scale its saturation and value."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    ramp = np.arange(256, dtype=np.float64)
    tables = np.stack(((ramp + degrees / 2) % 180, ramp * saturation, ramp * value), axis=-1)
    hsv = cv2.LUT(hsv, np.clip(tables, 0, 255).astype(np.uint8)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _colour_ramp(field: np.ndarray, palette: np.ndarray) -> np.ndarray:
    knots = np.linspace(0, 255, len(palette))
    table = np.stack([np.interp(np.arange(256), knots, palette[:, channel]) for channel in range(3)], axis=-1)
    index = cv2.convertScaleAbs(field, alpha=255)
    return cv2.LUT(cv2.merge((index, index, index)), table.astype(np.uint8)[None])


def _value_noise(rng: Generator, height: int, width: int, cell: float, octaves: int) -> np.ndarray:
    """Smooth random field whose largest features are about `cell` pixels, stretched to 0..1."""
    field = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.random((int(height / step) + 3, int(width / step) + 3), dtype=np.float32)
        field += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return cv2.normalize(field, None, 0.0, 1.0, cv2.NORM_MINMAX)


def _clouds(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Soft random patches."""
    return _colour_ramp(_value_noise(rng, height, width, max(height, width) * rng.uniform(0.1, 0.4), 4), palette)


def _waves(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Stripes or a checkerboard, turned and warped by noise; soft or hard edges."""
    side = max(height, width)
    warp = side * rng.uniform(0, 0.3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    shift_u, shift_v = (warp * (_value_noise(rng, height, width, side / 3, 1) - 0.5) for _ in range(2))
    u, v = cos * x + sin * y + shift_u, cos * y - sin * x + shift_v
    wave = np.sin(u * np.float32(np.pi * rng.uniform(3, 14) / side)) * np.float32(rng.choice((0.5, 3.0)))
    if rng.random() < 0.5:
        wave *= 2 * np.sin(v * np.float32(np.pi * rng.uniform(2, 8) / side))
    return _colour_ramp(np.clip(0.5 + 0.5 * wave, 0, 1), palette)


def _cells(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Voronoi cells in mixtures of the palette, with darker borders."""
    seeds = np.full((height, width), 255, np.uint8)
    count = int(rng.integers(12, 60))
    seeds[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    weights = rng.dirichlet(np.full(len(palette), 0.4), int(labels.max()) + 1)
    image = (weights @ palette).astype(np.uint8)[labels]
    shade = 1.0 - rng.uniform(0, 0.6) * cv2.normalize(distance, None, 0.0, 1.0, cv2.NORM_MINMAX)
    return cv2.multiply(image, cv2.merge((shade, shade, shade)), dtype=cv2.CV_8U)


_PATTERNS = (_clouds, _waves, _cells)  # functions (rng, height, width, palette) -> image
