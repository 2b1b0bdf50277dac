"""Where the files of a data set lie: one interface, so that a data set is written once for folders and LMDB.

Paths are relative to the data set's root and use "/"; "" is the root.
"""

import errno
import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from lib.data.box_files import parse_boxes, parse_flags
from lib.data.images import ImageReadError, decode_image
from lib.data.picture import Picture, open_picture
from lib.utils.errors import UserError


class Storage(ABC):
    """Files below one root, to be read.

    Attributes:
        cache: folder for files with what is worth keeping of them in another form; None keeps nothing.
    """

    cache: Path | None = None

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Sorted names of what lies directly in a folder, without hidden ones; empty if there is no such folder."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of that path."""

    @abstractmethod
    def locate(self, path: str = "") -> str:
        """A path as a user knows it, for messages."""

    @abstractmethod
    def stamp(self, path: str) -> tuple[int, ...] | None:
        """Numbers that change when a file does, or what is in a folder; None where there is nothing of that path."""

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

    def boxes(self, path: str) -> np.ndarray:
        """One xywh box a line: (N, 4) float64, nan where the file says so (see `parse_boxes`)."""
        return parse_boxes(self.read_bytes(path), self.locate(path))

    def flags(self, path: str) -> np.ndarray:
        """Whole numbers of a label file: (N,) int64 (see `parse_flags`)."""
        return parse_flags(self.read_bytes(path), self.locate(path))

    def lines(self, path: str) -> list[str]:
        """The lines of a text file, stripped, without empty ones.

        Raises:
            UserError: the file cannot be read or is not text.
        """
        try:
            text = self.read_bytes(path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.locate(path)} is not a text file: byte {error.start} is not UTF-8") from error
        return [line.strip() for line in text.splitlines() if line.strip()]


class FolderStorage(Storage):
    """Files as they are.

    Args:
        root: an existing folder; "" for paths that are whole, or start at the working directory.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.fspath(root)

    def names(self, folder: str = "") -> list[str]:
        """See `Storage.names`."""
        try:
            return sorted(name for name in os.listdir(self.locate(folder)) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"cannot list {self.locate(folder)}: {error.strerror}") from error

    def exists(self, path: str) -> bool:
        """See `Storage.exists`."""
        return os.path.exists(self.locate(path))

    def locate(self, path: str = "") -> str:
        """See `Storage.locate`."""
        return os.path.join(self.root, path) if path else str(self.root)

    def stamp(self, path: str) -> tuple[int, ...] | None:
        """See `Storage.stamp`."""
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


def missing_file() -> FileNotFoundError:
    """The error that the operating system gives for a file that is not there."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
