"""One object in a clip: the boxes that a person drew, and the boxes that the tracker found."""

import copy
from collections.abc import Hashable
from typing import Any

import numpy as np

from lib.test.tracker import Tracker

Box = list[float]


class TrackedObject:
    """One object, its boxes and the tracker that follows it.

    The tracker is begun anew at every frame that has a drawn box. Its state is always that after frame `next - 1`, so
    that it goes on from there, unless a box is drawn at `next`.

    Attributes:
        number: of the object, from 1.
        drawn: boxes xywh by frame, as a person drew them.
        boxes: boxes xywh by frame, without a gap from the first drawn one to `next - 1`.
        scores: confidence in [0, 1] by frame, where the tracker gives one.
        next: the frame to find it in.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.drawn: dict[int, Box] = {}
        self.boxes: dict[int, Box] = {}
        self.scores: dict[int, float] = {}
        self.next = 0
        self._tracker: Tracker | None = None
        self._made_with: Hashable = None

    def draw(self, frame: int, box: Box) -> None:
        """Store a drawn box, xywh in pixels, and delete the boxes found from that frame on."""
        self._forget_from(frame if not self.drawn else min(frame, self.next))
        self.drawn[frame] = box

    def use(self, tracker: Tracker, made_with: Hashable) -> bool:
        """Set the tracker; one of another kind starts again at the first drawn box.

        Returns True if the kind has changed.

        Args:
            tracker: it is copied: objects share its network, and each has its own state.
            made_with: tells kinds of trackers apart.
        """
        if made_with != self._made_with:
            self._tracker, self._made_with = another(tracker), made_with
            self._forget_from(min(self.drawn))
            return True
        return False

    def step(self, index: int, image: np.ndarray) -> None:
        """Find it in a frame, (H, W, 3) uint8 RGB, if that frame is its next one.

        Raises:
            UserError: the drawn box shows too little of the image, or the tracker gives no box.
        """
        if index != self.next:
            return
        if index in self.drawn:
            self._tracker.initialize(image, {"init_bbox": self.drawn[index]})
            self.boxes[index] = self.drawn[index]
        else:
            result: dict[str, Any] = self._tracker.track(image)
            self.boxes[index] = [float(value) for value in result["target_bbox"]]
            if (score := result.get("conf_score")) is not None:
                self.scores[index] = float(score)
        self.next = index + 1

    @property
    def first(self) -> int:
        """The first frame with a box; there must be one."""
        return next(iter(self.boxes))  # they are found in order

    def frozen(self) -> "TrackedObject":
        """A copy of the boxes so far, without a tracker, for exports that take seconds."""
        other = TrackedObject(self.number)
        other.drawn, other.boxes, other.scores = dict(self.drawn), dict(self.boxes), dict(self.scores)
        other.next = self.next
        return other

    def at(self, index: int) -> dict | None:
        """The message to the page about a frame; None where the object has no box."""
        if index not in self.boxes:
            return None
        box = [round(value, 2) for value in self.boxes[index]]
        return {"object": self.number, "box": box, "score": self.scores.get(index), "drawn": index in self.drawn}

    def _forget_from(self, frame: int) -> None:
        self.next = frame
        for found in (self.boxes, self.scores):
            for index in [index for index in found if index >= frame]:
                del found[index]


def another(tracker: Tracker) -> Tracker:
    """A tracker for another object with the same network: `initialize` sets all else that a tracker keeps."""
    return copy.copy(tracker)
