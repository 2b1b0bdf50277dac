"""One open page: its clip, its objects, and the thread that decodes and tracks for it."""

import asyncio
import copy
import itertools
import json
import logging
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import ConfigDict, Field, PlainValidator, ValidationError, validate_call

from ...data.images import IMAGE_SUFFIXES
from ...data.registry import SAMPLE_PREFIX, find_sample
from ...utils.errors import UserError
from .clips import Clip, Limits, Media, open_clip
from .downloads import DOWNLOADS, encode_jpeg
from .trackers import Box, TrackedObject, Trackers

MOST_OBJECTS = 6  # as many as there are colours that differ on any ground
_SMALLEST_BOX = 4  # pixels a side
_SHOWN_SIDE, _SHOWN_QUALITY = 1280, 85  # of the pictures that a page shows
_NOT_UNDERSTOOD = "the server does not understand the page: reload it"

Send = Callable[[dict, bytes | None], None]
_commands: dict[str, Callable] = {}

log = logging.getLogger(__name__)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError("a text of at most 4096 characters")
    return value


# Arguments of commands; anything else is refused.
_Object = Annotated[int, Field(ge=1, le=MOST_OBJECTS)]
_Frame = Annotated[int, Field(ge=0, le=10**7)]
_Name = Annotated[str, PlainValidator(_text)]  # not pydantic's `str`, which refuses file names that are not UTF-8
_DrawnBox = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=4, max_length=4)]


def _command(method: Callable) -> Callable:
    """Let a page call a method by its name, with arguments that fit its annotations."""
    _commands[method.__name__] = validate_call(config=ConfigDict(strict=True))(method)
    return method


