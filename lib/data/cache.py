"""Cache of annotations: a data set's arrays in one file, so that its annotations are parsed once.

Annotations are small files, one or several a sequence; opening and parsing them takes seconds to minutes. The cache
holds a hash of the sizes and times of the files it was made from: where one of them changes, all are read again.
"""

import hashlib
import logging
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from lib.data.storage import Storage
from lib.utils.files import atomic_path, locked

# Changes with the content of the cache, or the way it is read from the annotations.
_VERSION = 3
log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]


def cached_arrays(storage: Storage, name: str, sources: Iterable[str], read: Callable[[], Arrays]) -> Arrays:
    """Arrays made from annotation files, cached until one of these changes. Processes wait for the one that makes it.

    Args:
        storage: of the data set; without a cache folder `read` is called each time.
        name: of the data set.
        sources: storage paths of the files and folders that are read, present or missing.
        read: makes the arrays from them.
    """
    if storage.cache is None:
        return read()
    place = hashlib.blake2b(repr((name, storage.locate())).encode(), digest_size=4).hexdigest()
    readable = "".join(char if char.isalnum() or char in "-_" else "-" for char in name)[-40:]
    path = storage.cache / f"{readable}-{place}.npz"
    state = repr([_VERSION, *((source, storage.stamp(source)) for source in sources)])
    key = hashlib.blake2b(state.encode(errors="surrogateescape"), digest_size=16).digest()
    fresh: Arrays | None = None
    try:
        with locked(path):
            cached = _read(path)
            if cached is not None and bytes(cached.get("key", b"")) == key:
                return cached
            fresh = read()
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, key=np.frombuffer(key, np.uint8), **fresh)
    except OSError as error:
        log.warning(
            "%s: cannot write the annotation cache %s (%s): annotations are read again next time",
            *(name, path, error.strerror),
        )
    return read() if fresh is None else fresh


def _read(path: Path) -> Arrays | None:
    """All arrays of a file, checked by its own checksums; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged (%s): it is made again", path, error)
        return None
