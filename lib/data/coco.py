"""COCO 2017 (Lin et al., ECCV 2014): every object of a photograph is a sequence of one frame.

annotations/instances_train2017.json
images/train2017/000000000009.jpg, …      or train2017/…

Tools export the same with other names, see `_LAYOUTS`.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from functools import partial

import numpy as np

from ..utils.errors import UserError
from .dataset import MaskedDataset, SequenceInfo, TrackingDataset
from .storage import Arrays, Storage

_ROBOFLOW = "_annotations.coco.json"
_SPLITS = ("train", "valid", "test")
# Annotations, and the folder of their images; the first layout that exists is read.
_LAYOUTS = (
    ("annotations/instances_train2017.json", "images/train2017/"),
    ("annotations/instances_train2017.json", "train2017/"),
    ("annotations/instances_default.json", "images/default/"),  # CVAT
    ("annotations/instances_default.json", "images/"),
    *((f"{split}/{_ROBOFLOW}", f"{split}/") for split in _SPLITS),
    (_ROBOFLOW, ""),  # one split of Roboflow's
)
# Pixels: of what is smaller, an outline tells little more than a box.
_LEAST_OUTLINED_SIDE = 16


class Coco(TrackingDataset):
    """Objects of COCO's training photographs; crowds and boxes without an area are left out."""

    is_video = False
    outlined = False  # whether only objects with an outline are taken

    def __init__(self, name: str, storage: Storage) -> None:
        super().__init__(name, storage)
        found = [(file, folder) for file, folder in _LAYOUTS if all(map(storage.exists, (file, folder.rstrip("/"))))]
        if not found:
            known = ", or ".join(f"{file} and images in {folder or 'the same folder'}" for file, folder in _LAYOUTS)
            raise UserError(f"{name}: {storage.locate()} has no layout of COCO: expected {known}")
        self._annotations, self._folder = found[0]
        # Arrays, not objects: there are 850,000 boxes, and every worker has its copy.
        read = partial(_read_arrays, storage, self._annotations, self.outlined)
        self._found = storage.cached_arrays(name, [self._annotations], read)
        self._files, self._image, self._boxes = (self._found[key] for key in ("files", "images", "boxes"))
        total, crowds, unusable = self._found["counts"].tolist()
        usable = f"outline of at least {_LEAST_OUTLINED_SIDE} pixels a side" if self.outlined else "area"
        if not len(self._boxes):
            raise UserError(f"{name}: {storage.locate(self._annotations)} has no object with an {usable}")
        if crowds or unusable:
            self.report = f"{len(self)} of {total} objects are used; {crowds} are crowds, {unusable} have no {usable}"
        if others := [folder for file, folder in found[1:] if folder != "" and file.endswith(_ROBOFLOW)]:
            unread = f"{', '.join(others)} are not read: to use them, name them as data sets of their own"
            self.report = f"{self.report}; {unread}".removeprefix("; ")

    def __len__(self) -> int:
        return len(self._boxes)

    def info(self, sequence: int) -> SequenceInfo:
        return SequenceInfo(self._boxes[sequence : sequence + 1], np.ones(1, dtype=bool), np.ones(1, dtype=bool))

    def files(self) -> Iterator[str]:
        yield self._annotations
        yield from (f"{self._folder}{file}" for file in dict.fromkeys(self._files))

    def frame_path(self, sequence: int, frame: int) -> str:
        return f"{self._folder}{self._files[self._image[sequence]]}"


class CocoMasks(Coco, MaskedDataset):
    """Objects that are outlined by polygons, and not too small.

    Entries that say `exact_mask: false` have their box in place of an outline, and are left out.
    """

    outlined = True

    def mask(self, sequence: int, frame: int) -> np.ndarray:
        from pycocotools import mask as outlines  # which nothing else needs

        sizes, numbers, ends, last = (self._found[key] for key in ("sizes", "numbers", "ends", "last"))
        height, width = sizes[self._image[sequence]].tolist()
        polygons = [numbers[ends[p] : ends[p + 1]].tolist() for p in range(last[sequence], last[sequence + 1])]
        return outlines.decode(outlines.merge(outlines.frPyObjects(polygons, height, width))).astype(bool)


