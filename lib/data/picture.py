"""A frame as it lies on disk: crops decode only the part of a JPEG file that they need."""

import os
from abc import ABC, abstractmethod

import cv2
import numpy as np

from lib.data.images import decode_image, undecodable
from lib.data.jpeg import JpegHeader, decode_part, read_header
from lib.utils.crop import LARGEST_BUILT_SIDE, Region

Span = tuple[int, int]


class Picture(ABC):
    """A picture of which parts can be read.

    Attributes:
        width, height: in pixels.
    """

    width: int
    height: int

    @abstractmethod
    def part(self, x: Span, y: Span) -> np.ndarray:
        """Some columns and rows.

        Args:
            x, y: first column and row, and those after the last.

        Returns:
            (rows, columns, 3) uint8 RGB, perhaps a view of more.

        Raises:
            ImageReadError: the file is damaged.
        """


class DecodedPicture(Picture):
    """A picture in memory: (H, W, 3) uint8 RGB."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def part(self, x: Span, y: Span) -> np.ndarray:
        return self.pixels[slice(*y), slice(*x)]


class JpegPicture(Picture):
    """A JPEG file without EXIF orientation, decoded part by part.

    Args:
        data: the file.
        header: of it.
        source: the file's path, for messages.

    Raises:
        ImageReadError: the file is cut off.
    """

    def __init__(self, data: bytes, header: JpegHeader, source: str | os.PathLike) -> None:
        # A partial decoder does not notice a missing end, and some decoders fill it with grey.
        if not header.is_complete(data):
            raise undecodable(source)
        self.width, self.height = header.width, header.height
        self._data, self._source = data, source
        self._decoded: tuple[Span, Span, np.ndarray] | None = None

    def part(self, x: Span, y: Span) -> np.ndarray:
        """See `Picture.part`. A part inside the one that was decoded last is not decoded again."""
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
            raise undecodable(self._source)
        return whole[slice(*y), slice(*x)]


def _contains(outer: Span, inner: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def open_picture(data: bytes, source: str | os.PathLike) -> Picture:
    """The picture in an image file. A JPEG file is not decoded yet.

    Args:
        data: content of the file.
        source: its path, for messages.

    Raises:
        ImageReadError: the content is empty, damaged or not an image.
    """
    header = read_header(data)
    if header is None or header.has_exif:
        return DecodedPicture(decode_image(data, source))
    return JpegPicture(data, header, source)


def cut_picture(picture: Picture, region: Region, mirrored: bool = False, flipped: bool = False) -> np.ndarray:
    """A region's crop, equal to that of the whole frame, from the part of the picture that it needs.

    Args:
        picture: the frame as it lies on disk.
        region: of the frame, which is mirrored first where `mirrored` is True.
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
    elif region.side > LARGEST_BUILT_SIDE:
        crop = region.cut(picture.part((0, picture.width), (0, picture.height)))
    else:
        crop = region.scaled(picture.part(region.x, region.y))
    # Mirroring and scaling commute, to the last bit.
    return cv2.flip(crop, 1) if mirrored != flipped else crop
