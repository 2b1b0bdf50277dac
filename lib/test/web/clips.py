"""Clips that strangers may have made: videos and folders of images, with limits that hold before a frame is decoded.

`lib.test.video.source` reads what the user of a command trusts, from start to end. Here a frame is found again by its
number, a file cannot name other files, and the decoder itself refuses frames that are too large.
"""

import io
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from lib.data.images import ImageReadError, decode_image, list_images
from lib.test.video.source import DEFAULT_FPS
from lib.utils.errors import UserError

# Containers that hold their pictures themselves. Playlists (HLS, concat, DASH, SDP) would name files of the server, or
# addresses that it then asks.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,gif,ivf,h264,hevc"
_LARGEST_FPS = 240.0  # beyond it a header is wrong
# A seek goes a little further back: frames right before a key frame may need what comes before it.
_SEEK_BEFORE = 8


@dataclass(frozen=True)
class Limits:
    """Limits, each an option of `tracking/web_demo.py`.

    Attributes:
        sessions: open pages at the same time.
        upload_mb: size of one upload, in MiB.
        frames: length of a video or a folder.
        side: width and height of a frame, in pixels.
        idle_minutes: a page without any action for this time is closed, and its files are removed.
    """

    sessions: int = 20
    upload_mb: float = 500
    frames: int = 20_000
    side: int = 4096
    idle_minutes: float = 30

    @property
    def upload_bytes(self) -> int:
        """`upload_mb` in bytes."""
        return int(self.upload_mb * 2**20)


class Clip:
    """Frames of one video or folder, found by their index.

    Attributes:
        name: what it is called.
        fps: frames a second at which it plays.
        total: its number of frames as far as known: a video's header may be wrong, until its end was reached.
        size: width and height of the first frame.
    """

    name: str
    fps: float
    total: int | None
    size: tuple[int, int]

    def frames(self, start: int = 0) -> Iterator[np.ndarray | None]:
        """The frames from an index on, (H, W, 3) uint8 RGB; None for each that is only passed on the way to it.

        Raises:
            UserError: a frame is damaged or too large, or there are more frames than allowed.
        """
        raise NotImplementedError


def open_clip(path: Path, name: str, limits: Limits) -> Clip:
    """Open a video or a folder of images.

    Args:
        path: the file or folder.
        name: what to call it, in messages, too.
        limits: what is taken.

    Raises:
        UserError: it is none of both, damaged, too long or too large.
    """
    return FolderClip(path, name, limits) if path.is_dir() else VideoClip(path, name, limits)


