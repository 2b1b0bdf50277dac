"""Ending a run on request: SIGTERM from a scheduler, SIGINT from the keyboard, SIGHUP from a terminal that closes."""

import contextlib
import os
import signal
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """Remembers that the process was asked to stop, so that the training loop ends between two steps.

    Attributes:
        signal: number of the first signal that came while `watching`; 0 while none has.
    """

    def __init__(self) -> None:
        self.signal = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Catch the signals in the body; afterwards they do again what they did before."""
        heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
        before = {number: signal.signal(number, self._note) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        # A scheduler may repeat itself while the state is saved; a second Ctrl-C means "at once".
        if self.signal and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = self.signal or number
