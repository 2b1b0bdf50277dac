"""What a run says of itself: a text line an interval, TensorBoard curves, a progress bar."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lib.utils.errors import UserError

log = logging.getLogger("stark.train")


class Meters:
    """Running means of scalars, by name, since the last `reset`."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def update(self, values: Mapping[str, float]) -> None:
        """Add one step's values."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1

    def means(self) -> dict[str, float]:
        """The mean of each scalar."""
        return {name: total / self.count for name, total in self.sums.items()} if self.count else {}

    def reset(self) -> None:
        """Start anew."""
        self.sums, self.count = {}, 0


class RunLog:
    """Writes on rank 0; elsewhere everything here does nothing.

    Args:
        folder: `logs/` lies in it, and `tensorboard/`.
        name: of the run, `<script>-<config>`.
        active: whether this process writes.
    """

    def __init__(self, folder: Path, name: str, active: bool = True) -> None:
        self.active = active
        self.writer: SummaryWriter | None = None
        if not active:
            return
        path = folder / "logs" / f"{name}.log"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write the log {path}: {error.strerror}; choose another --save_dir") from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        console = _TqdmHandler()
        console.setFormatter(logging.Formatter("%(message)s"))
        self.handlers: list[logging.Handler] = [handler, console]
        for each in self.handlers:
            logging.getLogger().addHandler(each)
        logging.getLogger().setLevel(logging.INFO)
        self.writer = SummaryWriter(folder / "tensorboard" / name)

    def bar(self, steps: int, start: int, title: str) -> tqdm:
        """A progress bar over the steps of an epoch."""
        return tqdm(total=steps, initial=start, desc=title, unit="batch", disable=not self.active, leave=False)

    def line(self, title: str, epoch: int, step: int, steps: int, samples_per_second: float, means: dict) -> None:
        """The published text line, `[train: epoch, i / n] FPS: … , Loss/total: … , IoU: …`."""
        if self.active:
            numbers = " , ".join(f"{name}: {value:.5f}" for name, value in means.items())
            log.info("[%s: %d, %d / %d] FPS: %.1f , %s", title, epoch, step, steps, samples_per_second, numbers)

    def say(self, text: str) -> None:
        """A line of text."""
        if self.active:
            log.info("%s", text)

    def scalars(self, title: str, epoch: int, means: Mapping[str, float]) -> None:
        """TensorBoard curves of an epoch."""
        if self.writer is not None:
            for name, value in means.items():
                self.writer.add_scalar(f"{title}/{name}", value, epoch)
            self.writer.flush()

    def close(self) -> None:
        """Finish the files."""
        if self.writer is not None:
            self.writer.close()
            for handler in self.handlers:
                logging.getLogger().removeHandler(handler)
                handler.close()


class _TqdmHandler(logging.Handler):
    """Writes to the terminal above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


class Stopwatch:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the start or the last lap."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds
