"""The annotations of a data set in one file, so that they are parsed once.

Annotations are small files, one or several a sequence: to open and to parse them takes seconds to minutes each time.
The one file keeps each sequence's under a key made from the sizes and times of all that it was read from, so that what
was changed since is read anew, and only that. A sequence that cannot be read is not kept: it is read, and named, when
it is drawn.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from lib.data.array_file import ArrayFileError, read_arrays, write_arrays
from lib.data.base import SequenceInfo
from lib.data.storage import Storage
from lib.utils.errors import UserError
from lib.utils.files import locked

# Changes when what is kept, or how it is read from the annotations, does.
_VERSION = 1
_KEY_BYTES = 16
_SECONDS_UNTIL_PROGRESS = 2.0
_UNKEPT = "%s: cannot keep its annotations in %s (%s): they will be read again next time"
_T = TypeVar("_T")
log = logging.getLogger(__name__)


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


# What is known of a sequence: its annotation, and the names of its frames.
Entry = tuple[SequenceInfo, Sequence[str]]


class AnnotationCache:
    """Annotations of some of a data set's sequences, from one file.

    Args:
        path: of the file; where this object is sent to another process, that reads the file itself, and has None where
            it is no longer there.

    Raises:
        OSError, ArrayFileError: see `read_arrays`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        arrays = read_arrays(path)
        try:
            self._boxes, self._visible, self._ends = arrays["boxes"], arrays["visible"], arrays["ends"]
            self._names, self._suffixes = arrays["names"], arrays["suffixes"]
            self._places = {key.tobytes(): place for place, key in enumerate(arrays["keys"])}
        except KeyError as error:
            raise ArrayFileError(f"{path} lacks {error}") from error

    def __reduce__(self) -> tuple:
        return _opened_again, (self.path,)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def entry(self, key: bytes) -> Entry:
        """What was kept of the sequence with a key."""
        place = self._places[key]
        frames = slice(int(self._ends[place]), int(self._ends[place + 1]))
        boxes = self._boxes[frames]
        start, digits, suffix = self._names[place].tolist()
        names = NumberedNames(start, digits, str(self._suffixes[suffix]), len(boxes))
        return SequenceInfo(boxes, (boxes[:, 2] > 0) & (boxes[:, 3] > 0), self._visible[frames]), names


def _opened_again(path: Path) -> AnnotationCache | None:
    try:
        return _whole(AnnotationCache, path)
    except OSError as error:
        log.warning("cannot read %s (%s): annotations are read one by one", path, error.strerror)
        return None


def sequence_key(storage: Storage, paths: Sequence[str]) -> bytes:
    """What stands for the state of a sequence's files and folders (storage paths), whether they are there or not."""
    state = repr([_VERSION, *((path, storage.stamp(path)) for path in paths)])
    return hashlib.blake2b(state.encode(errors="surrogateescape"), digest_size=_KEY_BYTES).digest()


def gather(path: Path, name: str, keys: Sequence[bytes], load: Callable[[int], Entry]) -> AnnotationCache | None:
    """The file of a data set's annotations, made or completed where it lacks some.

    Processes that ask for the same one take turns: the first makes it.

    Args:
        path: of the file.
        name: of the data set, for messages.
        keys: of all its sequences.
        load: reads a sequence's annotation; what raises a `UserError` is left out.

    Returns:
        The file; None where it cannot be written, or there is nothing to keep.
    """
    try:
        with locked(path.parent):
            cache = _whole(AnnotationCache, path)
            wanting = [index for index, key in enumerate(keys) if cache is None or key not in cache]
            fresh = dict(_load_all(wanting, name, load))
            if fresh:
                write_arrays(path, _packed(keys, fresh, cache))
                cache = AnnotationCache(path)
    except OSError as error:
        log.warning(_UNKEPT, name, path, error.strerror)
        return None
    return cache


def _whole(open_file: Callable[[Path], _T], path: Path) -> _T | None:
    """The file, where there is one that is whole."""
    try:
        return open_file(path)
    except FileNotFoundError:
        return None
    except ArrayFileError as error:
        log.warning("%s; it is made anew", error)
        return None


def _load_all(indices: Sequence[int], name: str, load: Callable[[int], Entry]) -> Iterator[tuple[int, Entry]]:
    """The sequences that can be read, and whose frames' names count up."""
    description = f"reading the annotations of {name}, once"
    for index in tqdm(indices, description, unit="sequence", delay=_SECONDS_UNTIL_PROGRESS, leave=False, disable=None):
        try:
            info, names = load(index)
        except UserError:
            continue  # said when the sequence is drawn
        if isinstance(names, NumberedNames):
            yield index, (info, names)


def _packed(keys: Sequence[bytes], fresh: Mapping[int, Entry], cache: AnnotationCache | None) -> dict[str, np.ndarray]:
    """The arrays of a file with the fresh sequences, and those of the old file that are still of use."""
    entries = {keys[index]: entry for index, entry in fresh.items()}
    if cache is not None:
        entries |= {key: cache.entry(key) for key in keys if key in cache}
    infos, names = zip(*entries.values(), strict=True)
    suffixes = sorted({each.suffix for each in names})
    return {
        "keys": np.frombuffer(b"".join(entries), np.uint8).reshape(-1, _KEY_BYTES),
        "ends": np.cumsum([0, *map(len, infos)], dtype=np.int64),
        "names": np.array([(each.start, each.digits, suffixes.index(each.suffix)) for each in names], np.int64),
        "suffixes": np.array(suffixes),
        "boxes": np.concatenate([info.boxes for info in infos]),
        "visible": np.concatenate([info.visible for info in infos]),
    }


def kept_arrays(
    storage: Storage, name: str, source: str, read: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays that were made from one large annotation file, and are kept as long as that does not change.

    Args:
        storage: of the data set; it says where to keep them.
        name: what tells these arrays from others of the same data set.
        source: storage path of the annotation file.
        read: makes the arrays from it.
    """
    if storage.cache is None:
        return read()
    path, key = cache_file(storage, name), np.frombuffer(sequence_key(storage, [source]), np.uint8)
    fresh: dict[str, np.ndarray] | None = None
    try:
        with locked(path.parent):
            kept = _whole(read_arrays, path) or {}
            if np.array_equal(kept.pop("key", None), key):
                return kept
            fresh = read()
            write_arrays(path, fresh | {"key": key})
    except OSError as error:
        log.warning(_UNKEPT, name, path, error.strerror)
    return read() if fresh is None else fresh


def cache_file(storage: Storage, name: str) -> Path:
    """Where annotations of a data set at a storage are kept; the storage has to say in which folder."""
    place = hashlib.blake2b(repr((name, storage.locate())).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    readable = "".join(char if char.isalnum() or char in "-_" else "-" for char in name)[-40:]
    return storage.cache / f"{readable}-{place}.arrays"
