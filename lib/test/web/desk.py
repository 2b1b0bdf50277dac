"""One session in the process that tracks: its clip, its objects, and the jobs they give."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from lib.test.video.demo import check_box
from lib.test.web.catalogue import Choice, Trackers
from lib.test.web.clips import Clip, open_clip
from lib.test.web.downloads import Download
from lib.test.web.exports import WRITERS, encode_jpeg
from lib.test.web.jobs import Job, Places, Steps, Turns
from lib.test.web.limits import MOST_OBJECTS, SMALLEST_BOX, WINDOW, Limits
from lib.test.web.objects import TrackedObject
from lib.utils.errors import UserError

_SHOWN_SIDE, _SHOWN_QUALITY = 1280, 85  # of the pictures that a page shows
_PROGRESS_STEPS = 20

Send = Callable[[dict, bytes | None], None]


class Desk:
    """Commands of one session; what they lead to is sent to its page.

    Args:
        session: its name.
        folder: for what it downloads.
        limits: what is taken.
        trackers: what it may be tracked with.
        turns: where its jobs wait for their turns.
        writers: how many sessions may write files at the same time.
        send: takes a message, and a picture as JPEG or None.
        clock: seconds.
    """

    def __init__(
        self,
        session: str,
        folder: Path,
        limits: Limits,
        trackers: Trackers,
        turns: Turns,
        writers: Places,
        send: Send,
        clock: Callable[[], float],
    ) -> None:
        self.session, self.folder, self.limits = session, folder, limits
        self.trackers, self.turns, self.writers, self.send, self.clock = trackers, turns, writers, send, clock
        self.clip: Clip | None = None
        self.objects: dict[int, TrackedObject] = {}
        self.credit = WINDOW
        self._sizes: dict[int, tuple[int, int]] = {}  # of shown frames, where they are not the clip's
        self._seconds: float | None = None  # of one frame in the trackers, smoothed

    # Commands, by the names that the server sends

    def open(self, path: Path, name: str, box: list[float] | None, ticket: str) -> None:
        """Open another clip; `ticket` comes back with the answer.

        The one before goes, with all that was tracked, once the other one is known to be a clip.
        """
        self.pause()
        self.turns.cancel(self.session)
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
        if self.turns.cancel(self.session, "track"):
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

    def close(self) -> None:
        """End all jobs and forget the clip."""
        self.turns.cancel(self.session)
        self.clip, self.objects = None, {}

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
        future = self.trackers.get(choice)
        if not future.done():
            self.send({"type": "loading", "tracker": choice.key, "engine": choice.engine}, None)
            yield future.done
        tracker = future.result()
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
        for each in objects:
            each.step(index, image)
        seconds = self.clock() - begin
        if any(index in each.drawn for each in objects):
            return  # a tracker was begun here, which takes another time
        self._seconds = seconds if self._seconds is None else 0.9 * self._seconds + 0.1 * seconds

    def _exporting(self, what: Download, objects: list[TrackedObject]) -> Steps:
        told = 0
        yield self.writers.free
        try:
            with self.writers:
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
        def failed(reason: str) -> None:
            self.send({"type": "error", "about": about, "text": reason}, None)
            if kind == "track":
                self._end("failed")

        self.turns.begin(self.session, kind, Job(steps, failed))

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
