"""The files of a data set behind one interface, so that each layout is written once for folders and LMDB.

Paths are relative to the data set's root and use "/"; "" is the root.
"""

import errno
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np

from lib.data.images import ImageReadError, Picture, decode_image, open_picture
from lib.utils.errors import UserError

DATA_FILE = "data.mdb"


class Storage(ABC):
    """Files below one root, to be read.

    Attributes:
        cache: folder of the annotation caches; None for no cache.
    """

    cache: Path | None = None

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Sorted names of what lies directly in a folder, without hidden ones; empty where the folder is missing."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file or folder has that path."""

    @abstractmethod
    def locate(self, path: str = "") -> str:
        """A path for messages."""

    @abstractmethod
    def stamp(self, path: str) -> tuple[int, ...] | None:
        """Numbers that change when a file or a folder's content changes; None where the path is missing."""

    @abstractmethod
    def _read(self, path: str) -> bytes:
        """Content of a file.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """

    def read_bytes(self, path: str) -> bytes:
        """Content of a file.

        Raises:
            UserError: there is no such file, or it cannot be read.
        """
        try:
            return self._read(path)
        except OSError as error:
            raise UserError(f"cannot read {self.locate(path)}: {error.strerror or error}") from error

    def image(self, path: str) -> np.ndarray:
        """An image as (H, W, 3) uint8 RGB.

        Raises:
            ImageReadError: the file is missing, empty or not an image.
        """
        return decode_image(self._image_bytes(path), self.locate(path))

    def picture(self, path: str) -> Picture:
        """The same, to be decoded where it is needed.

        Raises:
            ImageReadError: the file is missing, empty, cut off or not an image.
        """
        return open_picture(self._image_bytes(path), self.locate(path))

    def _image_bytes(self, path: str) -> bytes:
        """Content of an image's file."""
        try:
            return self._read(path)
        except OSError as error:
            raise ImageReadError(f"cannot read image {self.locate(path)}: {error.strerror or error}") from error

    def lines(self, path: str) -> list[str]:
        """The lines of a text file, stripped, without empty ones.

        Raises:
            UserError: the file cannot be read or is not text.
        """
        return [line.strip() for line in self.text(path).splitlines() if line.strip()]

    def text(self, path: str) -> str:
        """Content of a UTF-8 file, with or without a byte-order mark; errors as of `lines`."""
        try:
            return self.read_bytes(path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.locate(path)} is not a text file: byte {error.start} is not UTF-8") from error


class FolderStorage(Storage):
    """Files as they are.

    Args:
        root: an existing folder; "" for paths that are whole, or start at the working directory.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.fspath(root)

    def names(self, folder: str = "") -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.locate(folder)) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"cannot list {self.locate(folder)}: {error.strerror}") from error

    def exists(self, path: str) -> bool:
        return os.path.exists(self.locate(path))

    def locate(self, path: str = "") -> str:
        return os.path.join(self.root, path) if path else str(self.root)

    def stamp(self, path: str) -> tuple[int, ...] | None:
        return file_stamp(self.locate(path))

    def _read(self, path: str) -> bytes:
        with open(self.locate(path), "rb") as file:
            return file.read()


def file_stamp(path: str | os.PathLike) -> tuple[int, ...] | None:
    """Size and times of a file or folder; None where there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    # The second time is set by the system alone: it changes where a file is replaced by one with the first time copied.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True)
class _Opened:
    """An environment and the process that opened it."""

    environment: lmdb.Environment
    process: int


# LMDB refuses to open a file twice in one process, and training and validation may share one.
_opened: dict[str, _Opened] = {}


class LmdbStorage(Storage):
    """Files of an LMDB. It is opened when first read, anew in each process; the object can be pickled.

    Args:
        path: the LMDB's folder (with `data.mdb`), or the one file that it is.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).resolve()

    @staticmethod
    def is_lmdb(path: Path) -> bool:
        """Whether there is an LMDB at a path, by its name."""
        return (path / DATA_FILE).is_file() or (path.is_file() and path.suffix in (".mdb", ".lmdb"))

    def entries(self) -> int:
        """Number of keys."""
        return self._environment().stat()["entries"]

    def close(self) -> None:
        """Let go of the file, for all that read it in this process; the next read opens it again."""
        opened = _opened.pop(str(self.path), None)
        if opened is not None:
            opened.environment.close()

    def names(self, folder: str = "") -> list[str]:
        prefix = _key(f"{folder}/" if folder else "")
        names = []
        with self._environment().begin() as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                name, slash, _ = cursor.key()[len(prefix) :].partition(b"/")
                names.append(os.fsdecode(name))
                # What is deeper down is skipped as a whole: "0" comes right after "/".
                found = cursor.set_range(prefix + name + b"0") if slash else cursor.next()
        return sorted(name for name in names if not name.startswith("."))

    def exists(self, path: str) -> bool:
        key = _key(path)
        with self._environment().begin() as transaction, transaction.cursor() as cursor:
            return cursor.set_key(key) or (cursor.set_range(key + b"/") and cursor.key().startswith(key + b"/"))

    def locate(self, path: str = "") -> str:
        return f"{self.path}:{path}" if path else str(self.path)

    def stamp(self, path: str) -> tuple[int, ...] | None:
        # of the LMDB as a whole
        return file_stamp(_data_file(self.path))

    def _read(self, path: str) -> bytes:
        try:
            with self._environment().begin() as transaction:
                data = transaction.get(_key(path))
        except lmdb.Error as error:
            raise OSError(errno.EIO, str(error)) from error
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return data

    def _environment(self) -> lmdb.Environment:
        """The LMDB, opened in this process."""
        key = str(self.path)
        opened = _opened.get(key)
        if opened is None or opened.process != os.getpid():
            if opened is not None:
                opened.environment.close()  # The parent's, inherited by a fork: its own stays open.
            opened = _opened[key] = _Opened(_open(self.path), os.getpid())
        return opened.environment


def _key(path: str) -> bytes:
    return os.fsencode(path)


def _data_file(path: Path) -> Path:
    return path / DATA_FILE if path.is_dir() else path


def _open(path: Path) -> lmdb.Environment:
    """Open for reading. No lock file, so that a read-only disk will do; no read-ahead, since access is random."""
    try:
        environment = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, meminit=False
        )
    except lmdb.Error as error:
        raise UserError(f"cannot open the LMDB {path}: {error}; pack it again (tracking/make_lmdb.py)") from error
    # Reading beyond the end of a file that is too short would kill the process.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = _data_file(path).stat().st_size
    if size < needed:
        environment.close()
        raise UserError(f"the LMDB {path} has {size} of its {needed} bytes: copy or pack it again")
    return environment
