"""Small videos and folders of images, harmless and not."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SIZE = (64, 48)


def numbered(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A plain frame whose grey level tells its index, up to 60."""
    return np.full((size[1], size[0], 3), 4 * index, np.uint8)


def scene(index: int, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """A bright square of 24 pixels that moves 2 pixels a frame to the right, from (20, 40), and a blue
    one with a hole that rests at (110, 84)."""
    image = np.full((size[1], size[0], 3), 40, np.uint8)
    image[40:64, 20 + 2 * index : 44 + 2 * index] = (230, 180, 60)
    image[84:108, 110:134] = (40, 90, 220)
    image[92:100, 118:126] = 240
    return image


def noise(count: int, size: tuple[int, int]) -> Iterable[np.ndarray]:
    """Frames that compress badly."""
    random = np.random.default_rng(0)
    return (random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in range(count))


def write_clip(path: Path, frames: Iterable[np.ndarray], codec: str = "libx264", fps: int = 25, **options: str) -> Path:
    """A video of frames (H, W, 3) uint8 RGB of one even size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_numbered(path: Path, count: int, **options: str) -> Path:
    """A video of `numbered` frames, with a key frame every 12."""
    return write_clip(path, map(numbered, range(count)), g="12", **options)


def write_images(folder: Path, count: int, suffix: str = ".jpg") -> Path:
    """A folder of `numbered` frames, by names that sort wrongly as text."""
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index + 1}{suffix}"), numbered(index))
    return folder


def index_of(image: np.ndarray) -> int:
    """The index of a `numbered` frame, after it was compressed."""
    return round(float(image.mean()) / 4)
