"""The files of a data set behind one interface, so that each layout is written once for folders and LMDB.

Paths are relative to the data set's root; texts use "/", and "" is the root.
"""

import errno
import hashlib
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePath

import lmdb
import numpy as np

from ..utils.errors import UserError
from ..utils.files import atomic_path, decode_text, locked
from .images import ImageReadError, Picture, decode_image, open_picture

DATA_FILE = "data.mdb"
# Changes with the content of annotation caches, or the way it is read from the annotations.
_CACHE_VERSION = 5
_MAP_BYTES = 1 << 42  # addresses that an LMDB may fill while it is written; its file takes what it holds
_BATCH = 500  # files written in one transaction
Arrays = dict[str, np.ndarray]
AnyPath = str | PurePath
log = logging.getLogger(__name__)


class Storage:
    """Files below an existing folder; below "" paths are whole, or start at the working directory."""

    cache: Path | None = None  # folder of the annotation caches; None for no cache

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.fspath(root)

    def names(self, folder: AnyPath = "") -> list[str]:
        """Sorted names of what lies directly in a folder, without hidden ones; empty where the folder is missing."""
        try:
            return sorted(name for name in os.listdir(self.locate(folder)) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: AnyPath) -> bool:
        """Whether a file or folder has that path."""
        return os.path.exists(self.locate(path))

    def locate(self, path: AnyPath = "") -> str:
        """The whole path, also for messages."""
        return os.path.join(self.root, path) if path else self.root

    def stamp(self, path: AnyPath) -> tuple[int, ...] | None:
        """Numbers that change when a file or a folder's content changes; None where the path is missing."""
        try:
            status = os.stat(self.locate(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        # Tools that copy a file may keep its modification time; the change time (ctime) is that of the replacement.
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def read_bytes(self, path: AnyPath, error_type: type[UserError] = UserError) -> bytes:
        """Content of a file; an error of `error_type` where there is no such file, or it cannot be read."""
        try:
            return self._read(path)
        except OSError as error:
            raise error_type(f"cannot read {self.locate(path)}: {error.strerror}") from error

    def image(self, path: AnyPath) -> np.ndarray:
        """An image as (H, W, 3) uint8 RGB; raises an `ImageReadError` where there is none."""
        return decode_image(self.read_bytes(path, ImageReadError), self.locate(path))

    def picture(self, path: AnyPath) -> Picture:
        """The same, to be decoded where it is needed; it may also be found to be cut off."""
        return open_picture(self.read_bytes(path, ImageReadError), self.locate(path))

    def text(self, path: AnyPath) -> str:
        """Content of a UTF-8 file, with or without a byte-order mark; raises a `UserError` where there is none."""
        return decode_text(self.read_bytes(path), self.locate(path))

    def cached_arrays(self, name: str, sources: Iterable[AnyPath], read: Callable[[], Arrays]) -> Arrays:
        """What `read` makes from the annotation files of a data set, cached in one file until one of `sources` changes.

        Those are the paths of all files and folders that are read, present or missing. Processes wait for the one that
        makes the cache.
        """
        if self.cache is None:
            return read()
        readable = re.sub(r"[\W_]", "-", name)[-40:]
        path = self.cache / f"{readable}-{_digest((name, self.locate()), 4).hex()}.npz"
        key = np.frombuffer(_digest([_CACHE_VERSION, *((each, self.stamp(each)) for each in sources)], 16), np.uint8)
        arrays: Arrays | None = None
        try:
            with locked(path):
                # A file that is missing or damaged is made anew.
                with suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile), np.load(path) as file:
                    if np.array_equal(file["key"], key):
                        return dict(file)
                arrays = read()
                with atomic_path(path) as temporary, open(temporary, "wb") as file:
                    np.savez(file, key=key, **arrays)
        except OSError as error:
            again = "annotations are read again next time"
            log.warning("%s: cannot write the annotation cache %s (%s): %s", name, path, error.strerror, again)
        return read() if arrays is None else arrays

    def _read(self, path: AnyPath) -> bytes:
        """Content of a file; raises an OSError where there is no such file, or it cannot be read."""
        with open(self.locate(path), "rb") as file:
            return file.read()


def _digest(content: object, size: int) -> bytes:
    return hashlib.blake2b(repr(content).encode(), digest_size=size).digest()


# Environments by path, with the process that opened each: LMDB refuses to open a file twice in one process, and
# training and validation may share one.
_opened: dict[Path, tuple[lmdb.Environment, int]] = {}


class LmdbStorage(Storage):
    """Files of an LMDB. It is opened when first read, anew in each process; the object can be pickled."""

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(Path(path).resolve())

    @staticmethod
    def is_lmdb(path: Path) -> bool:
        """Whether there is an LMDB at a path, by the name of its file."""
        return (path / DATA_FILE).is_file()

    def names(self, folder: AnyPath = "") -> list[str]:
        prefix, names = _key(folder) + b"/" * bool(folder), []
        with self._cursor() as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                name, slash, _ = cursor.key()[len(prefix) :].partition(b"/")
                names.append(os.fsdecode(name))
                # What is deeper down is skipped as a whole: "0" comes right after "/".
                found = cursor.set_range(prefix + name + b"0") if slash else cursor.next()
        return sorted(name for name in names if not name.startswith("."))

    def exists(self, path: AnyPath) -> bool:
        with self._cursor() as cursor:
            key = _key(path)
            inside = key + b"/"
            return not key or cursor.set_key(key) or (cursor.set_range(inside) and cursor.key().startswith(inside))

    def locate(self, path: AnyPath = "") -> str:
        return f"{self.root}:{path}" if path else self.root

    def stamp(self, path: AnyPath) -> tuple[int, ...] | None:
        return Storage(self.root).stamp(DATA_FILE)  # of the LMDB as a whole

    def _read(self, path: AnyPath) -> bytes:
        with self._cursor() as cursor:
            data = cursor.get(_key(path))
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return data

    @contextmanager
    def _cursor(self) -> Iterator[lmdb.Cursor]:
        with _environment(Path(self.root)).begin() as transaction, transaction.cursor() as cursor:
            yield cursor


def _key(path: AnyPath) -> bytes:
    return os.fsencode(path if isinstance(path, str) else path.as_posix())


def write_lmdb(folder: Path, source: Storage, paths: Iterable[str]) -> None:
    """Write files into an LMDB in an existing folder, under their paths in the storage `source`."""
    paths = iter(paths)
    try:
        with lmdb.open(str(folder), map_size=_MAP_BYTES, lock=False) as environment:
            while batch := list(islice(paths, _BATCH)):
                with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                    cursor.putmulti((os.fsencode(path), source.read_bytes(path)) for path in batch)
    except lmdb.Error as error:
        raise UserError(f"cannot write the LMDB {folder}: {error}") from error


def _environment(path: Path) -> lmdb.Environment:
    """An LMDB, opened in this process: without a lock file, for read-only disks, and without read-ahead."""
    environment, process = _opened.get(path, (None, 0))
    if process == os.getpid():
        return environment
    if environment is not None:
        environment.close()  # The parent's, inherited by a fork: its own stays open.
    try:
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise UserError(f"cannot open the LMDB {path}: {error}; pack it again (tracking/make_lmdb.py)") from error
    # Reading beyond the end of a file that is too short would kill the process.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (path / DATA_FILE).stat().st_size
    if size < needed:
        environment.close()
        raise UserError(f"the LMDB {path} has {size} of its {needed} bytes: copy or pack it again")
    _opened[path] = environment, os.getpid()
    return environment
