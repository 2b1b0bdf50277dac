"""Where a demo's frames come from: a video file, a folder of images, a stream, a camera."""

import itertools
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ...data.images import IMAGE_SUFFIXES, is_image_name, list_images, missing_numbers, read_image
from ...data.sequence import some
from ...utils.errors import UserError

DEFAULT_FPS = 25.0  # for folders of images, and for videos and cameras that do not tell


def plausible_fps(fps: float) -> float:
    """A header's frames a second, the default where they are wrong."""
    return fps if 0 < fps <= 240 else DEFAULT_FPS


@dataclass
class FrameSource:
    """Frames to track in, (H, W, 3) uint8 RGB, each read when it is asked for; in a folder their size may change."""

    name: str  # of the results
    frames: Iterator[np.ndarray]
    fps: float  # at which the result should play
    total: int | None  # by a video's header, which may be wrong; None for a camera


class NewestFrames:
    """Frames of a camera or stream, each the newest one when it is asked for; a thread reads all of them."""

    def __init__(self, frames: Iterator[np.ndarray]) -> None:
        self.dropped = 0  # frames that were replaced by a newer one before they were asked for
        self._frames, self._changed = frames, threading.Condition()
        self._newest: np.ndarray | None = None
        self._error: Exception | None = None
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def __iter__(self) -> "NewestFrames":
        return self

    def __next__(self) -> np.ndarray:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            frame, self._newest = self._newest, None
        if frame is None:
            raise self._error or StopIteration
        return frame

    def close(self) -> None:
        """End the thread, and the frames."""
        with self._changed:
            self._ended, self._newest = True, None
            self._changed.notify()

    def _read(self) -> None:
        try:
            while not self._ended and (frame := next(self._frames, None)) is not None:
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest = None if self._ended else frame
                    self._changed.notify()
        except Exception as error:  # noqa: BLE001 - it is raised where frames are asked for
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()


def open_source(source: str, newest: bool = False) -> FrameSource:
    """Open what a user named: a video file, a folder of images, a stream's URL, or a camera by its index.

    With `newest`, the frames of a camera or stream are `NewestFrames`, for trackers slower than it. Raises UserError
    where it does not exist, is empty, or is nothing that OpenCV reads as video.
    """
    path = Path(source)
    if newest and (path.exists() or not (source.isdecimal() or "://" in source)):
        raise UserError(f"{source} is no camera or stream: all its frames are there, none is newer")
    try:
        if path.is_dir():
            return _open_folder(path)
        if path.is_file():
            with open(path, "rb") as file:
                if not file.read(1):
                    raise UserError(f"{path} is empty (0 bytes)")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if path.exists():
        if is_image_name(path.name):  # for OpenCV the start of a numbered series, or a video of one frame
            raise UserError(f"{path} is one image: give a video, or the folder that holds the frames")
        return _open_video(path.stem, opencv_path(source), source)
    if source.isdecimal():
        found = _open_video(f"camera{source}", int(source), f"camera {source}")
    elif "://" in source:
        found = _open_video(re.sub(r"\W+", "_", source.split("://")[1]), source, source)
    else:
        raise UserError(f"there is no file or folder {source}; give a video, a folder of images or a camera's index")
    return replace(found, frames=NewestFrames(found.frames)) if newest else found


def opencv_path(path: str | Path) -> str:
    """A path for OpenCV, which ends the process where a name is not UTF-8: here it is a UserError."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path} has a name that is not UTF-8: rename it, or choose another") from error
    return str(path)


def _open_folder(folder: Path) -> FrameSource:
    files = list_images(folder)
    if not files:
        inner = sorted(p for p in folder.iterdir() if p.is_dir() and list_images(p))
        hint = f"; did you mean {inner[0]}?" if inner else f" ({', '.join(IMAGE_SUFFIXES)})"
        raise UserError(f"the folder {folder} holds no images{hint}")
    if gaps := missing_numbers([file.name for file in files]):
        print(f"note: frames are missing in {folder}: {some(gaps)}")
    return FrameSource(folder.resolve().name or "frames", map(read_image, files), DEFAULT_FPS, len(files))


def _open_video(name: str, location: str | int, where: str) -> FrameSource:
    """A source with at least one frame; `location` is a camera's index, or what OpenCV opens."""
    # What FFmpeg and OpenCV say of damaged files and missing cameras would stand beside our own line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    capture, camera = cv2.VideoCapture(location), isinstance(location, int)
    if not capture.isOpened() and camera:
        raise UserError(f"{where} cannot be opened: is it connected, and may this user read it?")
    if not capture.isOpened():
        raise UserError(f"{where} is not a video that OpenCV reads: it is another kind of file, or damaged")
    frames = _frames(capture)
    first = next(frames, None)
    if first is None:
        raise UserError(f"{where} gives no frame: it holds no picture, or is damaged")
    fps, total = plausible_fps(capture.get(cv2.CAP_PROP_FPS)), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return FrameSource(name, itertools.chain([first], frames), fps, int(total) if total > 0 and not camera else None)


def _frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while (frame := capture.read()[1]) is not None:
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
