"""Frames in files: decoding them whole or in parts, and bringing the images of a user to 8-bit RGB.

OpenCV decodes whole images. Of a JPEG file, libjpeg-turbo 3 decodes a part: no pixels above and beside it, and nothing
below it. The library comes with the Python package `turbojpeg`, or with the system. Both give the same pixels.
"""

import ctypes
import ctypes.util
import importlib.util
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from lib.utils.crop import Region
from lib.utils.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
Span = tuple[int, int]  # the first column or row, and the one after the last

_PNG = b"\x89PNG\r\n\x1a\n"
# Markers of JPEG, the byte after 0xFF. Three of C0 to CF do not start a frame header.
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES, _SCAN, _APP1 = 0xDB, 0xDA, 0xE1
_END = b"\xff\xd9"
# Constants of turbojpeg.h.
_DECOMPRESS, _RGB = 1, 0
_STOP_ON_WARNING, _SUBSAMPLING, _WIDTH = 0, 4, 5
# Width in pixels of a coded block, by subsampling: 4:4:4, 4:2:2, 4:2:0, grey, 4:4:0, 4:1:1, 4:4:1.
_BLOCK_WIDTHS = (8, 16, 16, 8, 8, 32, 8)


class ImageReadError(UserError):
    """A frame that cannot be read; the message names the file."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB.

    Raises:
        ImageReadError: the file is missing, empty, damaged or not an image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageReadError(f"cannot read image {path}: {error.strerror}") from error
    return decode_image(data, path)


def decode_image(data: bytes, source: str | os.PathLike) -> np.ndarray:
    """Decode the content of an image file to (H, W, 3) uint8 RGB; `source` names the file in messages.

    Raises:
        ImageReadError: the content is empty, damaged or not an image.
    """
    if not data or _is_cut_png(data):
        raise _undecodable(source)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # the header gives more pixels than OpenCV takes
        raise _undecodable(source) from error
    if image is None:
        raise _undecodable(source)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _undecodable(source: str | os.PathLike) -> ImageReadError:
    return ImageReadError(f"cannot decode image {source}: the file is damaged or not an image")


def _is_cut_png(data: bytes) -> bool:
    """Whether a part of a PNG file ends beyond the file: OpenCV allocates that part's whole length first."""
    place = len(_PNG)
    if not data.startswith(_PNG):
        return False
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length
        if kind == b"IEND":
            break
    return place > len(data)


def to_rgb8(image: np.ndarray) -> np.ndarray:
    """Bring one frame to (H, W, 3) uint8 RGB.

    Accepts (H, W), (H, W, 1), (H, W, 3) RGB and (H, W, 4) RGBA (alpha is dropped) of
    uint8, or of uint16 (the full 16-bit range is scaled to 8 bits).

    Raises:
        UserError: any other shape or type, or an image without pixels.
    """
    if (
        not isinstance(image, np.ndarray)
        or image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[2] not in (1, 3, 4))
    ):
        shape = getattr(image, "shape", None)
        raise UserError(f"an image must be an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {shape}")
    if image.shape[0] == 0 or image.shape[1] == 0:
        raise UserError(f"the image has no pixels: its shape is {image.shape}")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise UserError(f"an image must hold uint8 or uint16 values, not {image.dtype}")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image[:, :, :3]


def list_images(folder: str | os.PathLike) -> list[Path]:
    """The image files directly in a folder, in natural order (frame 2 before frame 10)."""
    return [Path(folder, name) for name in image_names(os.listdir(folder))]


def image_names(names: Iterable[str]) -> list[str]:
    """Those of `names` that are images and not hidden, in natural order (frame 2 before frame 10)."""
    images = filter(is_image_name, names)
    return sorted(images, key=lambda name: (_number_key(os.path.splitext(name)[0]), name))


