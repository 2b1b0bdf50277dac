"""Text that people read and write: lists of names, ranges of indices, tables."""

import os
from collections.abc import Sequence
from pathlib import Path

from lib.utils.errors import UserError

_LONGEST_NAME = 200  # bytes; file systems end at 255, and results add endings to a name


def read_text(path: str | os.PathLike, errors: str = "strict") -> str:
    """Content of a UTF-8 file, with or without a byte-order mark; `errors` as of `bytes.decode`.

    Raises:
        UserError: the file cannot be read or is not text.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig", errors)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file: byte {error.start} is not UTF-8") from error


def parse_names(text: str, source: str | os.PathLike) -> list[str]:
    """Folder names, one a line, distinct and plain: they become paths. Empty lines are allowed.

    Args:
        text: content of the file.
        source: its path, for messages.

    Raises:
        UserError: a line is not the name of a folder, or is there twice.
    """
    names: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        plain = Path(name).name == name and name not in (".", "..") and not any(char in name for char in "\\\0")
        if not plain or len(name.encode()) > _LONGEST_NAME:
            raise UserError(f"{source}, line {number}: {name[:60]!r} is not the name of a folder")
        if name in names:
            raise UserError(f"{source}, line {number}: {name!r} is listed already in line {names[name]}")
        names[name] = number
    return list(names)


def read_ranges(path: str | os.PathLike) -> list[int]:
    """Indices of a split: `first-last` (both included) or a single index, separated by white space.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    indices: list[int] = []
    for word in read_text(path).split():
        ends = word.split("-")
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() and len(end) < 8 for end in ends):
            raise UserError(f"{path}: {word[:40]!r} is not a range of indices such as 12-15")
        first, last = int(ends[0]), int(ends[-1])
        if first > last:
            raise UserError(f"{path}: the range {word!r} ends before it begins")
        indices.extend(range(first, last + 1))
    return indices


def ruled_table(rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text with a rule under its head; the first column is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
