"""The header of a JPEG file, and decoding a part of it.

OpenCV decodes whole pictures. libjpeg-turbo 3 decodes a part: it computes no pixels above it and beside it, and does
not even read what comes below. Its library is used where it is found: in the Python package `turbojpeg`, or the
system's. Both decoders give the same pixels.
"""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

# Markers, the byte after 0xFF. Three of C0 to CF are not frame headers.
FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES, _SCAN, _APP1 = 0xDB, 0xDA, 0xE1
_END = b"\xff\xd9"

# Constants of turbojpeg.h.
_DECOMPRESS, _RGB = 1, 0
_STOP_ON_WARNING, _SUBSAMPLING, _WIDTH = 0, 4, 5
# Width in pixels of a coded block, by subsampling: 4:4:4, 4:2:2, 4:2:0, grey, 4:4:0, 4:1:1, 4:4:1.
_BLOCK_WIDTHS = (8, 16, 16, 8, 8, 32, 8)


@dataclass(frozen=True)
class JpegHeader:
    """The part of a JPEG file before its pixels.

    Attributes:
        width, height: in pixels.
        has_exif: the file has EXIF data, which may give another orientation.
        scan: byte at which the coded pixels begin.
    """

    width: int
    height: int
    has_exif: bool
    scan: int

    def is_complete(self, data: bytes) -> bool:
        """Whether the file has its end marker; bytes after it do not matter."""
        return data.rfind(_END, self.scan) >= 0


def read_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG file; None where the content is something else, or damaged."""
    width, height, has_tables, has_exif = 0, 0, False, False
    for marker, begin, end in segments(data):
        if marker in FRAME_HEADERS and begin + 6 <= end <= len(data):
            height, width = (data[at] << 8 | data[at + 1] for at in (begin + 1, begin + 3))
        elif marker == _TABLES:
            has_tables = True
        elif marker == _APP1:
            has_exif |= data.startswith(b"Exif\0", begin)
        elif marker == _SCAN:
            return JpegHeader(width, height, has_exif, end) if width and height and has_tables else None
    return None


def segments(data: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each segment up to the first scan's; none where it is no JPEG."""
    if data[:3] != b"\xff\xd8\xff":
        return
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        end = place + 2 + (data[place + 2] << 8 | data[place + 3])
        yield marker, place + 4, end
        place = end


class _Rectangle(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int) for name in ("x", "y", "w", "h"))


def decode_part(data: bytes, x: tuple[int, int], y: tuple[int, int]) -> np.ndarray | None:
    """Decode some columns and rows of a JPEG file.

    Args:
        data: the file.
        x, y: first column and row, and those after the last.

    Returns:
        (rows, columns, 3) uint8 RGB, equal to that part of the whole; None where libjpeg-turbo 3 is missing or refuses
        the file.
    """
    library = turbojpeg()
    if library is None:
        return None
    handle = library.tj3Init(_DECOMPRESS)
    if handle is None:
        raise MemoryError("no memory to decode a JPEG file")
    try:
        library.tj3Set(handle, _STOP_ON_WARNING, 1)
        if library.tj3DecompressHeader(handle, data, len(data)):
            return None
        subsampling = library.tj3Get(handle, _SUBSAMPLING)
        if not 0 <= subsampling < len(_BLOCK_WIDTHS):
            return None
        # A block more at either side: at the edges of what is decoded, colour lacks its neighbours.
        block, width = _BLOCK_WIDTHS[subsampling], library.tj3Get(handle, _WIDTH)
        first, last = max(0, (x[0] // block - 1) * block), min(width, x[1] + block)
        pixels = np.empty((y[1] - y[0], last - first, 3), np.uint8)
        failed = library.tj3SetCroppingRegion(
            handle, _Rectangle(first, y[0], last - first, y[1] - y[0])
        ) or library.tj3Decompress8(handle, data, len(data), pixels.ctypes.data, 0, _RGB)
        return None if failed else pixels[:, x[0] - first : x[1] - first]
    finally:
        library.tj3Destroy(handle)


@lru_cache(maxsize=1)
def turbojpeg() -> ctypes.CDLL | None:
    """libjpeg-turbo's library, version 3 or newer; None where there is none."""
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            _declare(library)
        except (OSError, AttributeError):  # of another processor, or older than version 3
            continue
        return library
    return None


def _candidates() -> Iterator[str]:
    """Paths at which the library may be."""
    package = importlib.util.find_spec("turbojpeg")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        for pattern in ("turbojpeg.libs/*turbojpeg*", ".dylibs/*turbojpeg*"):
            yield from map(str, sorted(folder.glob(pattern)))
    system = ctypes.util.find_library("turbojpeg")
    if system is not None:
        yield system


def _declare(library: ctypes.CDLL) -> None:
    """Say what the functions take and give.

    Raises:
        AttributeError: one of them is missing.
    """
    handle, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    library.tj3Init.argtypes, library.tj3Init.restype = (number,), handle
    library.tj3Set.argtypes = (handle, number, number)
    library.tj3Get.argtypes = (handle, number)
    library.tj3DecompressHeader.argtypes = (handle, ctypes.c_char_p, size)
    library.tj3SetCroppingRegion.argtypes = (handle, _Rectangle)
    library.tj3Decompress8.argtypes = (handle, ctypes.c_char_p, size, handle, number, number)
    library.tj3Destroy.argtypes, library.tj3Destroy.restype = (handle,), None
