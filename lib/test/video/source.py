"""Where a demo's frames come from: a video file, a folder of images, a camera."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.data.images import IMAGE_SUFFIXES, list_images, read_image
from lib.utils.errors import UserError

DEFAULT_FPS = 25.0  # for folders of images, and for videos and cameras that do not tell
_LARGEST_FPS = 240.0  # beyond it a header is wrong


@dataclass
class FrameSource:
    """Frames to track in.

    Attributes:
        name: what the results are called after.
        frames: (H, W, 3) uint8 RGB, in order, each read when it is asked for; the size may change in a folder.
        fps: frames a second at which the result should play.
        total: number of frames as far as known; a video's header may be wrong. None for a camera.
    """

    name: str
    frames: Iterator[np.ndarray]
    fps: float
    total: int | None


def open_source(source: str) -> FrameSource:
    """Open what a user named: a video file, a folder of images, a stream's URL, or a camera by its index.

    Raises:
        UserError: it does not exist, is empty, or is nothing that OpenCV reads as video.
    """
    path = Path(source)
    if path.is_dir():
        return _open_folder(path)
    if path.is_file():
        return _open_file(path)
    if path.exists():  # a device or a pipe
        return _video_source(path.stem, _open_capture(source), source)
    if re.fullmatch("[0-9]+", source):
        return _open_camera(int(source))
    if "://" in source:
        return _video_source(re.sub(r"\W+", "_", source.split("://")[1]), _open_capture(source), source)
    raise UserError(f"there is no file or folder {source}; give a video, a folder of images or a camera's index")


def _open_folder(folder: Path) -> FrameSource:
    try:
        files = list_images(folder)
        if not files:
            inner = sorted(p for p in folder.iterdir() if p.is_dir() and list_images(p))
            hint = f"; did you mean {inner[0]}?" if inner else f" ({', '.join(IMAGE_SUFFIXES)})"
            raise UserError(f"the folder {folder} holds no images{hint}")
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
    return FrameSource(folder.resolve().name or "frames", map(read_image, files), DEFAULT_FPS, len(files))


def _open_file(path: Path) -> FrameSource:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        # OpenCV would take it for the start of a numbered series, or for a video of one frame.
        raise UserError(f"{path} is one image: give a video, or the folder that holds the frames")
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise UserError(f"{path} is empty (0 bytes)")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return _video_source(path.stem, _open_capture(str(path)), str(path))


def _open_camera(index: int) -> FrameSource:
    # Each way of reaching a camera that fails would warn; one line follows below.
    logging = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        capture = cv2.VideoCapture(index)
    finally:
        logging.setLogLevel(level)
    if not capture.isOpened():
        raise UserError(f"camera {index} cannot be opened: is it connected, and may this user read it?")
    source = _video_source(f"camera{index}", capture, f"camera {index}")
    source.total = None
    return source


def _open_capture(location: str) -> cv2.VideoCapture:
    # FFmpeg's own words on a damaged file would stand beside the one line that follows; its first use reads this.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")
    capture = cv2.VideoCapture(location)
    if not capture.isOpened():
        raise UserError(f"{location} is not a video that OpenCV reads: it is another kind of file, or damaged")
    return capture


def _video_source(name: str, capture: cv2.VideoCapture, where: str) -> FrameSource:
    """A source over an open capture, with a first frame or a UserError."""
    read, first = capture.read()
    if not read:
        raise UserError(f"{where} gives no frame: it holds no picture, or is damaged")
    fps = capture.get(cv2.CAP_PROP_FPS)
    if not (math.isfinite(fps) and 0 < fps <= _LARGEST_FPS):
        fps = DEFAULT_FPS
    total = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return FrameSource(name, _video_frames(first, capture), fps, int(total) if total > 0 else None)


def _video_frames(frame: np.ndarray, capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """The first frame, already read, and all others."""
    try:
        read = True
        while read:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            read, frame = capture.read()
    finally:
        capture.release()
