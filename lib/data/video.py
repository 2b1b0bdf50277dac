"""What the data sets of annotated videos share: frames by name, checked annotations, a cache of them."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from lib.data.base import SequenceInfo
from lib.data.cache import (
    AnnotationCache,
    Entry,
    NumberedNames,
    cache_file,
    gather,
    sequence_key,
)
from lib.data.images import image_names, is_image_name
from lib.data.storage import Storage
from lib.data.stored import StoredDataset
from lib.utils.errors import UserError

# Frames whose annotation is kept in memory, a data set and process: 18 bytes each.
_CACHED_FRAMES = 4_000_000


def frame_names(names: list[str]) -> Sequence[str]:
    """The frames among the names in a folder, in natural order; compact where they count up without a gap."""
    names = [name for name in names if is_image_name(name)]
    if not names:
        return names
    first = min(names, key=lambda name: (len(name), name))
    number, dot, suffix = first.partition(".")
    if number.isascii() and number.isdigit():
        numbered = NumberedNames(int(number), len(number), dot + suffix, len(names))
        # Names of one length are in order already, and most are.
        if _count_up(sorted(names), numbered) or sorted(names) == sorted(numbered):
            return numbered
    return image_names(names)


def _count_up(names: list[str], numbered: NumberedNames) -> bool:
    """Whether sorted names of one length are `numbered`, without making each of those."""
    digits, ending, length = numbered.digits, numbered.suffix, len(names[0])
    return (
        names[0] == numbered[0]
        and names[-1] == numbered[len(names) - 1]
        and all(len(name) == length and name.endswith(ending) for name in names)
        and (stems := "".join([name[:digits] for name in names])).isascii()
        and stems.isdigit()
        and len(set(names)) == len(names)
    )


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
        self._recent: OrderedDict[int, Entry] = OrderedDict()
        self._recent_frames = 0
        self._kept: AnnotationCache | None = None
        self._keys: list[bytes] = []

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

    def keep_annotations(self) -> None:
        """See `StoredDataset.keep_annotations`; without it, each is read at the first call for its sequence."""
        if self.storage.cache is not None:
            self._keys = [sequence_key(self.storage, self._annotation_paths(number)) for number in range(len(self))]
            self._kept = gather(cache_file(self.storage, self.name), self.name, self._keys, self._load)

    def _annotation_paths(self, sequence: int) -> list[str]:
        """Storage paths of all that `_load` looks at."""
        return [self.annotation_file(sequence), *self.other_files(sequence), self.frames_folder(sequence)]

    def info(self, sequence: int) -> SequenceInfo:
        """See `TrackingDataset.info`."""
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

    def _entry(self, sequence: int) -> Entry:
        """Annotation and names of the frames. The least recently used make room when there are too many."""
        if sequence in self._recent:
            self._recent.move_to_end(sequence)
            return self._recent[sequence]
        if self._kept is not None and self._keys[sequence] in self._kept:
            entry = self._kept.entry(self._keys[sequence])
        else:
            entry = self._load(sequence)
        self._recent[sequence] = entry
        self._recent_frames += len(entry[0])
        while self._recent_frames > _CACHED_FRAMES and len(self._recent) > 1:
            self._recent_frames -= len(self._recent.popitem(last=False)[1][0])
        return entry

    def _load(self, sequence: int) -> Entry:
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