def _read_arrays(storage: Storage, file: str, outlined: bool) -> Arrays:
    """The images of the annotation file, and the M objects that can be trained on; `outlined` takes only outlined ones.

    `files` are names of images; `images` (M,) has the index of each object's image, `boxes` (M, 4) its box xywh.
    `counts`: number of all objects, of crowds, of others that cannot be used. With outlines also `sizes` of the images,
    height and width; polygon p is numbers[ends[p] : ends[p + 1]], x, y, x, y, …, and object i has the polygons from
    last[i] to last[i + 1].
    """
    data = storage.read_bytes(file)
    try:
        # Entries are cut down as they are read: whole, with their outlines, they need several gigabytes.
        content = json.loads(data, object_hook=partial(_slim, outlined))
        images, entries = content["images"], content["annotations"]
        index = {image["id"]: number for number, image in enumerate(images)}
        if len(index) < len(images):
            twice, _ = Counter(image["id"] for image in images).most_common(1)[0]
            names = [image["file_name"] for image in images if image["id"] == twice]
            raise ValueError(f"image id {twice} stands for {names[0]} and {names[1]}; give each image an id of its own")
        single = [entry for entry in entries if not entry.get("iscrowd", 0)]
        used = [entry for entry in single if entry.get("usable")]
        if unknown := [entry["image_id"] for entry in used if entry["image_id"] not in index]:
            raise ValueError(f"an annotation is of the image id {unknown[0]}, and no image has it")
        arrays = {
            "files": np.array([image["file_name"] for image in images], str),
            "images": np.array([index[entry["image_id"]] for entry in used], dtype=np.int32),
            "boxes": np.array([entry["bbox"] for entry in used], dtype=np.float32).reshape(-1, 4),
            "counts": np.array([len(entries), len(entries) - len(single), len(single) - len(used)]),
        }
        if outlined:
            outlines = [entry["outline"] for entry in used]
            polygons = [polygon for outline in outlines for polygon in outline]
            arrays["sizes"] = np.array([(image["height"], image["width"]) for image in images], dtype=np.int32)
            arrays["numbers"] = np.concatenate([np.zeros(0, np.float32), *polygons])
            arrays["ends"] = np.cumsum([0, *map(len, polygons)])
            arrays["last"] = np.cumsum([0, *map(len, outlines)])
        return arrays
    except KeyError as error:
        raise UserError(f"{storage.locate(file)}: {error.args[0]!r} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{storage.locate(file)} is not a COCO annotation file: {error}") from error


def _slim(outlined: bool, entry: dict) -> dict:
    """Called by the JSON reader with each object of the file; what it returns takes the object's place."""
    if "bbox" not in entry:
        return entry
    box = entry["bbox"]
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise ValueError(f"the bbox {box} of annotation {entry.get('id')} is not x, y, width, height")
    slim = {key: entry[key] for key in ("image_id", "bbox", "iscrowd") if key in entry}
    if not outlined:
        return slim | {"usable": box[2] > 0 and box[3] > 0}
    outline = _outline(entry)
    return slim | {"outline": outline, "usable": outline and min(box[2:]) >= _LEAST_OUTLINED_SIDE}


def _outline(entry: dict) -> list[np.ndarray]:
    """The polygons of an annotation that have a shape; none where it has only its box, or a crowd's mask."""
    polygons = entry.get("segmentation", [])
    if not isinstance(polygons, list) or not entry.get("exact_mask", True):
        return []
    arrays = [np.array(polygon, dtype=np.float32) for polygon in polygons]
    for array in arrays:
        if array.ndim != 1 or len(array) % 2 or not np.isfinite(array).all():
            raise ValueError(f"the segmentation of annotation {entry.get('id')} is not polygons of x, y, x, y, …")
    return [array for array in arrays if len(array) >= 6]
