"""COCO 2017 (Lin et al., ECCV 2014): every object of a photograph is a sequence of one frame.

annotations/instances_train2017.json
images/train2017/000000000009.jpg, …      or train2017/…
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lib.data.cache import cached_arrays
from lib.data.dataset import MaskedDataset, SequenceInfo, StoredDataset
from lib.data.storage import Storage
from lib.utils.errors import UserError

ANNOTATIONS = "annotations/instances_train2017.json"
_IMAGE_FOLDERS = ("images/train2017", "train2017")
# Pixels: of what is smaller, an outline tells little more than a box.
_LEAST_OUTLINED_SIDE = 16


class Coco(StoredDataset):
    """Objects of COCO's training photographs; crowds and boxes without an area are left out.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: where the files lie.

    Raises:
        UserError: the annotation or the images are missing, or the annotation is malformed.
    """

    is_video = False
    outlined = False  # whether only objects with an outline are taken

    def __init__(self, name: str, storage: Storage) -> None:
        self.name = name
        self.storage = storage
        folders = [folder for folder in _IMAGE_FOLDERS if storage.exists(folder)]
        if not folders:
            raise UserError(f"{name}: no images in {storage.locate(_IMAGE_FOLDERS[0])}: put COCO's train2017 there")
        self._folder = folders[0]
        # Arrays, not objects: there are 850,000 boxes, and every worker has its copy.
        self._found = cached_arrays(
            storage, name, ANNOTATIONS, lambda: self._arrays(_read_annotations(storage, self.outlined))
        )
        self._files, self._image, self._boxes = (self._found[key] for key in ("files", "images", "boxes"))
        if not len(self._boxes):
            what = f"outlines of at least {_LEAST_OUTLINED_SIDE} pixels a side" if self.outlined else "boxes"
            raise UserError(f"{name}: {storage.locate(ANNOTATIONS)} has no {what}")

    def _arrays(self, found: "_Annotations") -> dict[str, np.ndarray]:
        """`files`: names of the images; for each object the index (M,) int32 of its image in `images`, and in `boxes`
        its box (M, 4) float32 xywh.
        """
        index = {image.id: number for number, image in enumerate(found.images)}
        return {
            "files": np.array([image.file_name for image in found.images], str),
            "images": np.array([index[entry.image_id] for entry in found.objects], dtype=np.int32),
            "boxes": np.array([entry.box for entry in found.objects], dtype=np.float32).reshape(-1, 4),
        }

    def __len__(self) -> int:
        return len(self._boxes)

    def info(self, sequence: int) -> SequenceInfo:
        return SequenceInfo(self._boxes[sequence : sequence + 1], np.ones(1, dtype=bool), np.ones(1, dtype=bool))

    def files(self) -> Iterator[str]:
        yield ANNOTATIONS
        yield from (f"{self._folder}/{file}" for file in self._files)

    def frame_path(self, sequence: int, frame: int) -> str:
        if frame != 0:
            raise IndexError(f"frame {frame} of a photograph")
        return f"{self._folder}/{self._files[self._image[sequence]]}"


class CocoMasks(Coco, MaskedDataset):
    """Objects that are outlined by polygons, and not too small; arguments and errors as of `Coco`.

    Entries that say `exact_mask: false` have their box in place of an outline, and are left out.
    """

    outlined = True

    def _arrays(self, found: "_Annotations") -> dict[str, np.ndarray]:
        """As of `Coco`, with sizes of images and outlines.

        All numbers of outlines are in one array: polygon p is numbers[ends[p] : ends[p + 1]], object i has polygons
        from last[i] on.
        """
        polygons = [polygon for entry in found.objects for polygon in entry.outline]
        return super()._arrays(found) | {
            "sizes": np.array([image.size for image in found.images], dtype=np.int32),
            "numbers": np.concatenate([np.zeros(0, np.float32), *polygons]),
            "ends": np.cumsum([0, *map(len, polygons)]),
            "last": np.cumsum([0, *(len(entry.outline) for entry in found.objects)]),
        }

    def mask(self, sequence: int, frame: int) -> np.ndarray:
        from pycocotools import mask as outlines  # which nothing else needs

        sizes, numbers, ends, last = (self._found[key] for key in ("sizes", "numbers", "ends", "last"))
        height, width = sizes[self._image[sequence]].tolist()
        polygons = [numbers[ends[p] : ends[p + 1]].tolist() for p in range(last[sequence], last[sequence + 1])]
        return outlines.decode(outlines.merge(outlines.frPyObjects(polygons, height, width))).astype(bool)


@dataclass(frozen=True)
class _Image:
    """An entry of "images"; the size is height and width."""

    id: int
    file_name: str
    size: tuple[int, int]


@dataclass(frozen=True)
class _Object:
    """An entry of "annotations"; the box is xywh in pixels, from the top-left corner, the outline x, y, x, y, …"""

    image_id: int
    crowd: bool
    box: tuple[float, ...]
    outline: tuple[np.ndarray, ...]

    @property
    def usable(self) -> bool:
        """Whether it is one object with an area."""
        return not self.crowd and self.box[2] > 0 and self.box[3] > 0


@dataclass(frozen=True)
class _Annotations:
    """The annotation file: its images, and the objects that can be trained on."""

    images: list[_Image]
    objects: list[_Object]


def _read_annotations(storage: Storage, outlined: bool) -> _Annotations:
    """Read the annotation file.

    Args:
        storage: of the data set.
        outlined: keep outlines, and only objects that have one.
    """
    data = storage.read_bytes(ANNOTATIONS)
    try:
        # Entries are cut down as they are read: whole, with their outlines, they need several gigabytes.
        content = json.loads(data, object_hook=partial(_slim, outlined))
        images = [entry for entry in content["images"] if isinstance(entry, _Image)]
        objects = [entry for entry in content["annotations"] if isinstance(entry, _Object) and entry.usable]
        known = {image.id for image in images}
        if len(known) < len(images):
            counts = Counter(image.id for image in images)
            twice, _ = counts.most_common(1)[0]
            names = [image.file_name for image in images if image.id == twice]
            raise ValueError(f"image id {twice} stands for {names[0]} and {names[1]}; give each image an id of its own")
        unknown = [entry.image_id for entry in objects if entry.image_id not in known]
        if unknown:
            raise KeyError(unknown[0])
    except KeyError as error:
        raise UserError(f"{storage.locate(ANNOTATIONS)}: {error.args[0]!r} is missing") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{storage.locate(ANNOTATIONS)} is not a COCO annotation file: {error}") from error
    if outlined:
        objects = [entry for entry in objects if entry.outline and min(entry.box[2:]) >= _LEAST_OUTLINED_SIDE]
    return _Annotations(images, objects)


def _slim(outlined: bool, entry: dict) -> object:
    """Called by the JSON reader with each object of the file; what it returns takes the object's place."""
    if "file_name" in entry:
        size = (entry["height"], entry["width"]) if outlined else (0, 0)
        return _Image(entry["id"], entry["file_name"], size)
    if "bbox" not in entry:
        return entry
    box = tuple(entry["bbox"])
    if len(box) != 4 or not all(isinstance(value, int | float) and math.isfinite(value) for value in box):
        raise ValueError(f"the bbox {list(box)} of annotation {entry.get('id')} is not x, y, width, height")
    outline = _outline(entry) if outlined else ()
    return _Object(entry["image_id"], bool(entry.get("iscrowd", 0)), box, outline)


def _outline(entry: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """The polygons of an annotation that have a shape; none where it has but its box, or a crowd's mask."""
    polygons = entry.get("segmentation", [])
    if not isinstance(polygons, list) or not entry.get("exact_mask", True):
        return ()
    arrays = [np.array(polygon, dtype=np.float32) for polygon in polygons]
    for array in arrays:
        if array.ndim != 1 or len(array) % 2 or not np.isfinite(array).all():
            raise ValueError(f"the segmentation of annotation {entry.get('id')} is not polygons of x, y, x, y, …")
    return tuple(array for array in arrays if len(array) >= 6)
