"""The progress of an evaluation: a bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable

from tqdm import tqdm

from lib.test.evaluation.one_sequence import Outcome


def rate(count: int, seconds: float) -> float:
    """Frames a second; 0 where no time has passed."""
    return count / seconds if seconds > 0 else 0.0


class Progress:
    """Counts sequences and frames; a context manager.

    Args:
        sequences, frames: number of those to track.
        bar: show a bar on stderr; otherwise `say` takes one line a sequence.
        label: start of every line.
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

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def frames(self, count: int) -> None:
        """Count frames."""
        if count and self._start is None:  # the time of loading the network says nothing about the time of the rest
            self._start = time.monotonic()
            if self._bar is not None:
                self._bar.unpause()
        self._seen += count
        if self._bar is not None:
            self._bar.update(count)

    def settled(self, outcome: Outcome) -> None:
        """Count a sequence, and print its outcome."""
        self._settled += 1
        self._tracked += max(outcome.frames - 1, 0)
        self._track_seconds += outcome.track_seconds
        where = f"[{self._settled}/{self._sequences}] {outcome.name}: "
        if outcome.reason:
            self.note(f"{where}failed: {outcome.reason}")
        elif self._bar is None:
            speed = rate(outcome.frames - 1, outcome.track_seconds)
            self.note(f"{where}{outcome.frames} frames, {speed:.1f} FPS{self._time_left()}")
        self._show_count()

    def note(self, line: str) -> None:
        """Print a line."""
        (self._say if self._bar is None else self._bar.write)(f"{self._label}{line}")

    def _show_count(self) -> None:
        if self._bar is not None:
            self._bar.set_description(f"{self._settled} of {self._sequences} sequences")
            self._bar.set_postfix_str(f"{rate(self._tracked, self._track_seconds):.1f} FPS in the tracker")

    def _time_left(self) -> str:
        left = self._frames - self._seen
        if self._start is None or left <= 0:
            return ""
        return f", {tqdm.format_interval((time.monotonic() - self._start) * left / self._seen)} left"