def is_image_name(name: str) -> bool:
    """Whether a file of that name is an image and not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _number_key(text: str) -> list[tuple]:
    """A sorting key that compares the numbers in a name by value; a digit comes before any other character."""
    parts = re.findall(r"(\d+)|(\D)", text + "\0", re.ASCII)
    return [(0, int(digits), "") if digits else (1, 0, character) for digits, character in parts]


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


def read_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG file; None where the content is something else, or damaged."""
    width, height, has_tables, has_exif = 0, 0, False, False
    for marker, begin, end in _segments(data):
        if marker in _FRAME_HEADERS and begin + 6 <= end <= len(data):
            height, width = (data[at] << 8 | data[at + 1] for at in (begin + 1, begin + 3))
        elif marker == _TABLES:
            has_tables = True
        elif marker == _APP1:
            has_exif |= data.startswith(b"Exif\0", begin)
        elif marker == _SCAN:
            return JpegHeader(width, height, has_exif, end) if width and height and has_tables else None
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each segment of a JPEG file up to its first scan; none of other files."""
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


class Picture:
    """A frame of which parts can be read.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Attributes:
        width, height: in pixels.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def part(self, x: Span, y: Span) -> np.ndarray:
        """Some columns and rows: (rows, columns, 3) uint8 RGB, perhaps a view of a larger array.

        Raises:
            ImageReadError: the file is damaged.
        """
        return self._pixels[slice(*y), slice(*x)]


class JpegPicture(Picture):
    """A JPEG file without EXIF orientation, decoded part by part.

    Args:
        data: the file.
        header: the file's header.
        source: the file's path, for messages.

    Raises:
        ImageReadError: the file is cut off.
    """

    def __init__(self, data: bytes, header: JpegHeader, source: str | os.PathLike) -> None:
        # A partial decoder does not notice a missing end marker, and some decoders fill the rest with grey.
        if data.rfind(_END, header.scan) < 0:
            raise _undecodable(source)
        self.width, self.height = header.width, header.height
        self._data, self._source = data, source
        self._decoded: tuple[Span, Span, np.ndarray] | None = None

    def part(self, x: Span, y: Span) -> np.ndarray:
        """See `Picture.part`; a part inside the last one that was decoded is not decoded again."""
        if self._decoded is not None:
            known_x, known_y, pixels = self._decoded
            if _contains(known_x, x) and _contains(known_y, y):
                return pixels[y[0] - known_y[0] : y[1] - known_y[0], x[0] - known_x[0] : x[1] - known_x[0]]
        pixels = decode_part(self._data, x, y)
        if pixels is None:
            pixels = self._part_of_whole(x, y)
        self._decoded = x, y, pixels
        return pixels

    def _part_of_whole(self, x: Span, y: Span) -> np.ndarray:
        """The same by OpenCV, which accepts some faults that libjpeg-turbo refuses."""
        whole = decode_image(self._data, self._source)
        if whole.shape[:2] != (self.height, self.width):
            raise _undecodable(self._source)
        return whole[slice(*y), slice(*x)]


def _contains(outer: Span, inner: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def open_picture(data: bytes, source: str | os.PathLike) -> Picture:
    """The picture in an image file. A JPEG file without EXIF data is not decoded yet.

    Args:
        data: content of the file.
        source: its path, for messages.

    Raises:
        ImageReadError: the content is empty, damaged or not an image.
    """
    header = read_header(data)
    if header is None or header.has_exif:
        return Picture(decode_image(data, source))
    return JpegPicture(data, header, source)


def cut_picture(picture: Picture, region: Region, mirrored: bool = False, flipped: bool = False) -> np.ndarray:
    """The crop of a region. Only the part of the picture that the crop needs is decoded.

    Args:
        picture: the frame.
        region: a region of the frame, or, where `mirrored` is True, of the mirrored frame.
        flipped: mirror the crop.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        ImageReadError: the picture is damaged.
    """
    if mirrored:
        region = region.mirrored(picture.width)
    if region.x[1] <= region.x[0] or region.y[1] <= region.y[0]:
        crop = np.zeros((region.size, region.size, 3), np.uint8)
    else:
        crop = region.scaled(picture.part(region.x, region.y))
    # Mirroring and scaling commute, to the last bit.
    return cv2.flip(crop, 1) if mirrored != flipped else crop


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
        # One more block on either side: colour at the edge of the decoded part is computed without its neighbours.
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
    """libjpeg-turbo's library, version 3 or newer; None where it is missing."""
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            _declare(library)
        except (OSError, AttributeError):  # of another processor, or older than version 3
            continue
        return library
    return None


def _candidates() -> Iterator[str]:
    """Paths where the library may lie."""
    package = importlib.util.find_spec("turbojpeg")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        for pattern in ("turbojpeg.libs/*turbojpeg*", ".dylibs/*turbojpeg*"):
            yield from map(str, sorted(folder.glob(pattern)))
    system = ctypes.util.find_library("turbojpeg")
    if system is not None:
        yield system


def _declare(library: ctypes.CDLL) -> None:
    """Declare the types of arguments and results.

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
