"""A data set in one LMDB: keys are the files' paths relative to the data set's root, values their bytes."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import lmdb

from lib.data.storage import Storage, file_stamp, missing_file
from lib.utils.errors import UserError

DATA_FILE = "data.mdb"


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
        """See `Storage.names`."""
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
        """See `Storage.exists`."""
        key = _key(path)
        with self._environment().begin() as transaction, transaction.cursor() as cursor:
            return cursor.set_key(key) or (cursor.set_range(key + b"/") and cursor.key().startswith(key + b"/"))

    def locate(self, path: str = "") -> str:
        """See `Storage.locate`."""
        return f"{self.path}:{path}" if path else str(self.path)

    def stamp(self, path: str) -> tuple[int, ...] | None:
        """See `Storage.stamp`: that of the LMDB as a whole."""
        return file_stamp(_data_file(self.path))

    def _read(self, path: str) -> bytes:
        try:
            with self._environment().begin() as transaction:
                data = transaction.get(_key(path))
        except lmdb.Error as error:
            raise OSError(errno.EIO, str(error)) from error
        if data is None:
            raise missing_file()
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
