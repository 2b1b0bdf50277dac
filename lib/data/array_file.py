"""Arrays of numbers and text in one file, checked as it is read.

The first line names the format and the CRC-32 of all that follows: a line of JSON, {name: [dtype, shape, offset]}, and
the arrays' bytes.
"""

import json
import os
import zlib
from collections.abc import Mapping

import numpy as np

from lib.utils.files import atomic_path

_FIRST_LINE = "STARK arrays 1 %08x\n"
_ALIGNMENT = 16


class ArrayFileError(Exception):
    """A file that is not, or no longer, what `write_arrays` wrote."""


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays of numbers or of fixed-width text, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    table, parts, place = {}, [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        table[name] = [array.dtype.str, array.shape, place]
        parts += [data, bytes(-len(data) % _ALIGNMENT)]
        place += len(data) + len(parts[-1])
    # Offsets count from the header's end, which is filled up to a whole number of places.
    header = json.dumps(table).encode()
    header += b" " * (-(len(header) + 1) % _ALIGNMENT) + b"\n"
    checksum = 0
    for part in (header, *parts):
        checksum = zlib.crc32(part, checksum)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.writelines([(_FIRST_LINE % checksum).encode(), header, *parts])


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file, read-only: views of its content, which forked processes share.

    It is read, not mapped: where another machine replaces a mapped file, network file systems end who looks at it.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ArrayFileError: the file is damaged, or another kind of file.
    """
    with open(path, "rb") as file:
        first, content = file.readline(), file.read()
    if first != (_FIRST_LINE % zlib.crc32(content)).encode():
        raise ArrayFileError(f"{path} is damaged, or no file of arrays")
    begin = content.index(b"\n") + 1
    found = {}
    for name, (kind, shape, offset) in json.loads(content[:begin]).items():
        count = int(np.prod(shape, dtype=np.int64))
        found[name] = np.frombuffer(content, np.dtype(kind), count, begin + offset).reshape(shape)
    return found
