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
from contextlib import contextmanager
from pathlib import Path, PurePath

import lmdb
import numpy as np

from ..utils.errors import UserError
from ..utils.files import atomic_path, decode_text, locked
from .images import ImageReadError, Picture, decode_image, open_picture

DATA_FILE = "data.mdb"
# Changes with the content of annotation caches, or the way it is read from the annotations.
_CACHE_VERSION = 5
_FIRST_MAP_BYTES = 1 << 30  # of an LMDB that is written; it grows
_LONGEST_KEY = 511  # bytes; LMDB's own limit
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
            return sorted(name for name in self._names(folder) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"cannot list {self.locate(folder)}: {error.strerror}") from error

    def exists(self, path: AnyPath) -> bool:
        return os.path.exists(self._path(path))

    def locate(self, path: AnyPath = "") -> str:
        """The whole path for messages; bytes that are not UTF-8 are replaced, since logs do not take them."""
        return os.fsencode(self._path(path)).decode(errors="replace")

    def stamp(self, path: AnyPath) -> tuple[int, ...] | None:
        """Numbers that change when a file or a folder's content changes; None where the path is missing."""
        try:
            status = os.stat(self._path(path))
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
                cached = _read_arrays(path) if path.exists() else {}
                if np.array_equal(cached.get("key"), key):
                    return cached
                arrays = read()
                with atomic_path(path) as temporary, open(temporary, "wb") as file:
                    np.savez(file, key=key, **arrays)
        except OSError as error:
            again = "annotations are read again next time"
            log.warning("%s: cannot write the annotation cache %s (%s): %s", name, path, error.strerror, again)
        return read() if arrays is None else arrays

    def _read(self, path: AnyPath) -> bytes:
        """Content of a file; raises an OSError where there is no such file, or it cannot be read."""
        with open(self._path(path), "rb") as file:
            return file.read()

    def _names(self, folder: AnyPath) -> list[str]:
        return os.listdir(self._path(folder))

    def _path(self, path: AnyPath) -> str:
        return os.path.join(self.root, path) if path else self.root


def _digest(content: object, size: int) -> bytes:
    return hashlib.blake2b(repr(content).encode(), digest_size=size).digest()


def _read_arrays(path: Path) -> Arrays:
    """All arrays of a file; none where it is damaged."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged (%s): it is made again", path, error)
        return {}


# Environments by path, with the process that opened each: LMDB refuses to open a file twice in one process, and
# training and validation may share one.
_opened: dict[Path, tuple[lmdb.Environment, int]] = {}


class LmdbStorage(Storage):
    """Files of an LMDB. It is opened when first read, anew in each process; the object can be pickled.

    Its folder holds `data.mdb`; or, as TrackingNet is published, `seq_list.json` and an LMDB for each part, such as
    `TRAIN_0_lmdb` with the files of `TRAIN_0/`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(Path(path).resolve())
        self._parts = {each.name.removesuffix("_lmdb"): each for each in _part_folders(Path(self.root))}

    @staticmethod
    def is_lmdb(path: Path) -> bool:
        """Whether there is an LMDB at a path, or one for each part, by their names."""
        return (path / DATA_FILE).is_file() or bool(_part_folders(path))

    def entries(self) -> int:
        return sum(_environment(path).stat()["entries"] for path in self._parts.values() or [Path(self.root)])

    def close(self) -> None:
        """Close the files, for all that read them in this process; the next read opens them again."""
        for path in self._parts.values() or [Path(self.root)]:
            if path in _opened:
                _opened.pop(path)[0].close()

    def exists(self, path: AnyPath) -> bool:
        with self._cursor(path) as (cursor, key):
            if not key:
                return cursor is not None
            inside = key + b"/"
            return cursor.set_key(key) or (cursor.set_range(inside) and cursor.key().startswith(inside))

    def stamp(self, path: AnyPath) -> tuple[int, ...] | None:
        part, _, _ = _text(path).partition("/")
        return Storage(self._parts.get(part, self.root)).stamp(DATA_FILE)  # of the LMDB as a whole

    def _names(self, folder: AnyPath) -> list[str]:
        if self._parts and not folder:
            return list(self._parts)
        with self._cursor(folder) as (cursor, key):
            prefix, names = key + b"/" * bool(key), []
            found = cursor is not None and cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                name, slash, _ = cursor.key()[len(prefix) :].partition(b"/")
                names.append(os.fsdecode(name))
                # What is deeper down is skipped as a whole: "0" comes right after "/".
                found = cursor.set_range(prefix + name + b"0") if slash else cursor.next()
        return names

    def _path(self, path: AnyPath) -> str:
        return f"{self.root}:{path}" if path else self.root

    def _read(self, path: AnyPath) -> bytes:
        with self._cursor(path) as (cursor, key):
            data = cursor.get(key) if key else None
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return data

    @contextmanager
    def _cursor(self, path: AnyPath) -> Iterator[tuple[lmdb.Cursor | None, bytes]]:
        """A cursor of the LMDB that has a path, and the path's key in it; None and no key where no part has it."""
        place, key = Path(self.root), _text(path)
        if self._parts:
            part, _, key = key.partition("/")
            place = self._parts.get(part)
        if place is None:
            yield None, b""
            return
        try:
            with _environment(place).begin() as transaction, transaction.cursor() as cursor:
                yield cursor, os.fsencode(key)
        except lmdb.Error as error:
            raise OSError(errno.EIO, str(error)) from error


def _part_folders(folder: Path) -> list[Path]:
    """The LMDBs of a data set's parts in a folder."""
    if not (folder / "seq_list.json").is_file():  # a folder of several data sets
        return []
    return sorted(path.parent for path in folder.glob(f"*_lmdb/{DATA_FILE}"))


def _text(path: AnyPath) -> str:
    return path if isinstance(path, str) else path.as_posix()


def write_lmdb(folder: Path, source: Storage, paths: Iterable[str]) -> None:
    """Write files into an LMDB in an existing folder, under their paths in the storage `source`."""
    try:
        # It reaches the disk once, at the end: what is interrupted is removed.
        with lmdb.open(os.fsencode(folder), map_size=_FIRST_MAP_BYTES, lock=False, sync=False) as environment:
            for path in paths:
                key, content = os.fsencode(path), source.read_bytes(path)
                if len(key) > _LONGEST_KEY:
                    raise UserError(f"the path {path[:60]}… is longer than the {_LONGEST_KEY} bytes that LMDB allows")
                while True:
                    try:
                        with environment.begin(write=True) as transaction:
                            transaction.put(key, content)
                        break
                    except lmdb.MapFullError:
                        environment.set_mapsize(2 * environment.info()["map_size"])
            environment.sync(True)
    except lmdb.Error as error:
        raise UserError(f"cannot write the LMDB {folder}: {error}; make room there") from error


def _environment(path: Path) -> lmdb.Environment:
    """An LMDB, opened in this process: without a lock file, for read-only disks, and without read-ahead."""
    environment, process = _opened.get(path, (None, 0))
    if process == os.getpid():
        return environment
    if environment is not None:
        environment.close()  # The parent's, inherited by a fork: its own stays open.
    try:
        environment = lmdb.open(os.fsencode(path), readonly=True, lock=False, readahead=False, meminit=False)
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
