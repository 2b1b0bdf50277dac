"""Videos with a mask a frame, in the layout of DAVIS 2016 and 2017 (Perazzi et al., CVPR 2016) and YouTube-VOS (2018).

JPEGImages/480p/<video>/00000.jpg, …      or JPEGImages/<video>/…
Annotations/480p/<video>/00000.png, …     or Annotations/<video>/…: black is background, each object has a colour
ImageSets/2017/train.txt                  for splits: a video a line

A frame counts where it has a mask: YouTube-VOS has one every fifth frame. The objects are those of a video's first one.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from ..utils.errors import UserError
from .dataset import MaskedDataset, SequenceInfo, sequence_info
from .images import image_names
from .sequence import some
from .storage import Storage

_WHITE = 0xFFFFFF


class _Video(NamedTuple):
    """A video's frames that have a mask, as storage paths, and each object's boxes (N, 4) xywh, zeros where hidden."""

    images: list[str]
    masks: list[str]
    boxes: dict[int, np.ndarray]


class Davis(MaskedDataset):
    """Objects of videos; each is a sequence.

    The files lie in the folder `train` of the storage, as YouTube-VOS has them, or without it. `split` is a file of
    `ImageSets` without suffix, such as "2017/train"; None takes every video with masks. `late` takes also the objects
    that are not in a video's first mask.
    """

    def __init__(self, name: str, storage: Storage, split: str | None = None, late: bool = False) -> None:
        super().__init__(name, storage)
        self._late = late
        base = "train/" if storage.exists("train") else ""
        self._images, self._masks = (_folder(name, storage, f"{base}{kind}") for kind in ("JPEGImages", "Annotations"))
        self._splits, place = f"{base}ImageSets", storage.locate(self._masks)
        present = storage.names(self._masks)
        wanted = present if split is None else storage.text(f"{self._splits}/{split}.txt").split()
        self.videos = [video for video in wanted if video in present]
        if missing := [video for video in wanted if video not in present]:
            self.report = f"{len(self.videos)} of {len(wanted)} videos are used; missing in {place}: {some(missing)}"
        self._known: dict[str, _Video] = {}
        # (video, object) by sequence.
        self.sequences = [(video, label) for video in self.videos for label in self._objects(video)]
        if not self.sequences:
            raise UserError(f"{name}: no first mask in {place} shows an object: expected <video>/00000.png")

    def __len__(self) -> int:
        return len(self.sequences)

    def info(self, sequence: int) -> SequenceInfo:
        video, label = self.sequences[sequence]
        return sequence_info(self._video(video).boxes[label])

    def mask(self, sequence: int, frame: int) -> np.ndarray:
        video, label = self.sequences[sequence]
        return self._labels(self._video(video).masks[frame]) == label

    def frame_path(self, sequence: int, frame: int) -> str:
        return self._video(self.sequences[sequence][0]).images[frame]

    def files(self) -> Iterator[str]:
        for year in self.storage.names(self._splits):
            yield from (f"{self._splits}/{year}/{name}" for name in self.storage.names(f"{self._splits}/{year}"))
        for video in self.videos:
            yield from (path for folder in (self._images, self._masks) for path in self._paths(folder, video))

    def _video(self, video: str) -> _Video:
        """A video's frames and boxes, read once."""
        if video not in self._known:
            images = {PurePosixPath(path).stem: path for path in self._paths(self._images, video)}
            masks = self._paths(self._masks, video)
            if lost := [path for path in masks if PurePosixPath(path).stem not in images]:
                raise UserError(f"{self.storage.locate(lost[0])} is the mask of a missing image")
            boxes = {label: np.zeros((len(masks), 4)) for name, label in self.sequences if name == video}
            for frame, path in enumerate(masks):
                labels = self._labels(path)
                for label in boxes:
                    boxes[label][frame] = cv2.boundingRect((labels == label).astype(np.uint8))
            self._known[video] = _Video([images[PurePosixPath(path).stem] for path in masks], masks, boxes)
        return self._known[video]

    def _objects(self, video: str) -> list[int]:
        """The colours of a video's objects; white is an object only where it is the only one."""
        masks = self._paths(self._masks, video)
        if not masks:
            raise UserError(f"{self.name}: no masks in {self.storage.locate(f'{self._masks}/{video}')}")
        shown = [np.unique(self._labels(path)) for path in (masks if self._late else masks[:1])]
        labels = [label for label in np.unique(np.concatenate(shown)).tolist() if label]
        return labels if len(labels) < 2 else [label for label in labels if label != _WHITE]

    def _paths(self, folder: str, video: str) -> list[str]:
        return [f"{folder}/{video}/{name}" for name in image_names(self.storage.names(f"{folder}/{video}"))]

    def _labels(self, path: str) -> np.ndarray:
        """A mask's colours as numbers, (H, W) int32; an image with a palette is read as its colours."""
        red, green, blue = np.moveaxis(self.storage.image(path).astype(np.int32), -1, 0)
        return red << 16 | green << 8 | blue


def _folder(name: str, storage: Storage, folder: str) -> str:
    """The folder that holds the videos; DAVIS has one more in between, for its resolution."""
    place = f"{folder}/480p" if storage.exists(f"{folder}/480p") else folder
    if not storage.exists(place):
        raise UserError(f"{name}: there is no folder {storage.locate(folder)}: expected JPEGImages and Annotations")
    return place
