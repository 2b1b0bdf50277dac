"""What the data sets of annotated videos share: frames by name, checked annotations, a cache of them."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.train.dataset.base import SequenceInfo
from lib.train.dataset.stored import StoredDataset
from lib.utils.errors import UserError
from lib.utils.image import image_names
from lib.utils.storage import Storage

# Frames whose annotation is kept in memory, a data set and process: 18 bytes each.
_CACHED_FRAMES = 4_000_000


@dataclass(frozen=True)
class NumberedNames(Sequence):
    """File names that count up, `00000001.jpg, 00000002.jpg, …`, without a string for each.

    Attributes:
        start: the first number.
        digits: numbers are padded with zeros to so many.
        suffix: what follows the number, dot included.
        count: how many names.
    """

    start: int
    digits: int
    suffix: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < self.count:
            raise IndexError(f"frame {index} of {self.count}")
        return f"{self.start + index:0{self.digits}d}{self.suffix}"


def frame_names(names: list[str]) -> Sequence[str]:
    """The frames among the names in a folder, in natural order; compact where they count up without a gap."""
    names = image_names(names)
    if not names:
        return names
    number, dot, suffix = names[0].partition(".")
    if number.isascii() and number.isdigit():
        numbered = NumberedNames(int(number), len(number), dot + suffix, len(names))
        if all(a == b for a, b in zip(names, numbered, strict=True)):
            return numbered
    return names


def sequence_info(boxes: np.ndarray, hidden: np.ndarray | None = None) -> SequenceInfo:
    """Judge the boxes of a sequence.

    Args:
        boxes: (N, 4) xywh in pixels; a row with a nan is a frame without a box.
        hidden: (N,) bool, nothing of the object can be seen; None: it is always visible.

    Returns:
        The annotation; rows with a nan hold zeros.
    """
    known = np.isfinite(boxes).all(axis=1)
    boxes = np.where(known[:, None], boxes, 0).astype(np.float32)
    valid = (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    return SequenceInfo(boxes, valid, valid.copy() if hidden is None else valid & ~hidden)


class VideoDataset(StoredDataset):
    """Videos of which each has a folder of frames and text files of annotation.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        storage: where the files lie.
        sequences: one entry a sequence, at least one; what it says is the subclass's matter.
    """

    def __init__(self, name: str, storage: Storage, sequences: list[str]) -> None:
        self.name = name
        self.storage = storage
        self.sequences = sequences
        self._recent: OrderedDict[int, tuple[SequenceInfo, Sequence[str]]] = OrderedDict()
        self._recent_frames = 0

    @abstractmethod
    def frames_folder(self, sequence: int) -> str:
        """Storage path of a sequence's frames."""

    @abstractmethod
    def annotation_file(self, sequence: int) -> str:
        """Storage path of a sequence's boxes."""

    def other_files(self, sequence: int) -> list[str]:
        """Storage paths of what else there may be of a sequence, labels of frames say."""
        return []

    def shared_files(self) -> list[str]:
        """Storage paths of files that belong to no sequence."""
        return []

    def hidden_frames(self, sequence: int, frames: int) -> np.ndarray | None:
        """(frames,) bool, nothing of the object can be seen; None where the set does not tell."""
        return None

    def __len__(self) -> int:
        return len(self.sequences)

    def info(self, sequence: int) -> SequenceInfo:
        """See `TrackingDataset.info`; read at the first call for a sequence, then kept."""
        return self._entry(sequence)[0]

    def file_groups(self) -> int:
        """See `StoredDataset.file_groups`: the shared files, then each sequence."""
        return 1 + len(self)

    def files(self, group: int) -> list[str]:
        """See `StoredDataset.files`."""
        if group == 0:
            return [path for path in self.shared_files() if self.storage.exists(path)]
        sequence, folder = group - 1, self.frames_folder(group - 1)
        others = [path for path in self.other_files(sequence) if self.storage.exists(path)]
        frames = [f"{folder}/{name}" for name in image_names(self.storage.names(folder))]
        return [self.annotation_file(sequence), *others, *frames]

    def frame_path(self, sequence: int, frame: int) -> str:
        """Storage path of one frame."""
        return f"{self.frames_folder(sequence)}/{self._entry(sequence)[1][frame]}"

    def labels(self, path: str, frames: int) -> np.ndarray | None:
        """(frames,) int64 of a label file; None where there is no such file.

        Raises:
            UserError: the file is malformed or tells of another number of frames.
        """
        if not self.storage.exists(path):
            return None
        flags = self.storage.flags(path)
        if len(flags) != frames:
            raise UserError(f"{self.storage.locate(path)} has {len(flags)} labels for {frames} frames")
        return flags

    def _entry(self, sequence: int) -> tuple[SequenceInfo, Sequence[str]]:
        """Annotation and names of the frames. The least recently used make room when there are too many."""
        if sequence in self._recent:
            self._recent.move_to_end(sequence)
            return self._recent[sequence]
        entry = self._load(sequence)
        self._recent[sequence] = entry
        self._recent_frames += len(entry[0])
        while self._recent_frames > _CACHED_FRAMES and len(self._recent) > 1:
            self._recent_frames -= len(self._recent.popitem(last=False)[1][0])
        return entry

    def _load(self, sequence: int) -> tuple[SequenceInfo, Sequence[str]]:
        """Read the annotation and hold it against the frames."""
        folder, annotation = self.frames_folder(sequence), self.annotation_file(sequence)
        boxes = self.storage.boxes(annotation)
        names = frame_names(self.storage.names(folder))
        if len(names) != len(boxes):
            raise UserError(
                f"{self.storage.locate(annotation)} has {len(boxes)} boxes, "
                f"but there are {len(names)} frames in {self.storage.locate(folder)}"
            )
        return sequence_info(boxes, self.hidden_frames(sequence, len(boxes))), names
