"""The work of one page: its clip, its objects, and the jobs that its commands begin."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from lib.test.video.demo import check_box
from lib.test.web.catalogue import Choice, Trackers
from lib.test.web.clips import Clip, Limits, open_clip
from lib.test.web.exports import WRITERS, Download, encode_jpeg
from lib.test.web.objects import TrackedObject
from lib.utils.errors import UserError

WINDOW = 8  # pictures on their way to a page: it acknowledges each one that it has shown
MOST_OBJECTS = 6  # as many as there are colours that differ on any ground
SMALLEST_BOX = 4  # pixels a side
_SHOWN_SIDE, _SHOWN_QUALITY = 1280, 85  # of the pictures that a page shows
_PROGRESS_STEPS = 20
_POLL_SECONDS = 0.5

Send = Callable[[dict, bytes | None], None]
# A job is a generator. It yields after each short step: None, or a function that returns True when it can go on.
Steps = Iterator[Callable[[], bool] | None]

log = logging.getLogger(__name__)


class Desk:
    """Runs the commands of one page in one thread; the answers go to `send`.

    Args:
        folder: for downloads.
        limits: see `lib.test.web.clips.Limits`.
        trackers: makes the chosen tracker.
        send: takes a message, and a picture as JPEG or None.
        clock: seconds.
    """

    def __init__(
        self, folder: Path, limits: Limits, trackers: Trackers, send: Send, clock: Callable[[], float]
    ) -> None:
        self.folder, self.limits, self.trackers, self.send, self.clock = folder, limits, trackers, send, clock
        self.clip: Clip | None = None
        self.objects: dict[int, TrackedObject] = {}
        self.credit = WINDOW
        self._jobs: dict[str, tuple[Steps, str, Callable[[], bool] | None]] = {}  # in the order of their turns
        self._sizes: dict[int, tuple[int, int]] = {}  # of shown frames with another size than the clip's
        self._seconds: float | None = None  # of one frame in the trackers, smoothed

    def run(self, commands: queue.Queue[tuple[str, dict]], ended: threading.Event) -> None:
        """Run commands and jobs until `ended` is set."""
        try:
            while not ended.is_set():
                try:
                    name, arguments = commands.get(block=not self.step(), timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                self._guarded(name, getattr(self, name), **arguments)
        finally:
            self.cancel()

    def step(self) -> bool:
        """Do one step of the next job that can go on; False where none can."""
        for kind, (steps, about, waits_for) in list(self._jobs.items()):
            if waits_for is None or waits_for():
                del self._jobs[kind]
                self._guarded(about, self._step_job, kind, steps, about)
                return True
        return False

    def cancel(self, kind: str | None = None) -> bool:
        """Cancel the job of a kind, or all; True where one was running."""
        gone = [self._jobs.pop(each)[0] for each in list(self._jobs) if kind in (None, each)]
        for steps in gone:
            steps.close()
        return bool(gone)

    # Commands, by the names in the page's messages

    def open(self, path: Path, name: str, box: list[float] | None, ticket: str) -> None:
        """Open another clip; `ticket` comes back with the answer.

        The one before goes, with all that was tracked, once the other one is known to be a clip.
        """
        self.pause()
        self.cancel()
        self._begin("open", self._opening(path, name, box, ticket), about="open")

    def draw(self, number: int, frame: int, box: list[float]) -> None:
        """Take the box of an object, xywh in pixels, in a frame."""
        clip = self._need_clip()
        if not 1 <= number <= MOST_OBJECTS or not 0 <= frame < (clip.total or self.limits.frames):
            raise UserError(f"there is no object {number} or no frame {frame + 1} here")
        box = visible_part(box, self._sizes.get(frame, clip.size))
        self.pause()
        each = self.objects.setdefault(number, TrackedObject(number))
        each.draw(frame, box)
        self.send({"type": "drawn", "object": number, "frame": frame, "box": box}, None)

    def remove(self, number: int) -> None:
        """Forget an object."""
        self.pause()
        self.objects.pop(number, None)
        self.send({"type": "removed", "object": number}, None)

    def track(self, key: str, engine: str) -> None:
        """Track all objects that have a box, from the first frame that one of them lacks to the end."""
        self._need_clip()
        if not self.objects:
            raise UserError("draw a box around what to follow first")
        self._begin("track", self._tracking(Choice(key, engine)), about="track")

    def pause(self) -> None:
        """Stop tracking; what was found stays."""
        if self.cancel("track"):
            self._end("paused")

    def show(self, frame: int) -> None:
        """Send the picture of a frame."""
        self._need_clip()
        self._begin("show", self._showing(frame), about="show")

    def export(self, what: Download) -> None:
        """Write a file to download."""
        self._need_clip()
        objects = [each for each in self.objects.values() if each.boxes]
        if not objects:
            raise UserError("there is nothing to download yet: track an object first")
        self.pause()
        objects = [each.frozen() for each in sorted(objects, key=lambda each: each.number)]
        self._begin("export", self._exporting(what, objects), about="export")

    def ack(self) -> None:
        """The page has shown a picture and has room for another."""
        self.credit = min(self.credit + 1, WINDOW)

    # Jobs

    def _opening(self, path: Path, name: str, box: list[float] | None, ticket: str) -> Steps:
        clip = open_clip(path, name, self.limits)
        yield None
        image = next(image for image in clip.frames() if image is not None)
        self.clip, self.objects, self._sizes, self._seconds = clip, {}, {}, None
        size = {"width": clip.size[0], "height": clip.size[1]}
        message = {"type": "opened", "name": name, "frames": clip.total, "fps": clip.fps, "box": box, "ticket": ticket}
        self.send(message | size, None)
        self._send_picture("picture", 0, image, {})

    def _showing(self, frame: int) -> Steps:
        for image in self.clip.frames(max(0, frame)):
            if image is not None:
                self._send_picture("picture", frame, image, {})
                return
            yield None
        self.send({"type": "length", "frames": self.clip.total}, None)

    def _tracking(self, choice: Choice) -> Steps:
        if not self.trackers.has(choice):
            self.send({"type": "loading", "tracker": choice.key, "engine": choice.engine}, None)
        tracker = self.trackers.get(choice)
        objects = list(self.objects.values())
        for each in objects:
            if each.use(tracker, choice):
                self.send({"type": "forgotten", "object": each.number, "frame": each.next}, None)
        index = start = min(each.next for each in objects)
        for image in self.clip.frames(start):
            if image is None:
                yield None
                continue
            yield self._has_credit
            self._step(objects, index, image)
            found = [at for each in objects if (at := each.at(index)) is not None]
            self.credit -= 1
            self._send_picture("frame", index, image, {"objects": found, "fps": self._fps()})
            index += 1
            yield None
        self._end("end" if index > start else "complete")

    def _step(self, objects: list[TrackedObject], index: int, image: np.ndarray) -> None:
        begin = self.clock()
        with self.trackers.lock:
            for each in objects:
                each.step(index, image)
        seconds = self.clock() - begin
        if any(index in each.drawn for each in objects):
            return  # a tracker was begun here, which takes another time
        self._seconds = seconds if self._seconds is None else 0.9 * self._seconds + 0.1 * seconds

    def _exporting(self, what: Download, objects: list[TrackedObject]) -> Steps:
        told = 0
        try:
            for share in WRITERS[what](self.folder / what, self.clip, objects):
                if int(share * _PROGRESS_STEPS) > told:
                    told = int(share * _PROGRESS_STEPS)
                    self.send({"type": "progress", "what": what, "share": told / _PROGRESS_STEPS}, None)
                yield None
        except OSError as error:
            raise UserError(f"the server cannot write the file: {error.strerror}") from error
        self.send({"type": "exported", "what": what}, None)

    # Helpers

    def _begin(self, kind: str, steps: Steps, about: str) -> None:
        self.cancel(kind)
        self._jobs[kind] = steps, about, None

    def _step_job(self, kind: str, steps: Steps, about: str) -> None:
        try:
            waits_for = next(steps)
        except StopIteration:
            return
        except (UserError, OSError, ValueError, RuntimeError):
            if kind == "track":
                self._end("failed")
            raise
        self._jobs[kind] = steps, about, waits_for

    def _guarded(self, about: str, function: Callable, *args: object, **kwargs: object) -> None:
        """Call a function; tell the page of an error, and go on."""
        try:
            function(*args, **kwargs)
        except UserError as error:
            self.send({"type": "error", "about": about, "text": str(error)}, None)
        except (OSError, ValueError, TypeError, RuntimeError, LookupError, cv2.error) as error:
            log.exception("%s failed", about)
            text = f"something went wrong in the server ({type(error).__name__}: {error}); its log says where"
            self.send({"type": "error", "about": about, "text": text}, None)

    def _end(self, why: str) -> None:
        self.send({"type": "ended", "why": why, "frames": self.clip.total}, None)

    def _has_credit(self) -> bool:
        return self.credit > 0

    def _fps(self) -> float | None:
        return None if not self._seconds else round(1 / self._seconds, 1)

    def _need_clip(self) -> Clip:
        if self.clip is None:
            raise UserError("choose a clip first")
        return self.clip

    def _send_picture(self, kind: str, frame: int, image: np.ndarray, more: dict) -> None:
        height, width = image.shape[:2]
        if (width, height) != self.clip.size:
            self._sizes[frame] = (width, height)
        scale = min(1.0, _SHOWN_SIDE / max(width, height))
        if scale < 1:
            shown = (round(width * scale) or 1, round(height * scale) or 1)
            image = cv2.resize(image, shown, interpolation=cv2.INTER_AREA)
        message = {"type": kind, "frame": frame, "width": width, "height": height} | more
        self.send(message, encode_jpeg(image, _SHOWN_QUALITY))


def visible_part(box: list[float], size: tuple[int, int]) -> list[float]:
    """The part of a drawn box that lies in the frame.

    Args:
        box: xywh in pixels.
        size: width and height of the frame.

    Raises:
        UserError: there is none, or too little to follow.
    """
    check_box(box, np.broadcast_to(np.uint8(0), (size[1], size[0])))
    left, top = max(0.0, float(box[0])), max(0.0, float(box[1]))
    right, bottom = min(float(size[0]), box[0] + box[2]), min(float(size[1]), box[1] + box[3])
    width, height = right - left, bottom - top
    if min(width, height) < SMALLEST_BOX:
        raise UserError(
            f"the box is too small ({width:.0f}x{height:.0f} pixels): "
            f"draw it at least {SMALLEST_BOX} pixels wide and high"
        )
    return [left, top, width, height]
