"""The objects of a clip, what was done to them, and the file that keeps them."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from ...utils.files import write_text
from .objects import Choice, TrackedObject

MOST_OBJECTS = 6  # as many as there are colours that differ on any ground
LONGEST_NAME = 60
_MOST_UNDONE = 50  # actions
_SUFFIX = "tracks.json"  # of the file beside a clip, or in the folder of its pictures

FrameIndex = Annotated[int, Field(ge=0, le=10**7)]
_Side = Annotated[float, Field(ge=-1e7, le=1e7, allow_inf_nan=False)]
_Score = Annotated[float, Field(ge=0, le=1)]


class _KeptObject(BaseModel):
    number: Annotated[int, Field(ge=1, le=MOST_OBJECTS)]
    name: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    choice: Choice | None = None
    drawn: list[FrameIndex]
    absent: list[FrameIndex] = []
    boxes: list[tuple[FrameIndex, _Side, _Side, _Side, _Side, _Score | None]]


class _Kept(BaseModel):
    objects: Annotated[list[_KeptObject], Field(max_length=MOST_OBJECTS)]


def pack(objects: Iterable[TrackedObject]) -> list[dict]:
    """Objects as plain data: boxes are rows of frame, x, y, w, h, score; `drawn` and `absent` are frames."""
    return [
        {
            **{"number": each.number, "name": each.name, "choice": each.choice},
            **{"drawn": sorted(each.drawn), "absent": sorted(each.absent)},
            "boxes": [[index, *each.boxes[index]] for index in sorted(each.boxes)],
        }
        for each in objects
    ]


def unpack(text: str | bytes, frames: int) -> dict[int, TrackedObject]:
    """Objects by number from `{"objects": …}`, what `pack` gave as JSON, up to a number of frames.

    A ValidationError, which is a ValueError, where the text is something else.
    """
    objects = {}
    for kept in sorted(_Kept.model_validate_json(text).objects, key=lambda each: each.number):
        boxes = {index: row for index, *row in kept.boxes if index < frames}
        drawn, absent = boxes.keys() & kept.drawn, {index for index in kept.absent if index < frames} - boxes.keys()
        made = TrackedObject(kept.number, kept.name, boxes, frozenset(drawn), frozenset(absent), kept.choice)
        objects[kept.number] = made
    return objects


class Work:
    """The objects of one clip by number, their states before, and after what was undone.

    Of a `clip`, a video or folder with so many `frames`, the work is kept in a file. `note` is what the person is told
    of that file, or empty.
    """

    def __init__(self, clip: Path | None = None, frames: int = 0) -> None:
        self.objects, self.note, self.changed, self._told = {1: TrackedObject(1)}, "", False, False
        self._past: list[dict[int, TrackedObject]] = []
        self._future: list[dict[int, TrackedObject]] = []
        self._file = clip and (clip / _SUFFIX if clip.is_dir() else clip.with_name(f"{clip.name}.{_SUFFIX}"))
        self._written: bytes | None = None  # what the file holds, as far as this page knows
        try:
            if self._file and self._file.exists():
                self._written = self._file.read_bytes()
                self.objects = unpack(self._written, frames)
        except ValueError:
            self.note = f"{self._file.name} beside the clip is not the work of this page: it stays as it is"
            self._file = None
        except OSError as error:  # it may not be read; a clip's name is so long that no file can be beside it
            self.note, self._file = f"the work is kept in this browser only: {error.strerror}", None

    def remember(self) -> None:
        """Before an action: the state can be brought back."""
        self._past = [*self._past, self._snapshot()][-_MOST_UNDONE:]
        self._future.clear()
        self.changed = True

    def undo(self, again: bool) -> None:
        """Bring back the state before the last action, or the one after it."""
        taken, kept = (self._future, self._past) if again else (self._past, self._future)
        if taken:
            kept.append(self._snapshot())
            self.objects, self.changed = taken.pop(), True

    def message(self) -> dict:
        """All of it, to the page."""
        return {"objects": pack(self.objects.values()), "undo": bool(self._past), "redo": bool(self._future)}

    def save(self) -> str:
        """Write the file, if there is one and something has changed; returns a note on what the person should know.

        What another page has written meanwhile is moved aside.
        """
        if not self.changed or self._file is None:
            return ""
        note = ""
        try:
            if self._file.is_file() and self._file.read_bytes() != self._written:
                other = self._file.with_name(f"{self._file.stem}.other.json")
                self._file.replace(other)
                note = f"another page has changed the work on this clip: what it had is in {other.name}"
            text = json.dumps({"objects": pack(self.objects.values())})
            write_text(self._file, text)
            self._written, self.changed = text.encode(), False
        except OSError as error:  # it is tried again, and said once
            place = self._file.parent.name
            if not self._told:
                note = f"the work is kept in this browser only, since {place} cannot be written: {error.strerror}"
            self._told = True
        return note

    def _snapshot(self) -> dict[int, TrackedObject]:
        """The objects as they are, without the states of their trackers."""
        return {number: replace(each, state=None) for number, each in self.objects.items()}
