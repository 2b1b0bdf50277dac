"""Progress bars, and lines in their place where there is no terminal, whose logs they would fill."""

import io
import math
import sys
from collections.abc import Iterable, Sized

from tqdm import tqdm

_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {percentage:.0f} % ({elapsed} passed, {remaining} left)"


class _Lines(io.TextIOBase):
    """Takes what a bar writes: states, and characters that bring the cursor back. Each state is a line on stderr."""

    last = ""

    def write(self, text: str) -> int:
        state = text.strip().rpartition(" (")[0]
        if state and state != self.last:  # a bar writes its last state once more when it is closed
            print(text.strip(), file=sys.stderr, flush=True)
            self.last = state
        return len(text)


def progress_bar(
    title: str, unit: str, over: Iterable | None = None, total: int | None = None, done: int = 0, **how: object
) -> tqdm:
    """A progress bar on stderr, over an iterable or for `update`; without a terminal one line each tenth.

    `total` is the number of units, by default the iterable's length; of them `done` were finished before. `how` goes to
    tqdm. Without a terminal there are no lines where nobody knows the end.
    """
    total = len(over) if total is None and isinstance(over, Sized) else total
    if not sys.stderr.isatty():
        how |= {"file": _Lines(), "bar_format": _LINE, "leave": True, "disable": how.get("disable") or not total}
        # maxinterval: else a bar that is slow shows itself between two tenths.
        how |= {"miniters": math.ceil((total or 1) / 10), "mininterval": 0, "maxinterval": math.inf}
    return tqdm(over, desc=title, unit=unit, total=total, initial=done, **how)
