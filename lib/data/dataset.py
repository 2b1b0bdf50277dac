"""Training sets as the sampler sees them: sequences of frames with boxes, over files in a folder or an LMDB."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lib.data.images import Picture
from lib.data.storage import Storage


@dataclass(frozen=True)
class SequenceInfo:
    """The annotation of a sequence of N frames.

    Attributes:
        boxes: (N, 4) float32 xywh in pixels; zeros on frames without a box.
        valid: (N,) bool, the frame has a box with an area.
        visible: (N,) bool, the box is valid and at least a part of the object is visible.
    """

    boxes: np.ndarray
    valid: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


def sequence_info(boxes: np.ndarray, visible: np.ndarray | None = None) -> SequenceInfo:
    """The annotation from boxes (N, 4) xywh with nan on frames without one, and (N,) bool; None: always visible."""
    known = np.isfinite(boxes).all(axis=1)
    boxes = np.where(known[:, None], boxes, 0).astype(np.float32)
    valid = (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    return SequenceInfo(boxes, valid, valid.copy() if visible is None else valid & visible)


class TrackingDataset(ABC):
    """Sequences of one data set. An image set has sequences of one frame.

    Attributes:
        name: as in DATA.TRAIN.DATASETS_NAME, for messages.
        is_video: False for image sets.
    """

    name: str
    is_video: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """Number of sequences."""

    @abstractmethod
    def info(self, sequence: int) -> SequenceInfo:
        """Boxes and visibility of a sequence.

        Raises:
            UserError: an annotation file is missing or malformed; the message names file and line.
        """

    @abstractmethod
    def image(self, sequence: int, frame: int) -> np.ndarray:
        """One frame, (H, W, 3) uint8 RGB.

        Raises:
            ImageReadError: the file is missing or damaged.
        """

    def picture(self, sequence: int, frame: int) -> Picture:
        """The same frame, decoded in parts where the format allows it; damage may be found only then."""
        return Picture(self.image(sequence, frame))

    @abstractmethod
    def source(self, sequence: int, frame: int) -> str:
        """Path of a frame, for messages."""


class MaskedDataset(TrackingDataset):
    """Sequences with a mask of the object in every frame."""

    @abstractmethod
    def mask(self, sequence: int, frame: int) -> np.ndarray:
        """The object's pixels in a frame, (H, W) bool, as large as the image.

        Raises:
            ImageReadError: the file of the mask is missing or damaged.
        """


class StoredDataset(TrackingDataset):
    """A data set over a storage; its files can be listed, so that it can be packed.

    Attributes:
        storage: the folder or LMDB.
    """

    storage: Storage

    @abstractmethod
    def frame_path(self, sequence: int, frame: int) -> str:
        """Storage path of one frame."""

    @abstractmethod
    def files(self) -> Iterator[str]:
        """Storage paths of all files, each once."""

    def keep_annotations(self) -> None:  # noqa: B027 - image sets read all annotations at once
        """Read all annotations now, through the cache file in `storage.cache`; nothing happens where that is None."""

    def image(self, sequence: int, frame: int) -> np.ndarray:
        return self.storage.image(self.frame_path(sequence, frame))

    def picture(self, sequence: int, frame: int) -> Picture:
        return self.storage.picture(self.frame_path(sequence, frame))

    def source(self, sequence: int, frame: int) -> str:
        return self.storage.locate(self.frame_path(sequence, frame))
