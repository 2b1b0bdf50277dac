"""Clips that a browser sends or names: videos and folders of images, with limits that hold before a frame is decoded.

`lib.test.video.source` reads what the user of a command trusts, from start to end. Here a frame is found by its index,
a file cannot name other files, the decoder refuses frames that are too large, and a page may look into the server's
media directories and nothing outside them.
"""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ...data.images import ImageReadError, decode_image, is_image_name, list_images
from ...utils.errors import UserError
from ..video.source import DEFAULT_FPS, plausible_fps

# Containers that hold their pictures themselves. Playlists (HLS, concat, DASH, SDP) would name files of the server, or
# addresses that it then asks.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,gif,ivf,h264,hevc"
_VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".ogv", ".flv", ".wmv", ".3gp"),
    ".gif",
)
_BLOCK = 2**28  # bytes of frames that are held where a clip is read backwards
_SEEK_BEFORE = 8  # frames: those right before a key frame may need frames before it


@dataclass(frozen=True)
class Limits:
    """Limits: MiB of an upload, frames of a clip, pixels of a frame's width and height."""

    upload_mb: float = 500
    frames: int = 20_000
    side: int = 4096

    def check_size(self, name: str, width: int, height: int) -> None:
        """Refuse frames that are too large; a decoder that does not know the size yet says 0."""
        if max(width, height) > self.side:
            raise UserError(
                f"the frames of {name} are too large ({width}x{height} pixels): "
                f"at most {self.side}x{self.side} pixels are taken here"
            )


