"""What a training set is to the sampler: sequences of frames with boxes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from lib.data.picture import DecodedPicture, Picture


@dataclass(frozen=True)
class SequenceInfo:
    """The annotation of one sequence of N frames.

    Attributes:
        boxes: (N, 4) float32 xywh in pixels.
        valid: (N,) bool, the frame has a box with an area.
        visible: (N,) bool, the box is valid and at least part of the object can be seen.
    """

    boxes: np.ndarray
    valid: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


class TrackingDataset(ABC):
    """Sequences of one data set. Image sets count as sequences of one frame.

    Attributes:
        name: as in DATA.TRAIN.DATASETS_NAME, for messages.
        is_video: False where one image is all a sequence has.
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
            UserError: an annotation file that is missing or malformed; the message names file and line.
        """

    @abstractmethod
    def image(self, sequence: int, frame: int) -> np.ndarray:
        """One frame, (H, W, 3) uint8 RGB.

        Raises:
            ImageReadError: the file is missing or damaged.
        """

    def picture(self, sequence: int, frame: int) -> Picture:
        """The same frame, of which parts can be had; overridden where they are had for less than the whole.

        Raises:
            ImageReadError: see `image`; damage to the pixels may be found only when they are asked for.
        """
        return DecodedPicture(self.image(sequence, frame))

    @abstractmethod
    def source(self, sequence: int, frame: int) -> str:
        """Where a frame lies, for messages."""


class MaskedDataset(TrackingDataset):
    """Sequences whose objects are outlined in every frame."""

    @abstractmethod
    def mask(self, sequence: int, frame: int) -> np.ndarray:
        """The object's pixels in a frame, (H, W) bool, as large as the image.

        Raises:
            ImageReadError: the file of the mask is missing or damaged.
        """
