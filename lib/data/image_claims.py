"""What PNG and JPEG files claim of their pictures, before a decoder makes room for them.

A file of 600 bytes may claim 30000x30000 pixels, for which OpenCV takes gigabytes. Other formats do not get it so far.
"""

import struct
from dataclasses import dataclass

from lib.data.jpeg import FRAME_HEADERS, segments

_PNG = b"\x89PNG\r\n\x1a\n"
# Values a pixel by the colour type.
_PNG_VALUES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Deflate's best: 258 bytes in two bits.
_DEFLATE = 1032
# Frame headers of JPEG whose bits are coded arithmetically, of which a block may take any part of one.
_ARITHMETIC = {0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_BLOCK = 64  # pixels, each block of which takes a bit or more otherwise


@dataclass(frozen=True)
class Claim:
    """What a file says of its picture.

    Attributes:
        width, height: in pixels.
        least_bytes: what the file must have at the least for that to be true, however well its picture compresses.
    """

    width: int
    height: int
    least_bytes: int


def read_claim(data: bytes | memoryview) -> Claim | None:
    """The claim of a PNG or JPEG file; None where the content is something else, or ends before it says."""
    data = memoryview(data)
    return _read_png(data) if data[: len(_PNG)] == _PNG else _read_jpeg(data)


def _read_png(data: memoryview) -> Claim | None:
    if len(data) < 26:
        return None
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    least = width * height * bits * _PNG_VALUES.get(colour, 1) // (8 * _DEFLATE)
    return Claim(width, height, max(least, _end_of_chunks(data)))


def _end_of_chunks(data: memoryview) -> int:
    """Where the last part of a PNG file would end, for which OpenCV makes room first."""
    place = len(_PNG)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length
        if kind == b"IEND":
            break
    return place


def _read_jpeg(data: memoryview) -> Claim | None:
    for marker, begin, end in segments(data):
        if marker in FRAME_HEADERS and begin + 6 <= min(end, len(data)):
            height, width = struct.unpack_from(">HH", data, begin + 1)
            least = 0 if marker in _ARITHMETIC else width * height // (8 * _BLOCK)
            return Claim(width, height, least)
    return None
