"""The objects of a clip: their boxes, drawn and found, and a run of the tracker that finds them."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...data.box_files import parse_flags, read_boxes
from ...utils.errors import UserError
from ...utils.files import read_text
from ..tracker import Tracker, learned_score
from .clips import Clip

Box = list[float]  # xywh in pixels, two digits behind the point
Choice = tuple[str, str]  # a tracker's key, an engine
OPEN = [None, None]  # a range without ends
_SMALLEST_BOX = 4  # pixels a side


@dataclass
class TrackedObject:
    """One object in a clip. Its tracker begins anew at every frame that has a drawn box.

    Its boxes and sets of frames are replaced, not changed, so that a copy stays as it is; `step` alone adds to them,
    after `begin`.
    """

    number: int  # from 1
    name: str = ""  # as a person names it
    # All boxes by frame, drawn or found: x, y, w, h, and the confidence in [0, 1], or None where there is none.
    boxes: dict[int, list] = field(default_factory=dict)
    drawn: frozenset[int] = frozenset()  # frames whose box a person drew
    absent: frozenset[int] = frozenset()  # frames where a person says that it cannot be seen
    choice: Choice | None = None  # what found its boxes, but for those of a range
    state: tuple[int, int] | None = None  # frame and direction (1, -1) that the tracker's state is of
    _tracker: Tracker | None = None
    _used: Choice | None = None

    @classmethod
    def annotated(cls, number: int, name: str, annotation: Path, most: int) -> "TrackedObject":
        """With the boxes of an annotation as drawn ones, at most so many; absent where one is missing, or where
        `absence.label` beside the file says so."""
        boxes, flags = read_boxes(annotation)[:most].round(2), annotation.with_name("absence.label")
        seen = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
        if flags.is_file() and len(hidden := parse_flags(read_text(flags), flags)) >= len(seen):
            seen &= hidden[: len(seen)] == 0
        drawn = {index: [*box, None] for index, box in enumerate(boxes.tolist()) if seen[index]}
        return cls(number, name, drawn, frozenset(drawn), frozenset(np.flatnonzero(~seen).tolist()))

    def at(self, index: int) -> dict:
        """The message to the page about a frame in which it has a box."""
        *box, score = self.boxes[index]
        return {"object": self.number, "box": box, "score": score, "drawn": index in self.drawn}

    def draw(self, frame: int, box: Box) -> tuple[int, int]:
        """Store a drawn box, and delete the boxes that were found from the one before it.

        These are in the frames, first and last, that are returned: up to the next drawn box; before the first drawn one
        also the frames in which it was found backwards.
        """
        first = frame if any(index < frame for index in self.drawn) else 0
        last = min((index for index in self.drawn if index > frame), default=10**9) - 1
        self.drawn, self.absent = self.drawn - {frame}, self.absent - {frame}
        self.forget(first, last)
        self.drawn, self.boxes = self.drawn | {frame}, self.boxes | {frame: [*box, None]}
        return first, last

    def forget(self, first: int, last: int) -> None:
        """Delete the boxes that were found in some frames."""
        self.boxes = {i: box for i, box in self.boxes.items() if not first <= i <= last or i in self.drawn}
        if self.state and not (self.state[1] == 1 and self.state[0] < first):
            self.state = None

    def mark(self, first: int, last: int, absent: bool) -> None:
        """Delete all boxes in some frames; `absent` says that it cannot be seen there, else nothing is said."""
        span = frozenset(range(first, last + 1))
        self.absent = self.absent | span if absent else self.absent - span
        self.drawn -= span
        self.forget(first, last)
        self.state = None

    def begin(self, tracker: Tracker, choice: Choice) -> None:
        """Take a tracker of its own on the network of another one, unless it has it already."""
        if self._used != choice:
            self._tracker, self._used, self.state = tracker.spawn(), choice, None
        self.boxes = dict(self.boxes)

    def plan(self, walk: range, wanted: range) -> list[int]:
        """The frames to step through, in the order of `walk`: those of `wanted` without a box, and those before them.

        Where the tracker's state is not that of the frame before, it is led there again from the last drawn box.
        """
        steps, before = [], None
        for index in walk:
            if (index, walk.step) == self.state and not steps:
                before = []
            elif index in self.drawn:
                before = [index]
            elif before is not None:
                before.append(index)
                if index in wanted and index not in self.boxes and index not in self.absent:
                    steps += before
                    before = []
        return steps

    def step(self, index: int, image: np.ndarray, direction: int) -> None:
        """Follow it into a frame, (H, W, 3) uint8 RGB; a box that is there already stays."""
        if index in self.drawn:
            self._tracker.initialize(image, {"init_bbox": self.boxes[index][:4]})
        elif index not in self.absent:
            result = self._tracker.track(image)
            if index not in self.boxes:
                box = [round(float(value), 2) for value in result["target_bbox"]]
                self.boxes[index] = [*box, learned_score(result)]
        self.state = (index, direction)


@dataclass
class Run:
    """Tracks objects in the frames that lack a box, to the end; or one of them, `number`, in a range of frames.

    `span` is first and last frame, None where it is open. A UserError where there is no box to begin with, or the range
    ends before it begins.
    """

    clip: Clip
    objects: list[TrackedObject]
    choice: Choice
    number: int | None
    span: list[int | None]
    backwards: bool

    def __post_init__(self) -> None:
        (first, last), end = self.span, self.clip.most
        if None not in self.span and first > last:
            raise UserError("the range ends before it begins")
        # Where a header says too little: to read one frame more than may be is the clip's error.
        end += not self.clip.exact
        self.wanted = range(first or 0, end if last is None else min(last + 1, end))
        starts = range(self.wanted.start, end) if self.backwards else range(self.wanted.stop)
        if not any(index in starts for each in self.objects for index in each.drawn):
            where = "after" if self.backwards else "before"
            raise UserError(f"no box to begin with lies {where} these frames: draw one")

    def clear(self) -> None:
        """Delete what had been found in the range; without one, what another tracker had found."""
        for each in self.objects:
            if self.number is None:
                if each.choice not in (None, self.choice):
                    each.forget(0, self.clip.most)
                each.choice = self.choice
            elif self.span != OPEN:
                each.forget(self.wanted.start, self.wanted.stop - 1)

    def frames(self, tracker: Tracker, lock: threading.Lock) -> Iterator[tuple[int, np.ndarray, float | None]]:
        """The frames in which boxes are found or looked for, with index and frames a second of the trackers."""
        last = (self.clip.total or self.clip.most) - 1
        walk, plans = range(last, -1, -1) if self.backwards else range(self.wanted.stop), {}
        for each in self.objects:
            each.begin(tracker, self.choice)
            plans[each.number] = set(each.plan(walk, self.wanted))
        order, seconds = sorted(set().union(*plans.values()), reverse=self.backwards), None
        for index, image in self.clip.pick(order) if order else ():
            with lock:
                begin = time.perf_counter()
                for each in self.objects:
                    if index in plans[each.number]:
                        each.step(index, image, walk.step)
                taken = time.perf_counter() - begin
            if index != order[0]:  # where a tracker begins, it takes another time
                seconds = 0.9 * (seconds or taken) + 0.1 * taken
            yield index, image, seconds and round(1 / seconds, 1)


def visible_part(box: Box, size: tuple[int, int]) -> Box:
    """The part of a drawn box, xywh in pixels, that lies in a frame of `size` (width, height).

    A UserError where it lies outside the frame, or is too small to follow.
    """
    left, top = max(0.0, float(box[0])), max(0.0, float(box[1]))
    width, height = min(size[0], box[0] + box[2]) - left, min(size[1], box[1] + box[3]) - top
    if min(box[2:]) > 0 and min(width, height) <= 0:
        raise UserError(f"the box lies outside the frame, which is {size[0]}x{size[1]}")
    if min(width, height) < _SMALLEST_BOX:
        least = f"at least {_SMALLEST_BOX} pixels wide and high"
        shown = f"{max(0, width):.0f}x{max(0, height):.0f} pixels"
        raise UserError(f"the box is too small ({shown} within the frame): draw it {least}")
    return [round(value, 2) for value in (left, top, width, height)]
