"""Pictures from folders of the user's: what crowded scenes are made of beside the packages' photographs."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from lib.data.images import IMAGE_SUFFIXES, read_image
from lib.utils.errors import UserError

_LONGEST_SIDE = 640
# An object cut out of a photograph has at least so many pixels a side and in all.
_LEAST_SIDE, _LEAST_AREA = 24, 1200


@dataclass(frozen=True)
class Materials:
    """Where crowded scenes take their pictures from; a field that is empty is done without.

    Attributes:
        coco: folders in COCO's layout; photographs, and objects cut out by their outlines.
        clipart: folders of PNG files with transparency; those of one subfolder are of a kind.
        photographs: folders of photographs, with subfolders.
    """

    coco: tuple[str, ...] = ()
    clipart: tuple[str, ...] = ()
    photographs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for folder in (*self.coco, *self.clipart, *self.photographs):
            if not Path(folder).is_dir():
                raise UserError(f"embedded data: there is no folder {folder}")


@dataclass(frozen=True)
class Outlined:
    """An object of a photograph: the file, its outline (polygons in pixels), what it is."""

    path: str
    polygons: tuple[tuple[float, ...], ...]
    box: tuple[float, float, float, float]
    category: int


@lru_cache(maxsize=2)
def load_pictures(materials: Materials) -> tuple[np.ndarray, ...]:
    """All photographs, each (H, W, 3) uint8 RGB with a longest side of at most 640; do not write to them."""
    pictures = []
    for path in sorted(_photograph_files(materials)):
        image = read_image(path)
        scale = _LONGEST_SIDE / max(image.shape[:2])
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        image.setflags(write=False)
        pictures.append(image)
    return tuple(pictures)


@lru_cache(maxsize=2)
def outlined_objects(materials: Materials) -> tuple[Outlined, ...]:
    """The objects that can be cut out of COCO's photographs: not crowds, outlined exactly, not too small.

    Raises:
        UserError: an annotation file is missing or malformed.
    """
    found = []
    for folder in materials.coco:
        images, path = _coco_folder(folder), Path(folder) / "annotations" / "instances_train2017.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names = {image["id"]: image["file_name"] for image in content["images"]}
            for entry in content["annotations"]:
                if _can_be_cut(entry):
                    polygons = tuple(tuple(polygon) for polygon in entry["segmentation"])
                    file = str(images / names[entry["image_id"]])
                    found.append(Outlined(file, polygons, tuple(entry["bbox"]), entry["category_id"]))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a COCO annotation file: {error!r}") from error
    return tuple(found)


@lru_cache(maxsize=2)
def clipart_files(materials: Materials) -> tuple[tuple[str, ...], ...]:
    """Paths of the clip-art, kind by kind."""
    kinds = defaultdict(list)
    for folder in materials.clipart:
        for path in sorted(Path(folder).rglob("*.png")):
            kinds[path.parent].append(str(path))
    return tuple(tuple(kind) for kind in kinds.values())


def _photograph_files(materials: Materials) -> Sequence[Path]:
    folders = [*map(Path, materials.photographs), *map(_coco_folder, materials.coco)]
    return [path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]


def _coco_folder(folder: str) -> Path:
    """Where a COCO folder has its photographs."""
    whole = Path(folder) / "images" / "train2017"
    return whole if whole.is_dir() else Path(folder) / "train2017"


def _can_be_cut(entry: dict) -> bool:
    """Whether an annotation outlines one object; `exact_mask` false says that its outline is but its box."""
    _, _, width, height = entry["bbox"]
    outlined = not entry.get("iscrowd") and entry.get("exact_mask", True) and isinstance(entry["segmentation"], list)
    return outlined and min(width, height) >= _LEAST_SIDE and width * height >= _LEAST_AREA
