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
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ..utils.crop import Region
from ..utils.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
Span = tuple[int, int]  # the first column or row, and the one after the last

_PNG = b"\x89PNG\r\n\x1a\n"
# Markers of JPEG: the first bytes, the start of a scan, the end of the image.
_JPEG, _SCAN, _END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
# Constants of turbojpeg.h.
_DECOMPRESS, _RGB = 1, 0
_STOP_ON_WARNING, _WIDTH, _HEIGHT = 0, 5, 6
_BLOCK = 32  # pixels; a multiple of the width of a coded block at each subsampling of colour


class ImageReadError(UserError):
    """A frame that cannot be read; the message names the file."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB; raises an `ImageReadError` where it is missing or damaged."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageReadError(f"cannot read image {path}: {error.strerror}") from error
    return decode_image(data, path)


def decode_image(data: bytes, source: str | os.PathLike) -> np.ndarray:
    """Decode an image file's content to (H, W, 3) uint8 RGB, or raise an `ImageReadError` that names the `source`."""
    try:
        image = None if _is_cut_png(data) else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # no content, or the header gives more pixels than OpenCV takes
        image = None
    if image is None:
        raise ImageReadError(f"cannot decode image {source}: the file is damaged or not an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """An image (H, W, 3) uint8 RGB as the content of a JPEG file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


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
    """Bring (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA (alpha goes) of 8 or 16 bits to (H, W, 3) uint8."""
    shape = getattr(image, "shape", ())
    if not isinstance(image, np.ndarray) or 0 in shape or len(shape) < 2 or shape[2:] not in ((), (1,), (3,), (4,)):
        raise UserError(f"an image must be an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {shape}")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise UserError(f"an image must hold uint8 or uint16 values, not {image.dtype}")
    image = np.atleast_3d(image)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3]


def list_images(folder: str | os.PathLike) -> list[Path]:
    """The image files directly in a folder, in the order of `image_names`."""
    return [Path(folder, name) for name in image_names(os.listdir(folder))]


def image_names(names: Iterable[str]) -> list[str]:
    """Those of `names` that are images and not hidden, in natural order: frame 2 before frame 10.

    Names that are decimal numbers, as of a clock in seconds, are ordered as such: 7.0333 before 7.1. Where two of them
    are one number (1.1 and 1.10), the digits behind the point count up, and the order is natural.
    """
    images = list(filter(is_image_name, names))
    stems = [os.path.splitext(name)[0] for name in images]
    if all(stem.isascii() and stem.isdigit() for stem in stems):  # the usual case, a few times as fast
        return [name for _, name in sorted(zip(map(int, stems), images, strict=True))]
    if all(re.fullmatch(r"\d+\.\d+", stem, re.ASCII) for stem in stems):
        seconds = dict(zip(map(Decimal, stems), images, strict=True))
        if len(seconds) == len(images):
            return [seconds[second] for second in sorted(seconds)]
    return sorted(images, key=natural_key)