class VideoClip(Clip):
    """A video file; see `open_clip`."""

    def __init__(self, path: Path, name: str, limits: Limits) -> None:
        self.path, self.name, self.limits = path, name, limits
        self._times: list[int] = []  # presentation times of the frames seen so far, in order
        self._ordered = True  # whether these times tell frames apart
        with self._opened() as (container, stream):
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            self.fps = rate if 0 < rate <= _LARGEST_FPS else DEFAULT_FPS
            self.total = stream.frames or _estimate(container, stream, self.fps)
            if self.total is not None and self.total > limits.frames:
                raise UserError(
                    f"{name} has about {self.total:,} frames; at most {limits.frames:,} are taken here: cut it first"
                )
        first = next(self.frames(), None)
        if first is None:
            raise UserError(f"{name} holds no picture")
        self.size = (first.shape[1], first.shape[0])

    def frames(self, start: int = 0) -> Iterator[np.ndarray | None]:
        """See `Clip.frames`."""
        index = self._reachable(start)
        while True:
            with self._opened() as (container, stream):
                frames = self._decoded(container, stream)
                if index > 0:
                    index = yield from self._seek(container, stream, frames, index)
                    if index == 0:
                        continue  # this file cannot be sought in: from its beginning
                yield from self._from(frames, index, start)
                return

    def _from(self, frames: Iterator[av.VideoFrame], index: int, start: int) -> Iterator[np.ndarray | None]:
        """The frames from `start` on, where the next that is decoded has the index `index`."""
        for frame in frames:
            self._note_time(index, frame)
            if index >= self.limits.frames:
                raise UserError(f"{self.name} is longer than the {self.limits.frames:,} frames that are taken here")
            yield _rgb(frame) if index >= start else None
            index += 1
        self.total = index

    def _reachable(self, start: int) -> int:
        """The frame to go on from: a bit before `start`, or before the last one whose place is known."""
        if not self._ordered:
            return 0
        return max(0, min(start, len(self._times) - 1) - _SEEK_BEFORE)

    def _seek(
        self, container: av.container.InputContainer, stream: av.VideoStream, frames: Iterator[av.VideoFrame], to: int
    ) -> Generator[None, None, int]:
        """Go to a frame by its time; returns the index of the next frame that `frames` will give, 0 if that failed."""
        wanted = self._times[to]
        try:
            container.seek(wanted, stream=stream, backward=True)
        except av.error.FFmpegError:
            return 0
        for frame in frames:
            if frame.pts is None or frame.pts > wanted:
                return 0
            if frame.pts == wanted:
                return to + 1
            yield None
        return 0

    def _note_time(self, index: int, frame: av.VideoFrame) -> None:
        if index == len(self._times) and self._ordered:
            self._ordered = frame.pts is not None and (not self._times or frame.pts > self._times[-1])
            self._times.append(frame.pts if self._ordered else 0)

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        try:
            for frame in container.decode(stream):
                self._check_size(frame.width, frame.height)
                yield frame
        except av.error.FFmpegError as error:
            # The limit of pixels and damage look alike to the decoder.
            where = f"after frame {len(self._times)}" if self._times else "in its first frame"
            raise UserError(
                f"{self.name} cannot be decoded {where}: it is damaged, or its frames are larger than "
                f"{self.limits.side}x{self.limits.side}"
            ) from error

    @contextmanager
    def _opened(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        """The container and its pictures; the decoder refuses frames beyond the limit before it makes room for them."""
        pixels = {"max_pixels": str(self.limits.side**2)}
        rules = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        try:
            container = av.open(str(self.path.absolute()), options=pixels | rules, metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(f"{self.name} is not a video: it is another kind of file, or damaged") from error
        with container:
            if not container.streams.video:
                raise UserError(f"{self.name} holds no pictures, only sound or text")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UserError(f"{self.name} is coded in a way that is not known here, or is damaged")
            self._check_size(stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = pixels
            yield container, stream

    def _check_size(self, width: int, height: int) -> None:
        _check_size(self.name, width, height, self.limits)


class FolderClip(Clip):
    """A folder of images; see `open_clip`."""

    def __init__(self, path: Path, name: str, limits: Limits) -> None:
        self.name, self.limits, self.fps = name, limits, DEFAULT_FPS
        try:
            self.files = list_images(path)
        except OSError as error:
            raise UserError(f"the folder {name} cannot be read: {error.strerror}") from error
        if not self.files:
            raise UserError(f"the folder {name} holds no pictures")
        self.total = len(self.files)
        if self.total > limits.frames:
            raise UserError(f"{name} has {self.total:,} pictures; at most {limits.frames:,} are taken here")
        first = next(self.frames())
        self.size = (first.shape[1], first.shape[0])

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        """See `Clip.frames`."""
        for path in self.files[start:]:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise UserError(f"{path.name} of {self.name} cannot be read: {error.strerror}") from error
            _check_size(path.name, *_image_size(data, path.name, self.limits), self.limits)
            try:
                yield decode_image(data, path.name)
            except ImageReadError as error:
                raise _not_a_picture(path.name) from error


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """A frame as (H, W, 3) uint8 RGB, upright: telephones film lying and say so."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _estimate(container: av.container.InputContainer, stream: av.VideoStream, fps: float) -> int | None:
    """Frames by the duration, where the header does not count them."""
    if stream.duration and stream.time_base:
        return max(1, round(float(stream.duration * stream.time_base) * fps))
    return max(1, round(container.duration / av.time_base * fps)) if container.duration else None


def _image_size(data: bytes, name: str, limits: Limits) -> tuple[int, int]:
    """Width and height by the header; nothing is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, for which our own limit follows, and of damage
            with Image.open(io.BytesIO(data)) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise UserError(_too_large(name, "far more", limits)) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise _not_a_picture(name) from error


def _not_a_picture(name: str) -> UserError:
    return UserError(f"{name} is not a picture, or is damaged")


def _check_size(name: str, width: int, height: int, limits: Limits) -> None:
    """Refuse frames that are too large; a decoder that does not know yet says 0."""
    if max(width, height) > limits.side:
        raise UserError(_too_large(name, f"{width}x{height} pixels", limits))


def _too_large(name: str, size: str, limits: Limits) -> str:
    return f"the frames of {name} are too large ({size}): at most {limits.side}x{limits.side} pixels are taken here"
