"""The output of a run: text and JSON lines, TensorBoard curves and pictures, a progress bar."""

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import psutil
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lib.train.loader import Batch
from lib.train.losses import Outcome
from lib.train.pictures import sample_pictures
from lib.utils.errors import UserError
from lib.utils.files import atomic_path

# Seconds between two states of the progress bar if stderr is a file, which keeps them all.
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
        """Add one step's values; on CUDA they are added up on the device, so that nobody waits for them."""
        for name, value in values.items():
            number = value.double() if isinstance(value, Tensor) and value.is_cuda else float(value)
            self.sums[name] = self.sums.get(name, 0.0) + number
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, Number]:
        """The mean of each scalar."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def read(self) -> dict[str, float]:
        """The sum of each scalar as a plain number; waits for the device."""
        self.sums = {name: float(total) for name, total in self.sums.items()}
        return self.sums

    def reset(self) -> None:
        """Start again."""
        self.sums, self.counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, to go on from."""
        return {"sums": dict(self.read()), "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.sums = {name: float(total) for name, total in state["sums"].items()}
        self.counts = {name: int(count) for name, count in state["counts"].items()}


class RunLog:
    """Writes on rank 0; elsewhere everything here does nothing.

    Text goes to `logs/<name>.log` and the console, together with the program's warnings; numbers also to
    `logs/<name>.jsonl` and `<events>/<name>/`. Everything is on disk when a call returns. A full disk ends the run.

    Args:
        folder: `logs/` is in it.
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
        self.numbers, self.events = folder / "logs" / f"{name}.jsonl", (events or folder / "tensorboard") / name
        self.writer: SummaryWriter | None = None
        try:
            self.numbers.parent.mkdir(parents=True, exist_ok=True)
            self.events.mkdir(parents=True, exist_ok=True)
            _drop_cut_line(self.numbers)
            text = _TextFile(folder / "logs" / f"{name}.log", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            place = error.filename or folder
            raise UserError(f"cannot write the log {place}: {error.strerror}; choose another --save_dir") from error
        for handler, style in ((text, "%(asctime)s %(message)s"), (_AboveBar(), "%(message)s")):
            handler.setFormatter(logging.Formatter(style, "%Y-%m-%d %H:%M:%S"))
            handler.addFilter(_is_ours_or_a_warning)
            logging.getLogger().addHandler(handler)
            self.handlers.append(handler)
        # The root logger's level stays: if it were lower, every library would write here.
        ours = logging.getLogger("lib")
        self.level_before = ours.level
        ours.setLevel(logging.INFO)

    def bar(self, steps: int, start: int, title: str) -> tqdm:
        """A progress bar over the steps of an epoch, on stderr."""
        interval = 0.1 if sys.stderr.isatty() else BAR_INTERVAL_IN_FILES
        return tqdm(
            total=steps,
            initial=start,
            desc=title,
            unit="batch",
            disable=not self.active,
            leave=False,
            file=_Console(sys.stderr),
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
        """The numbers since the last interval: the published text line, a JSON line, TensorBoard curves by step.

        Args:
            title: the loader, `train` or `val`.
            epoch: counted from 1.
            step: how many of the epoch's `steps` are done.
            samples_per_second: over all processes.
            means: of losses and measures over the interval's steps.
            numbers: `lr` by parameter group, `data_wait` as a share of the time, and `memory_use`.
        """
        if not self.active:
            return
        numbers = numbers or {}
        parts = [f"FPS: {samples_per_second:.1f}", *map(_text, means, means.values())]
        parts += map(_text, numbers, numbers.values())
        log.info("[%s: %d, %d / %d] %s", title, epoch, step, steps, " , ".join(parts))
        values = {"samples_per_second": samples_per_second, **means, **numbers}
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        entry = {"time": now, "loader": title, "epoch": epoch, "step": step, "steps": steps, **values}
        with open(self.numbers, "a", encoding="utf-8") as file:
            file.write(json.dumps(_without_nan(entry), allow_nan=False) + "\n")
        if title == "train":  # a validation is one interval; `scalars` has its curves
            self._add_scalars("train_steps", dict(_flat(values)), (epoch - 1) * steps + step)

    def scalars(self, title: str, epoch: int, means: Mapping[str, float]) -> None:
        """TensorBoard curves by epoch."""
        if self.active:
            self._add_scalars(title, means, epoch)

    def pictures(self, title: str, epoch: int, batch: Batch, outcome: Outcome, limit: int = 4) -> None:
        """The first samples of a batch in TensorBoard, with truth and prediction; see `sample_pictures`."""
        if self.active:
            for number, picture in enumerate(sample_pictures(batch, outcome, limit), start=1):
                self._writer().add_image(f"{title}/sample {number}", picture, epoch, dataformats="HWC")
            self._writer().flush()

    def say(self, text: str) -> None:
        """A line of text."""
        if self.active:
            log.info("%s", text)

    def rewind(self, epoch: int, step: int) -> None:
        """Remove the numbers that a resumed run writes again: all after `step` steps of `epoch`.

        The text log keeps its lines, and names the ones that are repeated. Call it before any numbers are written.
        """
        if not self.active:
            return
        lines = self.numbers.read_bytes().splitlines(keepends=True)
        dropped = [line for line in lines if _is_after(_parsed(line), epoch, step)]
        if not dropped:
            return
        with atomic_path(self.numbers) as temporary:
            temporary.write_bytes(b"".join(line for line in lines if line not in dropped))
        entries = [_parsed(line) for line in dropped]
        trained = [(line["epoch"] - 1) * line["steps"] + line["step"] for line in entries if line["loader"] == "train"]
        if trained:
            self._writer(purge_step=min(trained))
        log.info("back to epoch %d, step %d: the %d lines after it above are repeated", epoch, step, len(dropped))

    def close(self) -> None:
        """Write no longer; a second call does nothing."""
        if self.handlers:
            logging.getLogger("lib").setLevel(self.level_before)
        while self.handlers:
            handler = self.handlers.pop()
            logging.getLogger().removeHandler(handler)
            handler.close()
        if self.active and self.writer is not None:
            self.writer.close()
            self.writer = None

    def _writer(self, purge_step: int | None = None) -> SummaryWriter:
        """TensorBoard's writer; it drops points of earlier runs from `purge_step` on."""
        if self.writer is None:
            self.writer = SummaryWriter(self.events, purge_step=purge_step)
        return self.writer

    def _add_scalars(self, title: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer().add_scalar(f"{title}/{name}", float(value), step)
        self._writer().flush()


def memory_use(device: torch.device) -> dict[str, float]:
    """MiB of memory that this process holds, and on CUDA the most that its tensors took since the start."""
    use = {"memory_mib": psutil.Process().memory_info().rss / MIB}
    if device.type == "cuda":
        use["gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / MIB
    return use


class _TextFile(logging.FileHandler):
    """A log file; a full disk is an error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        raise


class _Console:
    """stdout or stderr; a closed terminal or pipe does not end the run."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:
            pass

    def flush(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)  # tqdm asks for the terminal's width and encoding

    def __eq__(self, other: object) -> bool:
        return self is other or self.stream is other  # tqdm compares streams to move bars out of the way

    __hash__ = None


class _AboveBar(logging.Handler):
    """Text lines on stdout; a progress bar moves out of their way."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=_Console(sys.stdout))


def _text(name: str, value: float | Mapping[str, float]) -> str:
    """A number in the text line."""
    if isinstance(value, Mapping):
        return f"{name}: " + " / ".join(f"{each:.1e}" for each in value.values())
    if name == "data_wait":
        return f"data: {value:.0%}"
    if name.endswith("_mib"):
        return f"{name.removesuffix('_mib')}: {value / 1024:.1f} GiB"
    return f"{name}: {value:.5f}"


def _flat(numbers: Mapping[str, float | Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    """Numbers by name; a group's as `<group>/<name>`."""
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{part}", number) for part, number in value.items())
        else:
            yield name, value


def _without_nan(value: Any) -> Any:
    """The same value with null for nan and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, (str, int)):
        return value
    return float(value) if math.isfinite(value) else None


def _parsed(line: bytes) -> dict[str, Any] | None:
    """An entry of `interval`; None for any other line."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"loader", "epoch", "step", "steps"} <= entry.keys() else None


def _is_after(entry: Mapping[str, Any] | None, epoch: int, step: int) -> bool:
    """Whether an entry is of a later step; a validation follows the last step of its epoch."""
    if entry is None:
        return False
    return (entry["epoch"], entry["step"]) > (epoch, step) if entry["loader"] == "train" else entry["epoch"] >= epoch


def _drop_cut_line(path: Path) -> None:
    """Remove a last line that a killed run did not finish."""
    with open(path, "ab+") as file:
        file.seek(0)
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def _is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "lib"