def is_image_name(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sorting key that compares the numbers in a file's name by value."""
    parts: list[str | int] = re.split(r"(\d+)", os.path.splitext(name)[0], flags=re.ASCII)
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def missing_numbers(names: Sequence[str]) -> list[int]:
    """The numbers that are missing in the middle of frames' names, which end in a number: [2, 3] of 1.jpg and 4.jpg.

    Empty where names have no numbers, or where most would be missing, since then the numbers count something else.
    """
    found = [re.search(r"(\d+)\.\w+$", name, re.ASCII) for name in names]
    if len(names) < 2 or not all(found):
        return []
    numbers = {int(match[1]) for match in found}
    if not 0 < max(numbers) - min(numbers) + 1 - len(numbers) < len(numbers):
        return []
    return sorted(set(range(min(numbers), max(numbers))) - numbers)


class Picture:
    """A frame (H, W, 3) uint8 RGB of which parts can be read. Height and width are in pixels."""

    seconds = 0.0  # that decoding of parts has taken

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def part(self, x: Span, y: Span) -> np.ndarray:
        """Some columns and rows (rows, columns, 3), perhaps a view; raises an `ImageReadError` where it is damaged."""
        return self._pixels[slice(*y), slice(*x)]


class JpegPicture(Picture):
    """A JPEG file of a known size without EXIF orientation, decoded part by part; `source` names it in messages."""

    def __init__(self, data: bytes, width: int, height: int, source: str | os.PathLike) -> None:
        self.width, self.height, self._data, self._source = width, height, data, source
        self._x, self._y, self._pixels = (0, 0), (0, 0), np.zeros((0, 0, 3), np.uint8)  # the last part

    def part(self, x: Span, y: Span) -> np.ndarray:
        """See `Picture.part`; a part inside the last one that was decoded is not decoded again."""
        if not (self._x[0] <= x[0] and x[1] <= self._x[1] and self._y[0] <= y[0] and y[1] <= self._y[1]):
            start = time.perf_counter()
            pixels = decode_part(self._data, x, y)
            if pixels is None:  # OpenCV accepts some faults that libjpeg-turbo refuses
                pixels = decode_image(self._data, self._source)[slice(*y), slice(*x)]
            self._x, self._y, self._pixels = x, y, pixels
            self.seconds += time.perf_counter() - start
        return self._pixels[y[0] - self._y[0] : y[1] - self._y[0], x[0] - self._x[0] : x[1] - self._x[0]]


def open_picture(data: bytes, source: str | os.PathLike) -> Picture:
    """The picture in an image file. A JPEG file without EXIF data is not decoded yet, where libjpeg-turbo is found."""
    if data.startswith(_JPEG):
        # No decoder fails where the end is missing: the rest of the picture may be grey.
        end = data.rfind(_END)
        if end < 0 or data.find(_SCAN, end) >= 0:
            raise ImageReadError(f"cannot decode image {source}: the file is damaged, its end is missing")
        size = None if b"Exif\0" in data[: data.find(_SCAN)] else _jpeg_size(data)
        if size is not None:
            return JpegPicture(data, *size, source)
    return Picture(decode_image(data, source))


def cut_picture(picture: Picture, region: Region, mirrored: bool = False, flipped: bool = False) -> np.ndarray:
    """The crop (size, size, 3) uint8 RGB of a region, for which only its part of the picture is decoded.

    Where `mirrored` is True, the region is one of the mirrored picture; `flipped` mirrors the crop.
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


@contextmanager
def _decoder(data: bytes) -> Iterator[tuple[ctypes.CDLL, ctypes.c_void_p] | None]:
    """libjpeg-turbo and its handle of a JPEG file whose header is read; None where it is missing or refuses that."""
    library = turbojpeg()
    if library is None:
        yield None
        return
    handle = ctypes.c_void_p(library.tj3Init(_DECOMPRESS))
    try:
        library.tj3Set(handle, _STOP_ON_WARNING, 1)
        refused = library.tj3DecompressHeader(handle, data, ctypes.c_size_t(len(data)))
        yield None if refused else (library, handle)
    finally:
        library.tj3Destroy(handle)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG file; None where libjpeg-turbo 3 is missing or refuses the file."""
    with _decoder(data) as decoder:
        return decoder and tuple(decoder[0].tj3Get(decoder[1], what) for what in (_WIDTH, _HEIGHT))


def decode_part(data: bytes, x: Span, y: Span) -> np.ndarray | None:
    """Columns x and rows y of a JPEG file, (rows, columns, 3) uint8 RGB, as in the whole; None as of `_jpeg_size`."""
    with _decoder(data) as decoder:
        if decoder is None:
            return None
        library, handle = decoder
        # One block more on either side: upsampling of colour needs the neighbours of each block.
        first, last = max(0, (x[0] // _BLOCK - 1) * _BLOCK), min(library.tj3Get(handle, _WIDTH), x[1] + _BLOCK)
        pixels = np.empty((y[1] - y[0], last - first, 3), np.uint8)
        target, size = pixels.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(data))
        failed = library.tj3SetCroppingRegion(handle, _Rectangle(first, y[0], last - first, y[1] - y[0]))
        failed = failed or library.tj3Decompress8(handle, data, size, target, 0, _RGB)
        return None if failed else pixels[:, x[0] - first : x[1] - first]


@lru_cache(maxsize=1)
def turbojpeg() -> ctypes.CDLL | None:
    """libjpeg-turbo's library, version 3 or newer; None where it is missing."""
    for path in _libraries():
        with suppress(OSError, AttributeError):  # of another processor, or older than version 3
            library = ctypes.CDLL(path)
            library.tj3Init.restype = ctypes.c_void_p
            return library
    return None


def _libraries() -> Iterator[str]:
    """Paths where libjpeg-turbo may lie."""
    package = importlib.util.find_spec("turbojpeg")
    if package is not None and package.origin is not None:
        for pattern in ("turbojpeg.libs/*turbojpeg*", ".dylibs/*turbojpeg*"):
            yield from map(str, Path(package.origin).parent.glob(pattern))
    if system := ctypes.util.find_library("turbojpeg"):
        yield system
