"""An object of a clip: its boxes, drawn and found, and the tracker that follows it."""

import copy
from dataclasses import dataclass, field, replace

import numpy as np

from ...utils.errors import UserError
from ..tracker import Tracker, learned_score

Box = list[float]  # xywh in pixels
Choice = tuple[str, str]  # a tracker's key, an engine
_SMALLEST_BOX = 4  # pixels a side


@dataclass
class TrackedObject:
    """One object in a clip. Its tracker begins anew at every frame that has a drawn box.

    Attributes:
        number: of the object, from 1.
        name: empty, or as a person names it.
        boxes: all boxes by frame, drawn or found.
        drawn: those that a person drew.
        absent: frames where a person says that it cannot be seen.
        scores: confidence in [0, 1] by frame, where the tracker gives one.
        choice: what found its boxes, but for those of a range.
    """

    number: int
    name: str = ""
    boxes: dict[int, Box] = field(default_factory=dict)
    drawn: dict[int, Box] = field(default_factory=dict)
    absent: frozenset[int] = frozenset()
    scores: dict[int, float] = field(default_factory=dict)
    choice: Choice | None = None
    _tracker: Tracker | None = None
    _used: Choice | None = None
    _at: tuple[int, int] | None = None  # frame and direction (1, -1) that the tracker's state is of

    def snapshot(self) -> "TrackedObject":
        """A copy of the object, without the state of its tracker."""
        return replace(self, _tracker=None, _used=None, _at=None)  # dictionaries are replaced, not changed, below

    def draw(self, frame: int, box: Box) -> tuple[int, int]:
        """Store a drawn box, and delete the boxes that were found from the one before it.

        These are in the frames, first and last, that are returned: up to the next drawn box; before the first drawn one
        also the frames in which it was found backwards.
        """
        first = frame if any(index < frame for index in self.drawn) else 0
        last = min((index for index in self.drawn if index > frame), default=10**9) - 1
        self.forget(first, last)
        self.absent -= {frame}
        self.scores.pop(frame, None)
        self.drawn, self.boxes = self.drawn | {frame: box}, self.boxes | {frame: box}
        return first, last

    def forget(self, first: int, last: int) -> None:
        """Delete the boxes that were found in some frames."""
        self.boxes = {i: box for i, box in self.boxes.items() if not first <= i <= last or i in self.drawn}
        self.scores = {i: score for i, score in self.scores.items() if i in self.boxes}
        if self._at and not (self._at[1] == 1 and self._at[0] < first):
            self._at = None

    def mark(self, first: int, last: int, absent: bool) -> None:
        """Delete all boxes in some frames; `absent` says that it cannot be seen there, else nothing is said."""
        span = frozenset(range(first, last + 1))
        self.absent = self.absent | span if absent else self.absent - span
        self.drawn = {index: box for index, box in self.drawn.items() if index not in span}
        self.forget(first, last)
        self._at = None

    def begin(self, tracker: Tracker, choice: Choice) -> None:
        """Take a copy of a tracker, which has its own state and shares the network, unless it has one already."""
        if self._used != choice:
            self._tracker, self._used, self._at = copy.copy(tracker), choice, None
        self.boxes, self.scores = dict(self.boxes), dict(self.scores)  # `step` adds to them

    def plan(self, walk: range, wanted: range) -> list[int]:
        """The frames to step through, in the order of `walk`: those of `wanted` without a box, and those before them.

        Where the tracker's state is not that of the frame before, it is led there again from the last drawn box.
        """
        steps, before = [], None
        for index in walk:
            if (index, walk.step) == self._at and not steps:
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
            self._tracker.initialize(image, {"init_bbox": self.drawn[index]})
        elif index not in self.absent:
            result = self._tracker.track(image)
            if index not in self.boxes:
                self.boxes[index] = [float(value) for value in result["target_bbox"]]
                if (score := learned_score(result)) is not None:
                    self.scores[index] = score
        self._at = (index, direction)

    def at(self, index: int) -> dict:
        """The message to the page about a frame in which it has a box."""
        box = [round(value, 2) for value in self.boxes[index]]
        return {"object": self.number, "box": box, "score": self.scores.get(index), "drawn": index in self.drawn}


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
