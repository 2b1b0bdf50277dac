"""Ending a run on request: SIGTERM from a scheduler, SIGINT from the keyboard, SIGHUP from a terminal that closes."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """Remembers that the process was asked to stop, so that the training loop ends between two steps.

    Attributes:
        signal: number of the first signal that came while `watching`; 0 while none has.
    """

    def __init__(self) -> None:
        self.signal = 0

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """Catch the signals in the body; afterwards they do again what they did before."""
        return heeding(SIGNALS, self._note)

    def _note(self, number: int, _: object) -> None:
        # A scheduler may repeat itself while the state is saved; a second Ctrl-C means "at once".
        if self.signal and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = self.signal or number


@contextlib.contextmanager
def heeding(signals: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals in the body; those that are ignored, as SIGHUP under `nohup`, stay so."""
    heeded = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