class Session(threading.Thread):
    """Runs the commands of one page, and between them its jobs, to track and to write a download.

    A job is a generator that does a frame a step.

    Args:
        folder: for its files; removed at the end.
        send: takes a message, and a picture as JPEG or None; waits until the page has room for it.

    Attributes:
        inbox: messages of the page, as JSON.
        clip: the open clip, or None.
        objects: the objects of the clip by number.
        uploading: held while a file arrives.
        uploaded: bytes of the last upload.
    """

    def __init__(self, folder: Path, limits: Limits, trackers: Trackers, media: Media, send: Send) -> None:
        super().__init__(name="tracker", daemon=True)
        self.folder, self.limits, self.trackers, self.media, self._send = folder, limits, trackers, media, send
        self.folder.mkdir(exist_ok=True)
        self.inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.clip: Clip | None = None
        self.objects: dict[int, TrackedObject] = {}
        self.uploading, self.uploaded = asyncio.Lock(), 0
        self._upload, self._upload_name = None, ""
        self._numbers = itertools.count(1)  # of uploaded pictures
        self._ended = False
        self._jobs: dict[str, Iterator[None]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}  # of shown frames with another size than the clip's

    def end(self) -> None:
        """The page is gone: the thread ends after the current step and removes the files."""
        self._ended = True
        self.inbox.put("")  # wakes the thread

    def run(self) -> None:
        """Run commands and jobs until the page is gone."""
        while not self._ended:
            try:
                text = self.inbox.get(block=not self._jobs)
            except queue.Empty:
                self.step()
            else:
                self.handle(text)
        self._cancel(*self._jobs)
        shutil.rmtree(self.folder, ignore_errors=True)

    def handle(self, text: str) -> None:
        """Run the command of a message, `{"type": command, **arguments}`."""
        try:
            arguments = json.loads(text)
            name = arguments.pop("type")
            command = _commands[name]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            self._tell("error", about="", text=_NOT_UNDERSTOOD)
            return
        with self._reporting(name):
            if self.clip is None and name in ("show", "draw"):
                raise UserError("choose a clip first")
            command(self, **arguments)

    def step(self) -> bool:
        """Do one step of each job; False if there is none left."""
        for kind, steps in list(self._jobs.items()):
            going_on = False
            with self._reporting(kind):
                going_on = next(steps, self) is None
            if not going_on:
                del self._jobs[kind]
        return bool(self._jobs)

    def next_upload(self, name: str, more: bool) -> Path:
        """Path of the next file of an upload, `more` if there are files before it; called in the server's thread.

        Of the page's `name` only the kind of picture is taken.
        """
        if self._upload is None or not more:
            for old in self.folder.glob("upload*"):
                if self.clip is None or old not in (self.clip.path, self.clip.path.parent):
                    shutil.rmtree(old, ignore_errors=True)
            self._upload = Path(tempfile.mkdtemp(prefix="upload", dir=self.folder))
            self.uploaded, self._upload_name = 0, Path(name.replace("\\", "/")).name
        suffix = Path(name).suffix.lower()
        return self._upload / (f"{next(self._numbers):08d}{suffix}" if suffix in IMAGE_SUFFIXES else "video")

    # Commands

    @_command
    def browse(self, path: _Name) -> None:
        self._tell("listed", **self.media.list(path))

    @_command
    def open_sample(self, name: _Name) -> None:
        path, sample = find_sample(SAMPLE_PREFIX + name)
        self._open(path, name, list(sample.box))

    @_command
    def open_media(self, path: _Name) -> None:
        found = self.media.clip(path)
        self._open(found, found.name)

    @_command
    def open_upload(self) -> None:
        if self._upload is None:
            raise UserError("nothing has been uploaded yet")
        video = self._upload / "video"
        self._open(video if video.exists() else self._upload, self._upload_name)

    @_command
    def show(self, frame: _Frame) -> None:
        """Send the picture of a frame, or the length of the clip if it is shorter."""
        image = next(self.clip.frames(frame), None)
        if image is None:
            self._tell("length", frames=self.clip.total)
        else:
            self._send_picture("picture", frame, image)

    @_command
    def draw(self, number: _Object, frame: _Frame, box: _DrawnBox) -> None:
        """Take the box of an object, xywh in pixels, in a frame."""
        if frame >= (self.clip.total or self.limits.frames):
            raise UserError(f"there is no frame {frame + 1} in this clip")
        box = visible_part(box, self._sizes.get(frame, self.clip.size))
        self.pause()
        self.objects.setdefault(number, TrackedObject(number)).draw(frame, box)
        self._tell("drawn", object=number, frame=frame, box=box)

    @_command
    def remove(self, number: _Object) -> None:
        self.pause()
        self.objects.pop(number, None)
        self._tell("removed", object=number)

    @_command
    def track(self, key: _Name, engine: _Name) -> None:
        """Track all objects that have a box, from the first frame that one of them lacks to the end."""
        if not self.objects:
            raise UserError("draw a box around what to follow first")
        self._cancel("track")
        self._jobs["track"] = self._tracking((key, engine))

    @_command
    def pause(self) -> None:
        """Stop tracking; the boxes found so far stay."""
        if self._cancel("track"):
            self._tell("ended", why="paused", frames=self.clip.total)

    @_command
    def export(self, what: Literal["video", "table", "sequences"]) -> None:
        """Write a file to download."""
        # Copies, since a person may go on while a file is written.
        objects = [copy.copy(each) for _, each in sorted(self.objects.items()) if each.boxes]
        if not objects:
            raise UserError("there is nothing to download yet: track an object first")
        self.pause()
        self._cancel("export")
        self._jobs["export"] = self._exporting(what, objects)

    # Jobs

    def _tracking(self, choice: tuple[str, str]) -> Iterator[None]:
        self._tell("loading", tracker=choice[0], engine=choice[1])
        tracker = self.trackers.get(*choice)
        objects = list(self.objects.values())
        for each in objects:
            if each.use(tracker, choice):
                self._tell("forgotten", object=each.number, frame=each.next)
        start = min(each.next for each in objects)
        seconds = None  # of one frame in the trackers, smoothed
        for index, image in enumerate(self.clip.frames(start), start):
            with self.trackers.lock:
                begin = time.perf_counter()
                for each in objects:
                    each.step(index, image)
                last = time.perf_counter() - begin
            if index > start:  # where a tracker begins, it takes another time
                seconds = 0.9 * (seconds or last) + 0.1 * last
            found = [each.at(index) for each in objects if each.covers(index)]
            self._send_picture("frame", index, image, objects=found, fps=seconds and round(1 / seconds, 1))
            yield
        self._tell("ended", why="end" if start < self.clip.total else "complete", frames=self.clip.total)

    def _exporting(self, what: str, objects: list[TrackedObject]) -> Iterator[None]:
        write, _ = DOWNLOADS[what]
        for share in write(self.folder / what, self.clip, objects):
            self._tell("progress", share=round(share, 3))
            yield
        self._tell("exported", what=what)

    # Helpers

    def _open(self, path: Path, name: str, box: Box | None = None) -> None:
        """Open another clip. The one before goes, with all that was tracked, once this one is known to be a clip."""
        clip = open_clip(path, name, self.limits)
        self._cancel(*self._jobs)
        self.clip, self.objects, self._sizes = clip, {}, {}
        width, height = clip.size
        self._tell("opened", name=name, frames=clip.total, fps=clip.fps, box=box, width=width, height=height)
        self.show(0)

    def _cancel(self, *kinds: str) -> bool:
        """Cancel jobs; True where one was running."""
        gone = [self._jobs.pop(kind) for kind in kinds if kind in self._jobs]
        for steps in gone:
            steps.close()
        return bool(gone)

    @contextmanager
    def _reporting(self, about: str) -> Iterator[None]:
        """Tell the page of an error, and go on."""
        try:
            yield
        except UserError as error:
            self._tell("error", about=about, text=str(error))
        except ValidationError:
            self._tell("error", about=about, text=_NOT_UNDERSTOOD)
        except OSError as error:  # a directory that may not be read, a full disk
            self._tell("error", about=about, text=f"the server cannot read or write that: {error.strerror}")
        except Exception as error:
            log.exception("%s failed", about)
            text = f"something went wrong in the server ({type(error).__name__}: {error}); its log says where"
            self._tell("error", about=about, text=text)

    def _tell(self, kind: str, **more: object) -> None:
        self._send({"type": kind, **more}, None)

    def _send_picture(self, kind: str, frame: int, image: np.ndarray, **more: object) -> None:
        height, width = image.shape[:2]
        if (width, height) != self.clip.size:
            self._sizes[frame] = (width, height)
        scale = min(1.0, _SHOWN_SIDE / max(width, height))
        if scale < 1:
            shown = (round(width * scale) or 1, round(height * scale) or 1)
            image = cv2.resize(image, shown, interpolation=cv2.INTER_AREA)
        message = {"type": kind, "frame": frame, "width": width, "height": height, **more}
        self._send(message, encode_jpeg(image, _SHOWN_QUALITY))


def visible_part(box: Box, size: tuple[int, int]) -> Box:
    """The part of a drawn box, xywh in pixels, that lies in a frame of `size` (width, height).

    Raises:
        UserError: it lies outside the frame, or is too small to follow.
    """
    left, top = max(0.0, float(box[0])), max(0.0, float(box[1]))
    width, height = min(size[0], box[0] + box[2]) - left, min(size[1], box[1] + box[3]) - top
    if min(box[2:]) > 0 and min(width, height) <= 0:
        raise UserError(f"the box lies outside the frame, which is {size[0]}x{size[1]}")
    if min(width, height) < _SMALLEST_BOX:
        raise UserError(
            f"the box is too small ({width:.0f}x{height:.0f} pixels): "
            f"draw it at least {_SMALLEST_BOX} pixels wide and high"
        )
    return [left, top, float(width), float(height)]
