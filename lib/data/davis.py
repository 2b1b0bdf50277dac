"""Videos with a mask a frame, in the layout of DAVIS 2016 and 2017 (Perazzi et al., CVPR 2016) and YouTube-VOS (2018).

JPEGImages/480p/<video>/00000.jpg, …      or JPEGImages/<video>/…
Annotations/480p/<video>/00000.png, …     or Annotations/<video>/…: black is background, each object has a colour
ImageSets/2017/train.txt                  for splits: a video a line

A frame counts where it has a mask: YouTube-VOS has one every fifth frame. The objects are those of a video's first one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2
import numpy as np

from lib.data.dataset import MaskedDataset, SequenceInfo, StoredDataset, sequence_info
from lib.data.images import image_names
from lib.data.storage import Storage
from lib.utils.errors import UserError

_WHITE = 0xFFFFFF


@dataclass(frozen=True)
class _Video:
    """A video's frames that have a mask, as storage paths, and each object's boxes (N, 4) xywh, zeros where hidden."""

    images: list[str]
    masks: list[str]
    boxes: dict[int, np.ndarray]


class Davis(StoredDataset, MaskedDataset):
    """Objects of videos; each is a sequence.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: where the files lie.
        base: folder of `JPEGImages` and `Annotations` in the storage, "" or with a "/" at its end.
        split: a file of `ImageSets` without suffix, such as "2017/train"; None takes every video with masks.

    Raises:
        UserError: folders or videos are missing, or no video shows an object.
    """

    def __init__(self, name: str, storage: Storage, base: str = "", split: str | None = None) -> None:
        self.name, self.storage = name, storage
        self._images, self._masks = (_folder(name, storage, f"{base}{kind}") for kind in ("JPEGImages", "Annotations"))
        self._splits = f"{base}ImageSets"
        there, listed = storage.names(self._masks), f"{self._splits}/{split}.txt"
        self.videos = there if split is None else storage.lines(listed)
        missing = sorted(set(self.videos) - set(there))
        if missing:
            raise UserError(
                f"{name}: {len(missing)} of the {len(self.videos)} videos in {storage.locate(listed)} are not in "
                f"{storage.locate(self._masks)}, {missing[0]} for one; bring them there"
            )
        self._known: dict[str, _Video] = {}
        # (video, object) by sequence.
        self.sequences = [(video, label) for video in self.videos for label in self._objects(video)]
        if not self.sequences:
            raise UserError(f"{name}: no video in {storage.locate(self._masks)} shows an object in its first mask")

    def __len__(self) -> int:
        return len(self.sequences)

    def info(self, sequence: int) -> SequenceInfo:
        """See `TrackingDataset.info`; a video's masks are read at the first call for one of its objects."""
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
            for folder in (f"{self._images}/{video}", f"{self._masks}/{video}"):
                yield from (f"{folder}/{name}" for name in image_names(self.storage.names(folder)))

    def _video(self, video: str) -> _Video:
        """A video's frames and boxes, read once."""
        if video not in self._known:
            self._known[video] = self._read(video)
        return self._known[video]

    def _read(self, video: str) -> _Video:
        images = {PurePosixPath(name).stem: name for name in image_names(self.storage.names(f"{self._images}/{video}"))}
        masks = self._mask_names(video)
        lost = [name for name in masks if PurePosixPath(name).stem not in images]
        if lost:
            raise UserError(f"{self.storage.locate(f'{self._masks}/{video}/{lost[0]}')} is the mask of a missing image")
        paths = [f"{self._masks}/{video}/{name}" for name in masks]
        boxes: dict[int, np.ndarray] = {
            label: np.zeros((len(masks), 4)) for name, label in self.sequences if name == video
        }
        for i, path in enumerate(paths):
            labels = self._labels(path)
            for label in boxes:
                boxes[label][i] = cv2.boundingRect((labels == label).astype(np.uint8))
        shown = [f"{self._images}/{video}/{images[PurePosixPath(name).stem]}" for name in masks]
        return _Video(shown, paths, boxes)

    def _objects(self, video: str) -> list[int]:
        """The colours of a video's objects; white is an object only where it is the only one."""
        masks = self._mask_names(video)
        if not masks:
            raise UserError(f"{self.name}: no masks in {self.storage.locate(f'{self._masks}/{video}')}")
        labels = [int(label) for label in np.unique(self._labels(f"{self._masks}/{video}/{masks[0]}")) if label]
        return labels if len(labels) < 2 else [label for label in labels if label != _WHITE]

    def _mask_names(self, video: str) -> list[str]:
        return image_names(self.storage.names(f"{self._masks}/{video}"))

    def _labels(self, path: str) -> np.ndarray:
        """A mask's colours as numbers, (H, W) int32; an image with a palette is read as its colours."""
        red, green, blue = np.moveaxis(self.storage.image(path).astype(np.int32), -1, 0)
        return red << 16 | green << 8 | blue


def _folder(name: str, storage: Storage, folder: str) -> str:
    """The folder of the videos' own: DAVIS has one more in between, for its resolution."""
    place = f"{folder}/480p" if storage.exists(f"{folder}/480p") else folder
    if not storage.exists(place):
        raise UserError(f"{name}: there is no folder {storage.locate(folder)}: expected JPEGImages and Annotations")
    return place
