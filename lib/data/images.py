"""Reading frames, and bringing whatever a user's camera or file gives to 8-bit RGB."""

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from lib.data.image_claims import read_claim
from lib.utils.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# Of a picture that is decoded: more than the largest cameras take, and a gigabyte of memory.
LARGEST_PIXELS = 2**28


class ImageReadError(UserError):
    """A frame that cannot be read; the message names the file."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB.

    Raises:
        ImageReadError: the file is missing, empty, not an image, or too large.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ImageReadError(f"cannot read image {path}: {error.strerror}") from error
    return decode_image(data, path)


def decode_image(data: bytes | np.ndarray, source: str | os.PathLike) -> np.ndarray:
    """Decode the content of an image file to (H, W, 3) uint8 RGB.

    Args:
        data: the bytes, or a (N,) uint8 array of them.
        source: where they come from, for the message.

    Raises:
        ImageReadError: the content is empty, not an image, or too large.
    """
    data = np.frombuffer(data, dtype=np.uint8)
    claim = read_claim(data.data)
    if claim is not None and claim.least_bytes > len(data):
        raise undecodable(source)
    if claim is not None and claim.width * claim.height > LARGEST_PIXELS:
        size = f"{claim.width}x{claim.height} pixels"
        raise ImageReadError(
            f"image {source} is too large ({size}): at most {LARGEST_PIXELS // 10**6} million are read"
        )
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:  # of a header that speaks of billions of pixels
        raise undecodable(source) from error
    if image is None:
        raise undecodable(source)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def undecodable(source: str | os.PathLike) -> ImageReadError:
    """The error of a file whose content is no image, or half of one."""
    return ImageReadError(f"cannot decode image {source}: the file is damaged or not an image")


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
    """Whether a file of that name is an image, and not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _number_key(text: str) -> list:
    """Split a name into text and integer parts so that numbers sort by value."""
    parts: list = []
    digits = ""
    for char in text + "\0":
        if char.isascii() and char.isdigit():
            digits += char
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, char))
    return parts
