"""Pictures of which only what is needed gets decoded."""

import os
from abc import ABC, abstractmethod

import cv2
import numpy as np

from lib.utils.image import decode_bgr, decode_image, undecodable
from lib.utils.jpeg import JpegHeader, decode_part, read_header

# How much there may be to see at the scale of a pixel (`JpegHeader.detail`) where a picture is decoded scaled down: up
# to there crops differ by less than two grey levels on average, nine of ten of them at the limit itself.
_MOST_DETAIL = {2: 4.5, 4: 2.75, 8: 1.5}
# Of fewer pixels, decoding takes hardly longer than scaled down: most of the time goes into the bits before them.
_LEAST_PIXELS = 500_000
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

Span = tuple[int, int]


class Picture(ABC):
    """A picture.

    Attributes:
        width, height: in pixels.
    """

    width: int
    height: int

    @abstractmethod
    def part(self, x: Span, y: Span, reduction: int = 1) -> np.ndarray:
        """Some columns and rows.

        Args:
            x, y: first column and row, and those after the last, within the picture that is scaled down.
            reduction: what `reduction` gave, or 1.

        Returns:
            (rows, columns, 3) uint8 RGB, perhaps a view of more.

        Raises:
            ImageReadError: the file is damaged.
        """

    def reduction(self, shrink: float, pixels: int) -> int:
        """How many times smaller the picture may be decoded for a crop.

        Args:
            shrink: how many times the crop scales it down.
            pixels: of the picture are in the crop.
        """
        return 1


class DecodedPicture(Picture):
    """A picture whose pixels are there: (H, W, 3) uint8 RGB."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def part(self, x: Span, y: Span, reduction: int = 1) -> np.ndarray:
        """See `Picture.part`."""
        return self.pixels[slice(*y), slice(*x)]


class JpegPicture(Picture):
    """A JPEG file, decoded part by part.

    Args:
        data: the file; nothing in it says that the picture has to be turned.
        header: of it.
        source: where it comes from, for messages.

    Raises:
        ImageReadError: the file lacks its end.
    """

    def __init__(self, data: bytes, header: JpegHeader, source: str | os.PathLike) -> None:
        # What is not decoded is not seen to be missing, and some decoders fill it with grey.
        if not header.is_complete(data):
            raise undecodable(source)
        self.width, self.height = header.width, header.height
        self._data, self._source, self._detail = data, source, header.detail(data)
        self._decoded: tuple[Span, Span, int, np.ndarray] | None = None

    def part(self, x: Span, y: Span, reduction: int = 1) -> np.ndarray:
        """See `Picture.part`; what lies within the part that was decoded last is not decoded again."""
        if self._decoded is not None:
            known_x, known_y, known_reduction, pixels = self._decoded
            if known_reduction == reduction and _contains(known_x, x) and _contains(known_y, y):
                return pixels[y[0] - known_y[0] : y[1] - known_y[0], x[0] - known_x[0] : x[1] - known_x[0]]
        pixels = decode_part(self._data, x, y, reduction)
        if pixels is None:
            pixels = self._part_of_whole(x, y, reduction)
        self._decoded = x, y, reduction, pixels
        return pixels

    def reduction(self, shrink: float, pixels: int) -> int:
        """See `Picture.reduction`; 1 where little is won by more, or so much is to be seen that the crop shows it."""
        if pixels < _LEAST_PIXELS:
            return 1
        return max((n for n, most in _MOST_DETAIL.items() if n <= shrink and self._detail <= most), default=1)

    def _part_of_whole(self, x: Span, y: Span, reduction: int) -> np.ndarray:
        """The same by OpenCV, which also puts up with faults that the other decoder objects to."""
        whole = decode_bgr(self._data, self._source, _FLAGS[reduction])
        if whole.shape[:2] != (-(-self.height // reduction), -(-self.width // reduction)):
            raise undecodable(self._source)
        return cv2.cvtColor(whole[slice(*y), slice(*x)], cv2.COLOR_BGR2RGB)


def _contains(outer: Span, inner: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def open_picture(data: bytes, source: str | os.PathLike) -> Picture:
    """The picture in an image file: a JPEG file is not decoded yet.

    Args:
        data: the file.
        source: where it comes from, for messages.

    Raises:
        ImageReadError: the content is empty, damaged or not an image.
    """
    header = read_header(data)
    if header is None or header.has_exif:
        return DecodedPicture(decode_image(data, source))
    return JpegPicture(data, header, source)
