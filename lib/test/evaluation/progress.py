"""Showing how far an evaluation is: a bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from lib.test.evaluation.one_sequence import Outcome


def rate(count: int, seconds: float) -> float:
    """Frames a second; 0 where no time has passed."""
    return count / seconds if seconds > 0 else 0.0


class Progress:
    """Counts sequences and frames; a context manager.

    Args:
        sequences, frames: how many there are to do.
        bar: show a bar on stderr; otherwise one line a sequence goes to `say`.
        label: goes before every line.
        say: takes a line.
    """

    def __init__(self, sequences: int, frames: int, bar: bool, label: str = "", say: Callable[[str], None] = print):
        self._sequences, self._settled = sequences, 0
        self._frames, self._seen = frames, 0
        self._tracked, self._track_seconds = 0, 0.0
        self._label, self._say = label, say
        self._start: float | None = None
        self._bar = tqdm(total=frames, unit="frame", dynamic_ncols=True, smoothing=0.05) if bar else None

    def __enter__(self) -> "Progress":
        self._show_count()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def frames(self, count: int = 1) -> None:
        """Some more frames are done."""
        if self._start is None:  # loading the networks is over, which says nothing about how long the rest takes
            self._start = time.monotonic()
            if self._bar is not None:
                self._bar.unpause()
        self._seen += count
        if self._bar is not None:
            self._bar.update(count)

    def settled(self, outcome: Outcome) -> None:
        """A sequence is done, or failed."""
        self._settled += 1
        self._tracked += max(outcome.frames - 1, 0)
        self._track_seconds += outcome.track_seconds
        what = f"{outcome.frames} frames, {rate(outcome.frames - 1, outcome.track_seconds):.1f} FPS"
        if outcome.reason:
            self.note(f"{self._count()} {outcome.name}: failed: {outcome.reason}")
        elif self._bar is None:
            self.note(f"{self._count()} {outcome.name}: {what}{self._time_left()}")
        self._show_count()

    def elsewhere(self, frames: int) -> None:
        """Another process has settled a sequence with so many frames."""
        self._settled += 1
        self._frames -= frames
        if self._bar is not None:
            self._bar.total = self._frames
        self._show_count()

    def note(self, line: str) -> None:
        """Something the user should know."""
        if self._bar is None:
            self._say(f"{self._label}{line}")
        else:
            self._bar.write(f"{self._label}{line}")

    def _count(self) -> str:
        return f"[{self._settled}/{self._sequences}]"

    def _show_count(self) -> None:
        if self._bar is not None:
            self._bar.set_description(f"{self._settled} of {self._sequences} sequences")
            self._bar.set_postfix_str(f"{rate(self._tracked, self._track_seconds):.1f} FPS in the tracker")

    def _time_left(self) -> str:
        left = self._frames - self._seen
        if self._start is None or left <= 0:
            return ""
        return f", {tqdm.format_interval((time.monotonic() - self._start) * left / self._seen)} left"
