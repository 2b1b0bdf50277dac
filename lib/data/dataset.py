"""Training sets as the sampler sees them: sequences of frames with boxes, over files in a folder or an LMDB."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import NoReturn

import numpy as np

from ..utils.errors import UserError
from ..utils.progress import progress_bar
from .images import Picture, image_names
from .sequence import Sequences
from .storage import Arrays, Storage


@dataclass(frozen=True)
class SequenceInfo:
    """The annotation of a sequence of N frames."""

    boxes: np.ndarray  # (N, 4) float32 xywh in pixels; zeros on frames without a box
    valid: np.ndarray  # (N,) bool, the frame has a box with an area
    visible: np.ndarray  # (N,) bool, the box is valid and at least a part of the object is visible

    def __len__(self) -> int:
        return len(self.boxes)


def sequence_info(boxes: np.ndarray, visible: np.ndarray | None = None) -> SequenceInfo:
    """The annotation from boxes (N, 4) xywh with nan on frames without one, and (N,) bool; None: always visible."""
    known = np.isfinite(boxes).all(axis=1)
    boxes = np.where(known[:, None], boxes, 0).astype(np.float32)
    valid = (boxes[:, 2:] > 0).all(axis=1)
    return SequenceInfo(boxes, valid, valid.copy() if visible is None else valid & visible)


class TrackingDataset(ABC):
    """Sequences of one data set: its name as in DATA.TRAIN.DATASETS_NAME, and the storage where its files lie.

    A subclass defines the four abstract methods. Its `__init__`, if it has one, calls this one first.
    """

    is_video: bool = True  # False for images: sequences of one frame
    report: str = ""  # how much of the set is left out, and why; "" where all of it is used

    def __init__(self, name: str, storage: Storage) -> None:
        self.name, self.storage = name, storage

    def __getattr__(self, attribute: str) -> NoReturn:
        """Python calls this for attributes that are missing."""
        remedy = f"; call super().__init__(name, storage) in {type(self).__name__}.__init__"
        remedy *= attribute in ("name", "storage")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}{remedy}")

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def info(self, sequence: int) -> SequenceInfo:
        """Boxes and visibility of a sequence; a `UserError` names file and line of a malformed annotation."""

    @abstractmethod
    def frame_path(self, sequence: int, frame: int) -> str:
        """Storage path of one frame."""

    @abstractmethod
    def files(self) -> Iterator[str]:
        """Storage paths of all files, each once, for packing."""

    def keep_annotations(self) -> None:  # noqa: B027 - most sets have read them already
        """Read all annotations now, through the cache file in `storage.cache`; nothing happens where that is None."""

    def image(self, sequence: int, frame: int) -> np.ndarray:
        """One frame, (H, W, 3) uint8 RGB; raises an `ImageReadError` where the file is missing or damaged."""
        return self.storage.image(self.frame_path(sequence, frame))

    def picture(self, sequence: int, frame: int) -> Picture:
        """The same frame, decoded in parts where the format allows it; damage may be found only then."""
        return self.storage.picture(self.frame_path(sequence, frame))

    def source(self, sequence: int, frame: int) -> str:
        """Path of a frame, for messages."""
        return self.storage.locate(self.frame_path(sequence, frame))


class MaskedDataset(TrackingDataset):
    """Sequences with a mask of the object in every frame."""

    @abstractmethod
    def mask(self, sequence: int, frame: int) -> np.ndarray:
        """The object's pixels in a frame, (H, W) bool, as large as the image; errors as of `image`."""


@dataclass(frozen=True)
class _VideoInfo(SequenceInfo):
    names: np.ndarray  # (N,) of the frames, as bytes, which take less memory than strings


class VideoSet(TrackingDataset):
    """Videos, at least one, with a folder of frames and text files of annotation each, all with paths in `storage`.

    `shared_files` belong to no sequence, such as `list.txt`.
    """

    def __init__(self, name: str, storage: Storage, sequences: Sequences, shared_files: Iterable[str] = ()) -> None:
        super().__init__(name, storage)
        self.sequences, self.report, self._shared_files = sequences, sequences.report, shared_files
        self._infos: dict[int, _VideoInfo] = {}  # those that have been read

    def __len__(self) -> int:
        return len(self.sequences)

    def keep_annotations(self) -> None:
        if self.storage.cache is None:
            return
        read = (path for each in self.sequences for path in (*each.text_files, each.frames_dir))
        kept = self.storage.cached_arrays(self.name, read, self._load_all)
        columns = [kept[each.name] for each in fields(_VideoInfo)]
        for number, (first, end) in enumerate(pairwise(kept["ends"].tolist())):
            if first < end:
                self._infos[number] = _VideoInfo(*(column[first:end] for column in columns))

    def info(self, sequence: int) -> _VideoInfo:
        if sequence not in self._infos:
            self._infos[sequence] = self._load(sequence)
        return self._infos[sequence]

    def frame_path(self, sequence: int, frame: int) -> str:
        return f"{self.sequences[sequence].frames_dir.as_posix()}/{os.fsdecode(self.info(sequence).names[frame])}"

    def files(self) -> Iterator[str]:
        yield from filter(self.storage.exists, self._shared_files)
        for sequence in self.sequences:
            yield from (path.as_posix() for path in filter(self.storage.exists, sequence.text_files))
            folder = sequence.frames_dir.as_posix()
            yield from (f"{folder}/{name}" for name in image_names(self.storage.names(folder)))

    def _load(self, number: int) -> _VideoInfo:
        sequence = replace(self.sequences[number])  # a copy, for it remembers all that it reads
        names = image_names(self.storage.names(sequence.frames_dir))
        sequence.check_frames(names)
        info = sequence_info(sequence.truth, sequence.visible)
        return _VideoInfo(**vars(info), names=np.array([*map(os.fsencode, names)]))

    def _load_all(self) -> Arrays:
        """All annotations; of sequence i the frames are those from ends[i] to ends[i + 1].

        There are none of a sequence that cannot be read, for which the error comes when it is sampled.
        """
        infos = [_VideoInfo(**vars(sequence_info(np.zeros((0, 4)))), names=np.zeros(0, "S1"))] * len(self)
        title = f"reading the annotations of {self.name}, once"
        for number in progress_bar(title, "sequences", range(len(self)), delay=2, leave=False):
            with suppress(UserError):
                infos[number] = self._load(number)
        arrays = {key: np.concatenate([getattr(each, key) for each in infos]) for key in vars(infos[0])}
        return arrays | {"ends": np.cumsum([0, *map(len, infos)])}
