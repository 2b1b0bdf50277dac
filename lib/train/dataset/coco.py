"""COCO 2017 (Lin et al., ECCV 2014): every object of a photograph is a sequence of one frame.

annotations/instances_train2017.json
images/train2017/000000000009.jpg, …      or train2017/…
"""

import json
import math
from dataclasses import dataclass

import numpy as np

from lib.train.dataset.annotation_cache import kept_arrays
from lib.train.dataset.base import SequenceInfo
from lib.train.dataset.stored import StoredDataset
from lib.utils.errors import UserError
from lib.utils.storage import Storage

ANNOTATIONS = "annotations/instances_train2017.json"
_IMAGE_FOLDERS = ("images/train2017", "train2017")


class Coco(StoredDataset):
    """Objects of COCO's training photographs; crowds and boxes without an area are left out.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: where the files lie.

    Raises:
        UserError: the annotation or the images are missing, or the annotation is malformed.
    """

    is_video = False

    def __init__(self, name: str, storage: Storage) -> None:
        self.name = name
        self.storage = storage
        folders = [folder for folder in _IMAGE_FOLDERS if storage.exists(folder)]
        if not folders:
            raise UserError(f"{name}: no images in {storage.locate(_IMAGE_FOLDERS[0])}: put COCO's train2017 there")
        self._folder = folders[0]
        # Arrays, not objects: there are 850,000 boxes, and every worker has its copy.
        found = kept_arrays(storage, name, ANNOTATIONS, lambda: _read_annotations(storage))
        self._files, self._image, self._boxes = found["files"], found["images"], found["boxes"]
        if not len(self._boxes):
            raise UserError(f"{name}: {storage.locate(ANNOTATIONS)} has no boxes")

    def __len__(self) -> int:
        return len(self._boxes)

    def info(self, sequence: int) -> SequenceInfo:
        """See `TrackingDataset.info`."""
        return SequenceInfo(self._boxes[sequence : sequence + 1], np.ones(1, dtype=bool), np.ones(1, dtype=bool))

    def file_groups(self) -> int:
        """See `StoredDataset.file_groups`: the annotation, then each image."""
        return 1 + len(self._files)

    def files(self, group: int) -> list[str]:
        """See `StoredDataset.files`."""
        return [f"{self._folder}/{self._files[group - 1]}" if group else ANNOTATIONS]

    def frame_path(self, sequence: int, frame: int) -> str:
        """See `StoredDataset.frame_path`."""
        if frame != 0:
            raise IndexError(f"frame {frame} of a photograph")
        return f"{self._folder}/{self._files[self._image[sequence]]}"


@dataclass(frozen=True)
class _Image:
    """An entry of "images"."""

    id: int
    file_name: str


@dataclass(frozen=True)
class _Object:
    """An entry of "annotations"; the box is xywh in pixels, from the top-left corner."""

    image_id: int
    crowd: bool
    box: tuple[float, ...]

    @property
    def usable(self) -> bool:
        """Whether it is one object with an area."""
        return not self.crowd and self.box[2] > 0 and self.box[3] > 0


def _read_annotations(storage: Storage) -> dict[str, np.ndarray]:
    """Read the annotation file.

    Returns:
        `files`: names of the images; for each object the index (M,) int32 of its image in `images`, and in `boxes` its
        box (M, 4) float32 xywh.
    """
    data = storage.read_bytes(ANNOTATIONS)
    try:
        # Entries are cut down as they are read: whole, with their outlines, they need several gigabytes.
        content = json.loads(data, object_hook=_slim)
        images = [entry for entry in content["images"] if isinstance(entry, _Image)]
        objects = [entry for entry in content["annotations"] if isinstance(entry, _Object) and entry.usable]
        index = {image.id: number for number, image in enumerate(images)}
        image_of = np.array([index[entry.image_id] for entry in objects], dtype=np.int32)
    except KeyError as error:
        raise UserError(f"{storage.locate(ANNOTATIONS)}: {error.args[0]!r} is missing") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{storage.locate(ANNOTATIONS)} is not a COCO annotation file: {error}") from error
    boxes = np.array([entry.box for entry in objects], dtype=np.float32).reshape(-1, 4)
    return {"files": np.array([image.file_name for image in images], str), "images": image_of, "boxes": boxes}


def _slim(entry: dict) -> object:
    """Called by the JSON reader with each object of the file; what it returns takes the object's place."""
    if "file_name" in entry:
        return _Image(entry["id"], entry["file_name"])
    if "bbox" not in entry:
        return entry
    box = tuple(entry["bbox"])
    if len(box) != 4 or not all(isinstance(value, int | float) and math.isfinite(value) for value in box):
        raise ValueError(f"the bbox {list(box)} of annotation {entry.get('id')} is not x, y, width, height")
    return _Object(entry["image_id"], bool(entry.get("iscrowd", 0)), box)
