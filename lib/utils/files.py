"""Files that are whole or absent, locks between processes, and text: lists of names, ranges of indices, tables."""

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from .errors import UserError


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    If the body raises, the temporary file is removed and what stood at `path` stays as it was.
    The temporary name keeps the suffix, since writers such as OpenCV choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        temporary.touch()  # what cannot be written to ends here, with an OSError, whatever the writer would raise
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: str | os.PathLike, timeout: float = -1) -> Iterator[None]:
    """Hold the lock `.<name>.lock` beside a file or folder; others wait; after `timeout` seconds a TimeoutError."""
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=timeout):
        yield


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: str | os.PathLike, errors: str = "strict") -> str:
    """Content of a UTF-8 file; a UserError where it cannot be read or is not text. `errors` are of `bytes.decode`."""
    try:
        return decode_text(Path(path).read_bytes(), path, errors)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def decode_text(data: bytes, source: str | os.PathLike, errors: str = "strict") -> str:
    """Content of a UTF-8 file; else as `read_text`."""
    try:
        return data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not a text file: byte {error.start} is not UTF-8") from error


def parse_names(text: str, source: str | os.PathLike) -> list[str]:
    """The names of folders in the text of a file (`source`, for messages): one a line, empty lines are allowed.

    Raises UserError where a line is not the name of a folder, or is in the file twice.
    """
    names: dict[str, int] = {}
    for number, name in enumerate(map(str.strip, text.splitlines()), start=1):
        if any(character in name for character in "/\\\0") or name in (".", ".."):
            raise UserError(f"{source}, line {number}: {name[:60]!r} is not the name of a folder")
        if name in names:
            raise UserError(f"{source}, line {number}: {name!r} is listed already in line {names[name]}")
        if name:
            names[name] = number
    return list(names)


def read_ranges(path: str | os.PathLike) -> list[int]:
    """Indices of a split that comes with this project: `first-last` (both included) or an index, between spaces."""
    indices: list[int] = []
    for word in read_text(path).split():
        first, _, last = word.partition("-")
        indices.extend(range(int(first), int(last or first) + 1))
    return indices


def ruled_table(rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text with a rule under its head; the first column is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{:{'>' if i else '<'}{width}}}" for i, width in enumerate(widths))
    lines = [form.format(*row) for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def refuse_to_replace(paths: Iterable[Path]) -> None:
    """For commands that replace existing files only with `--overwrite`; raises UserError where one of them exists."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists; add --overwrite to replace it, or give --output another folder")
