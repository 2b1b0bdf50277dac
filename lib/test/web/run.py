"""One run of tracking: which frames it goes through, and what it finds there."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...utils.errors import UserError
from ..tracker import Tracker
from .clips import Clip
from .objects import Choice, TrackedObject


@dataclass
class Run:
    """Tracks objects in the frames that lack a box, to the end; or one, in a range.

    Args:
        number: of the one object, or None for all.
        first, last: of the range; None where it is open. What had been found in a range goes.
    """

    objects: list[TrackedObject]
    choice: Choice
    number: int | None = None
    first: int | None = None
    last: int | None = None
    backwards: bool = False
    _plans: dict[int, set[int]] = field(default_factory=dict)

    def begin(self, clip: Clip, tracker: Tracker) -> bool:
        """Plan the frames; True where boxes go that do not hold any more.

        Raises:
            UserError: there is no box to begin with.
        """
        length = clip.total or clip.limits.frames
        end = length if clip.exact else clip.limits.frames + 1
        wanted = range(self.first or 0, end if self.last is None else min(self.last + 1, end))
        walk = range(length - 1, -1, -1) if self.backwards else range(wanted.stop)
        known = sum(len(each.boxes) for each in self.objects)
        for each in self.objects:
            if self.number is None:
                if each.choice not in (None, self.choice):
                    each.forget(0, end)
                each.choice = self.choice
            if not any(index in walk for index in each.drawn):
                continue
            if (self.first, self.last) != (None, None):
                each.forget(wanted.start, wanted.stop - 1)
            each.begin(tracker, self.choice)
            self._plans[each.number] = set(each.plan(walk, wanted))
        lacking = self.number and any(i not in each.boxes and i not in each.absent for i in wanted)
        if lacking and not any(self._plans.values()):
            where = "after" if self.backwards else "before"
            raise UserError(f"no box to begin with lies {where} these frames: draw one")
        return known > sum(len(each.boxes) for each in self.objects)

    def frames(self, clip: Clip, lock: threading.Lock) -> Iterator[tuple[int, np.ndarray, float | None]]:
        """The frames in which boxes are found or looked for, with index and frames a second of the trackers."""
        order, seconds = sorted(set().union(*self._plans.values()), reverse=self.backwards), None
        for index, image in clip.pick(order) if order else ():
            with lock:
                begin = time.perf_counter()
                for each in self.objects:
                    if index in self._plans.get(each.number, ()):
                        each.step(index, image, -1 if self.backwards else 1)
                last = time.perf_counter() - begin
            if index != order[0]:  # where a tracker begins, it takes another time
                seconds = 0.9 * (seconds or last) + 0.1 * last
            yield index, image, seconds and round(1 / seconds, 1)
