"""What a run says of itself: text and JSON lines, TensorBoard curves and pictures, a progress bar."""

import logging
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lib.train.actors.stark import Outcome
from lib.train.admin.outputs import AboveBar, Console, EventFile, GrowingFile, JsonLines
from lib.train.admin.pictures import sample_pictures
from lib.train.data.loader import Batch

# Seconds between two states of the progress bar where it goes to a file, and cannot replace its last one.
BAR_INTERVAL_IN_FILES = 30.0
MIB = 2**20
Number = float | Tensor  # a tensor is a scalar

log = logging.getLogger(__name__)


class Meters:
    """Running means of scalars, by name, since the last `reset`."""

    def __init__(self) -> None:
        self.sums: dict[str, Number] = {}
        self.counts: dict[str, int] = {}

    def update(self, values: Mapping[str, Number]) -> None:
        """Add one step's values; those on CUDA are added up there, for nobody waits for them yet."""
        for name, value in values.items():
            number = value.double() if isinstance(value, Tensor) and value.is_cuda else float(value)
            self.sums[name] = self.sums.get(name, 0.0) + number
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, Number]:
        """The mean of each scalar."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def read(self) -> dict[str, float]:
        """The sum of each scalar as a plain number, which is waited for."""
        self.sums = {name: float(total) for name, total in self.sums.items()}
        return self.sums

    def reset(self) -> None:
        """Start anew."""
        self.sums, self.counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, to go on with after a restart."""
        return {"sums": dict(self.read()), "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.sums = {name: float(total) for name, total in state["sums"].items()}
        self.counts = {name: int(count) for name, count in state["counts"].items()}


class Stopwatch:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the start or the last lap."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds


class RunLog:
    """Writes on rank 0; elsewhere everything here does nothing.

    What is said goes to `logs/<name>.log` and the console, together with the program's warnings; numbers also to
    `logs/<name>.jsonl` and `<events>/<name>/`. All of it is on disk when a call returns. A file that cannot be
    written any more (a full disk) is reported once on stderr, and the run goes on without it.

    Args:
        folder: `logs/` lies in it.
        name: of the run, `<script>-<config>`.
        active: whether this process writes.
        events: folder of TensorBoard's files; `tensorboard/` in `folder` by default.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, name: str, active: bool = True, events: Path | None = None) -> None:
        self.active = active
        self.handlers: list[logging.Handler] = []
        if not active:
            return
        self.text = GrowingFile(folder / "logs" / f"{name}.log")
        self.numbers = JsonLines(folder / "logs" / f"{name}.jsonl")
        self.events = EventFile((events or folder / "tensorboard") / name)
        self._listen()

    def _listen(self) -> None:
        """Take in what the program's modules log, and only the warnings of others."""
        for stream, style in ((self.text, "%(asctime)s %(message)s"), (AboveBar(), "%(message)s")):
            # Formats, and leaves the writing to the stream.
            handler = logging.StreamHandler(stream)
            handler.setFormatter(logging.Formatter(style, "%Y-%m-%d %H:%M:%S"))
            handler.addFilter(_is_ours_or_a_warning)
            logging.getLogger().addHandler(handler)
            self.handlers.append(handler)
        # The root logger's level stays: lowered, it would let every library talk.
        ours = logging.getLogger("lib")
        self.level_before = ours.level
        ours.setLevel(logging.INFO)

    def bar(self, steps: int, start: int, title: str) -> tqdm:
        """A progress bar over the steps of an epoch, on stderr."""
        stream = Console(sys.stderr, "the progress bar to stderr")
        interval = 0.1 if sys.stderr.isatty() else BAR_INTERVAL_IN_FILES
        return tqdm(
            total=steps,
            initial=start,
            desc=title,
            unit="batch",
            disable=not self.active,
            leave=False,
            file=stream,
            mininterval=interval,
            maxinterval=interval,
        )

    def interval(
        self,
        title: str,
        epoch: int,
        step: int,
        steps: int,
        samples_per_second: float,
        means: Mapping[str, float],
        numbers: Mapping[str, float | Mapping[str, float]] | None = None,
    ) -> None:
        """What happened since the last interval: the published text line, a JSON line, TensorBoard curves by step.

        Args:
            title: the loader, `train` or `val`.
            epoch: counted from 1.
            step: how many of the epoch's `steps` are done.
            samples_per_second: over all processes.
            means: of losses and measures over the interval's steps.
            numbers: how the run fares: `lr` by parameter group, `data_wait` as a share of the time, and what
                `memory_use` gives.
        """
        if not self.active:
            return
        numbers = numbers or {}
        told = [f"FPS: {samples_per_second:.1f}", *map(_in_words, means, means.values())]
        told += map(_in_words, numbers, numbers.values())
        log.info("[%s: %d, %d / %d] %s", title, epoch, step, steps, " , ".join(told))
        speed = {"samples_per_second": samples_per_second}
        place = {"loader": title, "epoch": epoch, "step": step, "steps": steps}
        self.numbers.append(place | speed | dict(means) | dict(numbers))
        if title == "train":  # a validation is one interval; `scalars` has its curves
            values = _flat({**speed, **means, **numbers})
            self.events.scalars({f"train_steps/{name}": value for name, value in values}, (epoch - 1) * steps + step)

    def scalars(self, title: str, epoch: int, means: Mapping[str, float]) -> None:
        """TensorBoard curves by epoch."""
        if self.active:
            self.events.scalars({f"{title}/{name}": value for name, value in means.items()}, epoch)

    def pictures(self, title: str, epoch: int, batch: Batch, outcome: Outcome, limit: int = 4) -> None:
        """The first samples of a batch in TensorBoard, with truth and prediction; see `sample_pictures`."""
        if self.active:
            for number, picture in enumerate(sample_pictures(batch, outcome, limit), start=1):
                self.events.picture(f"{title}/sample {number}", picture, epoch)

    def say(self, text: str) -> None:
        """A line of text."""
        if self.active:
            log.info("%s", text)

    def rewind(self, epoch: int, step: int) -> None:
        """Take back the numbers of what a resumed run does again: all after `step` steps of `epoch`.

        The text log keeps its lines, and says from where on they are repeated.
        """
        if not self.active:
            return
        dropped = self.numbers.drop_after(epoch, step)
        trained = [(line["epoch"] - 1) * line["steps"] + line["step"] for line in dropped if line["loader"] == "train"]
        if trained:
            self.events.forget_from(min(trained))
        if dropped:
            log.info(
                "back to epoch %d, step %d: %d lines above that are of later steps will be repeated",
                epoch,
                step,
                len(dropped),
            )

    def close(self) -> None:
        """Listen to the program no longer; a second call does nothing."""
        if self.handlers:
            logging.getLogger("lib").setLevel(self.level_before)
        while self.handlers:
            logging.getLogger().removeHandler(self.handlers.pop())


def memory_use(device: torch.device) -> dict[str, float]:
    """MiB of memory that this process holds, and on CUDA the most that its tensors took since the start."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        resident = int(statm.read_text().split()[1]) * resource.getpagesize()
    else:  # macOS: the most so far, in bytes
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    use = {"memory_mib": resident / MIB}
    if device.type == "cuda":
        use["gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / MIB
    return use


def _in_words(name: str, value: float | Mapping[str, float]) -> str:
    """A number as the text line has it."""
    if isinstance(value, Mapping):
        return f"{name}: " + " / ".join(f"{each:.1e}" for each in value.values())
    if name == "data_wait":
        return f"data: {value:.0%}"
    if name.endswith("_mib"):
        return f"{name.removesuffix('_mib')}: {value / 1024:.1f} GiB"
    return f"{name}: {value:.5f}"


def _flat(numbers: Mapping[str, float | Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    """Numbers by name; those of a group as `<group>/<name>`."""
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{part}", number) for part, number in value.items())
        else:
            yield name, value


def _is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "lib"