class Clip(ABC):
    """Frames of one video or folder, found by their index; a UserError where it cannot be read, or exceeds a limit."""

    fps: float  # frames a second at which it plays
    total: int | None  # number of frames; None where unknown
    exact = False  # whether `total` is certain: a video's header may be wrong, until its end was reached
    size: tuple[int, int]  # width and height of the first frame
    files: Sequence[Path] = ()  # the pictures of a folder

    def __init__(self, path: Path, name: str, limits: Limits) -> None:
        self.path, self.name, self.limits = path, name, limits
        self.fps, self.total = self._open()
        if self.total is not None and self.total > limits.frames:
            raise UserError(f"{name} has {self.total:,} frames; at most {limits.frames:,} are taken here: cut it first")
        first = next(self.frames(), None)
        if first is None:
            raise UserError(f"{name} holds no picture")
        self.size = (first.shape[1], first.shape[0])

    @property
    def most(self) -> int:
        """The number of frames; the most that there may be where the header alone says how many."""
        return self.total if self.exact else self.limits.frames

    @abstractmethod
    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        """The frames from an index on, (H, W, 3) uint8 RGB; a UserError where one is damaged or too large."""

    def pick(self, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """The frames of rising or falling indices, at least one, with the indices; ends where the clip does.

        Falling ones are decoded block by block. Frames after the last one, which may be damaged, are not.
        """
        falling, (width, height) = wanted[0] > wanted[-1], self.size
        size = max(1, min(64, _BLOCK // (3 * width * height))) if falling else len(wanted)
        for begin in range(0, len(wanted), size):
            block = set(wanted[begin : begin + size])
            numbered = zip(range(min(block), max(block) + 1), self.frames(min(block)), strict=False)
            found = ((index, image) for index, image in numbered if index in block)
            yield from reversed(list(found)) if falling else found

    @abstractmethod
    def _open(self) -> tuple[float, int | None]:
        """Frames a second, and the number of frames."""


def open_clip(path: Path, name: str, limits: Limits) -> Clip:
    """Open a video or a folder of images; errors as of `Clip`."""
    return (FolderClip if path.is_dir() else VideoClip)(path, name, limits)


class FolderClip(Clip):
    """A folder of images."""

    exact = True

    def _open(self) -> tuple[float, int]:
        try:
            self.files = list_images(self.path)
        except OSError as error:  # replaced since it was chosen
            raise UserError(f"{self.name} cannot be read: {error.strerror}; choose it again") from error
        return DEFAULT_FPS, len(self.files)

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        for path in self.files[start:]:
            try:
                data = path.read_bytes()
                with Image.open(io.BytesIO(data)) as header:  # decodes nothing
                    self.limits.check_size(path.name, *header.size)
                image = decode_image(data, path.name)
            except (ImageReadError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
                raise UserError(f"{path.name} of {self.name} is not a picture, is damaged or cannot be read") from error
            yield image


class VideoClip(Clip):
    """A video file."""

    def _open(self) -> tuple[float, int | None]:
        self._times: list[int] = []  # presentation times of the frames decoded so far, by index
        self._ordered = True  # whether these times tell frames apart
        with self._container() as (container, stream):
            fps = plausible_fps(float(stream.average_rate or stream.guessed_rate or 0))
            seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0
            seconds = seconds or (container.duration or 0) / av.time_base
            return fps, stream.frames or (max(1, round(seconds * fps)) if seconds else None)

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        index = max(0, min(start, len(self._times) - 1) - _SEEK_BEFORE) if self._ordered else 0
        with self._container() as (container, stream):
            frames = self._decoded(container, stream)
            if index:
                wanted = self._times[index]
                with suppress(av.error.FFmpegError):  # then `frames` begins at the start
                    container.seek(wanted, stream=stream)
                found = next((frame.pts for frame in frames if frame.pts is None or frame.pts >= wanted), None)
                self._ordered = found == wanted
                if not self._ordered:  # seeking in this file leads elsewhere
                    yield from self.frames(start)
                    return
                index += 1
            for frame in frames:
                if index == len(self._times) and self._ordered:
                    self._ordered = frame.pts is not None and (not self._times or frame.pts > self._times[-1])
                    self._times.append(frame.pts or 0)
                if index >= self.limits.frames:
                    raise UserError(f"{self.name} is longer than the {self.limits.frames:,} frames that are taken here")
                self.total = self.total and max(self.total, index + 1)  # a header may say too few
                if index >= start:  # telephones film lying and say so
                    image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
                    yield np.ascontiguousarray(image)
                index += 1
            self.total, self.exact = index, True

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        try:
            for frame in container.decode(stream):
                self.limits.check_size(self.name, frame.width, frame.height)
                yield frame
        except av.error.FFmpegError as error:
            # The limit of pixels and damage look alike to the decoder.
            where = f"after frame {len(self._times)}" if self._times else "in its first frame"
            reason = f"it is damaged, or its frames are larger than {self.limits.side}x{self.limits.side}"
            raise UserError(f"{self.name} cannot be decoded {where}: {reason}") from error

    @contextmanager
    def _container(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        """The container and its pictures; the decoder refuses frames beyond the limit before it makes room for them."""
        pixels = {"max_pixels": str(self.limits.side**2)}
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", **pixels}
        try:
            container = av.open(str(self.path.absolute()), options=options, metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(f"{self.name} is not a video: it is another kind of file, or damaged") from error
        with container:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context is None:
                raise UserError(f"{self.name} holds no pictures that can be decoded here")
            self.limits.check_size(self.name, stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = pixels
            yield container, stream


class Media:
    """Directories by number: a page names `<number>/<path below it>`, `""` for the list of them.

    Links are followed only where they lead to something below one of the directories. A name that does not exist and
    one that leads out are refused by the same `UserError`.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.roots = [directory.resolve() for directory in directories]
        for directory in directories:
            if not directory.is_dir():
                raise UserError(f"--media {directory} is not a directory")

    def find(self, name: str) -> Path:
        """The file or directory that a page names."""
        number, _, rest = name.partition("/")
        try:
            path = self._inside(self.roots[int(number)] / rest)
        except (ValueError, IndexError):
            path = None
        if path is None:
            raise UserError(f"there is no {name[:200]!r} among the server's directories")
        return path

    def clip(self, name: str) -> Path:
        """The same for a clip: the pictures of a folder do not lead out of the directories, either."""
        path = self.find(name)
        for picture in list_images(path) if path.is_dir() else ():
            if self._inside(picture) is None:
                raise UserError(
                    f"the picture {picture.name} of {path.name} is no file, or a link out of the server's directories: "
                    "start the server with --media for where it leads, too"
                )
        return path

    def beside(self, clip: Path, *names: str) -> Path | None:
        """The first of some files that lies in the folder of a clip's pictures, or in the folder around."""
        folders = (clip, clip.parent) if clip.is_dir() else ()
        return next(filter(None, (self._inside(folder / name) for folder in folders for name in names)), None)

    def list(self, name: str) -> dict:
        """The content of a directory: `{"path", "frames", "entries": [{"name", "path", "kind"}]}`.

        `frames` is the number of images in it, which can be opened as a clip; `kind` is `folder` or `video`.
        """
        if name == "":
            roots = [{"name": root.name or str(root), "path": str(i)} for i, root in enumerate(self.roots)]
            return {"path": "", "frames": 0, "entries": [root | {"kind": "folder"} for root in roots]}
        folder, entries = self.find(name), []
        names = sorted(os.listdir(folder), key=str.lower)
        for each in names:
            path = None if each.startswith(".") or is_image_name(each) else self._inside(folder / each)
            if path is not None and (path.is_dir() or each.lower().endswith(_VIDEO_SUFFIXES)):
                kind = "folder" if path.is_dir() else "video"
                entries.append({"name": each, "path": f"{name}/{each}", "kind": kind})
        entries.sort(key=lambda entry: entry["kind"])  # folders first
        return {"path": name, "frames": sum(map(is_image_name, names)), "entries": entries}

    def _inside(self, path: Path) -> Path | None:
        """Where a path leads, if that is a file or directory below one of the roots: a pipe would be waited for."""
        try:
            path = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # it does not exist, is a loop of links, or no path at all
            return None
        inside = any(path.is_relative_to(root) for root in self.roots)
        return path if inside and (path.is_file() or path.is_dir()) else None
