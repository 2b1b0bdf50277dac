"""The pictures that generated videos are made of: photographs of installed packages, and folders of the user's.

Nothing is downloaded. The splits share no photograph, so test sequences show material that training never showed.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from lib.data.images import IMAGE_SUFFIXES, read_image
from lib.utils.errors import UserError

Split = Literal["train", "test"]

# Split -> files in scikit-image's folder of sample pictures.
PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("astronaut.png", "coffee.png", "motorcycle_left.png", "camera.png", "brick.png"),
        *("grass.png", "ihc.png", "hubble_deep_field.jpg", "text.png", "color.png"),
    ),
    "test": (
        *("chelsea.png", "rocket.jpg", "gravel.png", "coins.png"),
        *("retina.jpg", "moon.png", "clock_motion.png"),
    ),
}
_LONGEST_SIDE = 640
# Smaller objects of photographs are not cut out: pixels a side and in all.
_LEAST_SIDE, _LEAST_AREA = 24, 1200


@dataclass(frozen=True)
class Materials:
    """Folders with pictures for crowded scenes; any of them may be empty."""

    coco: tuple[str, ...] = ()  # in COCO's layout; photographs, and objects cut out by their outlines
    clipart: tuple[str, ...] = ()  # PNG files with transparency; files of one subfolder are of one category
    photographs: tuple[str, ...] = ()  # photographs, with subfolders

    def __post_init__(self) -> None:
        for folder in (*self.coco, *self.clipart, *self.photographs):
            if not Path(folder).is_dir():
                raise UserError(f"embedded data: folder {folder} is missing: correct the path")


@dataclass(frozen=True)
class Outlined:
    """An object in a photograph: the file, polygons in pixels, box xywh, category number."""

    path: str
    polygons: tuple[tuple[float, ...], ...]
    box: tuple[float, float, float, float]
    category: int

    def mask(self, height: int, width: int) -> np.ndarray:
        """Opacity (height, width) uint8 of the object in its photograph."""
        mask = np.zeros((height, width), np.uint8)
        for polygon in self.polygons:
            points = np.round(np.array(polygon).reshape(-1, 2) * 16).astype(np.int32)
            cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
        return mask


@lru_cache(maxsize=4)
def load_photographs(split: Split, materials: Materials | None = None) -> tuple[np.ndarray, ...]:
    """The photographs of a split and of `materials`, each (H, W, 3) uint8 RGB, read-only, at most 640 pixels a side.

    Raises:
        UserError: scikit-image is missing or incomplete.
    """
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("embedded data: photographs of scikit-image are missing: pip install scikit-image")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    paths = [folder / name for name in PHOTOGRAPHS[split]]
    for path in paths:
        if not path.is_file():
            raise UserError(f"embedded data: {path} is missing: pip install --force-reinstall scikit-image")
    if materials is not None:
        folders = [*map(Path, materials.photographs), *map(_coco_images, materials.coco)]
        paths += sorted(path for place in folders for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return tuple(_load(path) for path in paths)


@lru_cache(maxsize=2)
def outlined_objects(materials: Materials) -> dict[int, list[Outlined]]:
    """Category -> objects that can be cut out of COCO's photographs: single, exactly outlined, large enough.

    Raises:
        UserError: an annotation file is missing or malformed.
    """
    found = defaultdict(list)
    for folder in materials.coco:
        path = Path(folder) / "annotations" / "instances_train2017.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names = {image["id"]: image["file_name"] for image in content["images"]}
            for entry in filter(_can_be_cut, content["annotations"]):
                polygons = tuple(tuple(polygon) for polygon in entry["segmentation"])
                file = str(_coco_images(folder) / names[entry["image_id"]])
                category = entry["category_id"]
                found[category].append(Outlined(file, polygons, tuple(entry["bbox"]), category))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a COCO annotation file: {error!r}") from error
    return dict(found)


@lru_cache(maxsize=2)
def clipart_files(materials: Materials) -> dict[int, list[str]]:
    """Category number -> paths of clip-art; each folder with PNG files is a category."""
    folders = defaultdict(list)
    for folder in materials.clipart:
        for path in sorted(Path(folder).rglob("*.png")):
            folders[path.parent].append(str(path))
    return dict(enumerate(folders.values()))


def _load(path: Path) -> np.ndarray:
    image = read_image(path)
    scale = _LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image.setflags(write=False)
    return image


def _coco_images(folder: str) -> Path:
    whole = Path(folder) / "images" / "train2017"
    return whole if whole.is_dir() else Path(folder) / "train2017"


def _can_be_cut(entry: dict) -> bool:
    """`exact_mask` false says that the outline is only the box."""
    _, _, width, height = entry["bbox"]
    outlined = not entry.get("iscrowd") and entry.get("exact_mask", True) and isinstance(entry["segmentation"], list)
    return outlined and min(width, height) >= _LEAST_SIDE and width * height >= _LEAST_AREA
