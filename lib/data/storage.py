"""The files of a data set behind one interface, so that each layout is written once for folders and LMDB.

Paths are relative to the data set's root and use "/"; "" is the root.
"""

import errno
import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import lmdb
import numpy as np

from ..utils.errors import UserError
from ..utils.files import atomic_path, decode_text, locked
from .images import ImageReadError, Picture, decode_image, open_picture

DATA_FILE = "data.mdb"
# Changes with the content of annotation caches, or the way it is read from the annotations.
_CACHE_VERSION = 4
Arrays = dict[str, np.ndarray]
log = logging.getLogger(__name__)


class Storage:
    """Files below an existing folder; below "" paths are whole, or start at the working directory."""

    cache: Path | None = None  # folder of the annotation caches; None for no cache

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.fspath(root)

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of what lies directly in a folder, without hidden ones; empty where the folder is missing."""
        try:
            return sorted(name for name in os.listdir(self._path(folder)) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"cannot list {self.locate(folder)}: {error.strerror}") from error

    def exists(self, path: str) -> bool:
        """Whether a file or folder has that path."""
        return os.path.exists(self._path(path))

    def locate(self, path: str = "") -> str:
        """A path for messages."""
        return _printable(self._path(path))

    def stamp(self, path: str) -> tuple[int, ...] | None:
        """Numbers that change when a file or a folder's content changes; None where the path is missing."""
        return _file_stamp(self._path(path))

    def read_bytes(self, path: str, error_type: type[UserError] = UserError) -> bytes:
        """Content of a file; an error of `error_type` where there is no such file, or it cannot be read."""
        try:
            return self._read(path)
        except OSError as error:
            raise error_type(f"cannot read {self.locate(path)}: {error.strerror or error}") from error

    def image(self, path: str) -> np.ndarray:
        """An image as (H, W, 3) uint8 RGB; raises an `ImageReadError` where there is none."""
        return decode_image(self.read_bytes(path, ImageReadError), self.locate(path))

    def picture(self, path: str) -> Picture:
        """The same, to be decoded where it is needed; it may also be found to be cut off."""
        return open_picture(self.read_bytes(path, ImageReadError), self.locate(path))

    def text(self, path: str) -> str:
        """Content of a UTF-8 file, with or without a byte-order mark; raises a `UserError` where there is none."""
        return decode_text(self.read_bytes(path), self.locate(path))

    def cached_arrays(self, name: str, sources: Iterable[str], read: Callable[[], Arrays]) -> Arrays:
        """What `read` makes from the annotation files of a data set, cached in one file until one of `sources` changes.

        Those are the paths of all files and folders that are read, present or missing: small files, one or several a
        sequence, whose opening and parsing takes seconds to minutes. Processes wait for the one that makes the cache.
        """
        if self.cache is None:
            return read()
        place = hashlib.blake2b(repr((name, self.locate())).encode(), digest_size=4).hexdigest()
        path = self.cache / f"{''.join(char if char.isalnum() else '-' for char in name)[-40:]}-{place}.npz"
        state = repr([_CACHE_VERSION, *((source, self.stamp(source)) for source in sources)])
        key = hashlib.blake2b(state.encode(errors="surrogateescape"), digest_size=16).digest()
        arrays: Arrays | None = None
        try:
            with locked(path):
                cached = _read_arrays(path)
                if "key" in cached and cached["key"].tobytes() == key:
                    return cached
                arrays = read()
                with atomic_path(path) as temporary, open(temporary, "wb") as file:
                    np.savez(file, key=np.frombuffer(key, np.uint8), **arrays)
        except OSError as error:
            again = "annotations are read again next time"
            log.warning("%s: cannot write the annotation cache %s (%s): %s", name, path, error.strerror, again)
        return read() if arrays is None else arrays

    def _read(self, path: str) -> bytes:
        """Content of a file; raises an OSError where there is no such file, or it cannot be read."""
        with open(self._path(path), "rb") as file:
            return file.read()

    def _path(self, path: str) -> str:
        return os.path.join(self.root, path) if path else self.root


def _printable(path: str | os.PathLike) -> str:
    """A path for messages; bytes that are not UTF-8 are replaced, since logs and terminals do not take them."""
    return os.fsencode(path).decode(errors="replace")


def _file_stamp(path: str | os.PathLike) -> tuple[int, ...] | None:
    """Size and times of a file or folder; None where there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    # Tools that copy a file may keep its modification time; the change time (ctime) always is that of the replacement.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_arrays(path: Path) -> Arrays:
    """All arrays of a file, checked by its own checksums; none where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        return {}
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
        self.path = Path(path).resolve()
        self._parts = {each.name.removesuffix("_lmdb"): each for each in _part_folders(self.path)}

    @staticmethod
    def is_lmdb(path: Path) -> bool:
        """Whether there is an LMDB at a path, or one for each part, by their names."""
        return (path / DATA_FILE).is_file() or bool(_part_folders(path))

    def entries(self) -> int:
        """Number of keys."""
        return sum(_environment(path).stat()["entries"] for path in self._parts.values() or [self.path])

    def close(self) -> None:
        """Close the files, for all that read them in this process; the next read opens them again."""
        for path in self._parts.values() or [self.path]:
            if path in _opened:
                _opened.pop(path)[0].close()

    def names(self, folder: str = "") -> list[str]:
        if self._parts and not folder:
            return sorted(self._parts)
        environment, key = self._find(folder)
        if environment is None:
            return []
        prefix, names = key + b"/" * bool(key), []
        with environment.begin() as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                name, slash, _ = cursor.key()[len(prefix) :].partition(b"/")
                names.append(os.fsdecode(name))
                # What is deeper down is skipped as a whole: "0" comes right after "/".
                found = cursor.set_range(prefix + name + b"0") if slash else cursor.next()
        return sorted(name for name in names if not name.startswith("."))

    def exists(self, path: str) -> bool:
        environment, key = self._find(path)
        if environment is None or not key:
            return environment is not None
        with environment.begin() as transaction, transaction.cursor() as cursor:
            return cursor.set_key(key) or (cursor.set_range(key + b"/") and cursor.key().startswith(key + b"/"))

    def locate(self, path: str = "") -> str:
        return _printable(f"{self.path}:{path}" if path else self.path)

    def stamp(self, path: str) -> tuple[int, ...] | None:
        return _file_stamp(self._parts.get(path.partition("/")[0], self.path) / DATA_FILE)  # of the LMDB as a whole

    def _read(self, path: str) -> bytes:
        data, (environment, key) = None, self._find(path)
        if environment is not None and key:
            try:
                with environment.begin() as transaction:
                    data = transaction.get(key)
            except lmdb.Error as error:
                raise OSError(errno.EIO, str(error)) from error
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return data

    def _find(self, path: str) -> tuple[lmdb.Environment | None, bytes]:
        """The LMDB that has a path, and the path's key in it; None where no part has it."""
        if not self._parts:
            return _environment(self.path), os.fsencode(path)
        part, _, rest = path.partition("/")
        return (_environment(self._parts[part]) if part in self._parts else None), os.fsencode(rest)


def _part_folders(folder: Path) -> list[Path]:
    """The LMDBs of a data set's parts in a folder."""
    if not (folder / "seq_list.json").is_file():  # a folder of several data sets
        return []
    return sorted(path.parent for path in folder.glob(f"*_lmdb/{DATA_FILE}"))


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
