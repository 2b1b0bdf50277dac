"""Text that people read and write: lists of names, ranges of indices, tables."""

import os
from collections.abc import Sequence
from pathlib import Path

from lib.utils.errors import UserError


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
    """The names of folders in the text of a file (`source`, for messages): one a line, empty lines are allowed.

    Raises:
        UserError: a line is not the name of a folder, or is in the file twice.
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
    """Indices of a split: `first-last` (both included) or a single index, separated by white space.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    indices: list[int] = []
    for word in read_text(path).split():
        ends = word.split("-")
        numbers = all(end.isascii() and end.isdigit() and len(end) < 8 for end in ends)
        if not numbers or len(ends) > 2 or int(ends[0]) > int(ends[-1]):
            raise UserError(f"{path}: {word[:40]!r} is not a range of indices such as 12-15")
        indices.extend(range(int(ends[0]), int(ends[-1]) + 1))
    return indices


def ruled_table(rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text with a rule under its head; the first column is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{:{'>' if i else '<'}{width}}}" for i, width in enumerate(widths))
    lines = [form.format(*row) for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
