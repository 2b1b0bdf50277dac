"""Cache of annotations: all of a data set in one file, so that they are parsed once.

Annotations are small files, one or several a sequence; opening and parsing them takes seconds to minutes. The cache has
a key for each sequence, made from the sizes and times of the files it was read from, so that a changed sequence is read
again, and only that. A sequence that cannot be read is not cached: the error names it when it is sampled.
"""

import hashlib
import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.data.dataset import SequenceInfo
from lib.data.sequence import NumberedNames
from lib.data.storage import Storage
from lib.utils.errors import UserError
from lib.utils.files import atomic_path, locked

# Changes with the content of the cache, or the way it is read from the annotations.
_VERSION = 2
_KEY_BYTES = 16
_SECONDS_UNTIL_PROGRESS = 2.0
_CANNOT_WRITE = "%s: cannot write the annotation cache %s (%s): annotations are read again next time"
log = logging.getLogger(__name__)

# Annotation of a sequence, and names of its frames.
Entry = tuple[SequenceInfo, Sequence[str]]


class AnnotationCache:
    """Cached annotations. `arrays` as `_pack` makes them; sending the object to a process sends only the path."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        self.path = path
        self._boxes, self._visible, self._ends = arrays["boxes"], arrays["visible"], arrays["ends"]
        self._names, self._suffixes = arrays["names"], arrays["suffixes"]
        self._places = {key.tobytes(): place for place, key in enumerate(arrays["keys"])}

    def __reduce__(self) -> tuple:
        return _open_cache, (self.path,)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def entry(self, key: bytes) -> Entry:
        """The cached annotation of the sequence with a key."""
        place = self._places[key]
        frames = slice(int(self._ends[place]), int(self._ends[place + 1]))
        boxes = self._boxes[frames]
        start, digits, suffix = self._names[place].tolist()
        names = NumberedNames(start, digits, str(self._suffixes[suffix]), len(boxes))
        return SequenceInfo(boxes, (boxes[:, 2] > 0) & (boxes[:, 3] > 0), self._visible[frames]), names


def sequence_key(storage: Storage, paths: Sequence[str]) -> bytes:
    """A hash of the state of a sequence's files and folders (storage paths), present or missing."""
    state = repr([_VERSION, *((path, storage.stamp(path)) for path in paths)])
    return hashlib.blake2b(state.encode(errors="surrogateescape"), digest_size=_KEY_BYTES).digest()


def gather(path: Path, name: str, keys: Sequence[bytes], load: Callable[[int], Entry]) -> AnnotationCache | None:
    """The cache of a data set, made or completed first. Processes wait for the one that makes it.

    Args:
        path: of the cache.
        name: of the data set, for messages.
        keys: of all its sequences.
        load: reads a sequence's annotation; a sequence that raises a `UserError` is left out.

    Returns:
        The cache; None where it cannot be written or would be empty.
    """
    try:
        with locked(path):
            cache = _open_cache(path)
            missing = [index for index, key in enumerate(keys) if cache is None or key not in cache]
            fresh = dict(_load_all(missing, name, load))
            if fresh:
                _write(path, _pack(keys, fresh, cache))
                cache = _open_cache(path)
    except OSError as error:
        log.warning(_CANNOT_WRITE, name, path, error.strerror)
        return None
    return cache


def cached_arrays(
    storage: Storage, name: str, source: str, read: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays made from one large annotation file, cached until that file changes.

    Args:
        storage: of the data set; without a cache folder `read` is called each time.
        name: of the data set.
        source: storage path of the annotation file.
        read: makes the arrays from it.
    """
    if storage.cache is None:
        return read()
    path, key = cache_file(storage, name), np.frombuffer(sequence_key(storage, [source]), np.uint8)
    fresh: dict[str, np.ndarray] | None = None
    try:
        with locked(path):
            cached = _read(path) or {}
            if np.array_equal(cached.pop("key", None), key):
                return cached
            fresh = read()
            _write(path, fresh | {"key": key})
    except OSError as error:
        log.warning(_CANNOT_WRITE, name, path, error.strerror)
    return read() if fresh is None else fresh


def cache_file(storage: Storage, name: str) -> Path:
    """Path of the cache of a data set in a storage with a cache folder."""
    place = hashlib.blake2b(repr((name, storage.locate())).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    readable = "".join(char if char.isalnum() or char in "-_" else "-" for char in name)[-40:]
    return storage.cache / f"{readable}-{place}.npz"


def _open_cache(path: Path) -> AnnotationCache | None:
    """The cache at a path; None where it is missing or damaged."""
    arrays = _read(path)
    try:
        return None if arrays is None else AnnotationCache(path, arrays)
    except KeyError:
        return None


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """All arrays of a file, checked by its own checksums; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged (%s): it is made again", path, error)
        return None


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def _load_all(indices: Sequence[int], name: str, load: Callable[[int], Entry]) -> Iterator[tuple[int, Entry]]:
    """The sequences that can be read, and whose frames' names count up."""
    description = f"reading the annotations of {name}, once"
    for index in tqdm(indices, description, unit="sequence", delay=_SECONDS_UNTIL_PROGRESS, leave=False, disable=None):
        try:
            info, names = load(index)
        except UserError:
            continue  # raised again when the sequence is sampled
        if isinstance(names, NumberedNames):
            yield index, (info, names)


def _pack(keys: Sequence[bytes], fresh: Mapping[int, Entry], cache: AnnotationCache | None) -> dict[str, np.ndarray]:
    """The arrays of a cache with the fresh sequences, and those of the old cache that are still valid."""
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
