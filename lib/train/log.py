"""What a run says of itself: text and JSON lines, TensorBoard curves and pictures, a progress bar."""

import contextlib
import io
import json
import logging
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from tqdm import tqdm

from lib.train.loader import Batch
from lib.train.losses import Outcome
from lib.train.pictures import sample_pictures
from lib.utils.errors import UserError
from lib.utils.files import atomic_path


class Output:
    """Something to write to that may fail: reported once, then left alone.

    Args:
        name: completes "cannot write …".
    """

    def __init__(self, name: str | Path) -> None:
        self.name, self.works = name, True

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Write in the body."""
        try:
            yield
        except OSError as error:
            self.works = False
            reason = error.strerror or error
            with contextlib.suppress(OSError):  # stderr may be what has failed
                tqdm.write(f"warning: cannot write {self.name}: {reason}; going on without it", file=sys.stderr)


class GrowingFile(Output):
    """A file that grows; it is opened for each write, so that nothing waits in a buffer.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab"):
                pass
        except OSError as error:
            raise UserError(f"cannot write the log {path}: {error.strerror}; choose another --save_dir") from error

    def write(self, data: str | bytes) -> None:
        """Append text (as UTF-8) or bytes."""
        if self.works:
            with self.attempt(), open(self.path, "ab") as file:
                file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)


class JsonLines(GrowingFile):
    """One JSON object a line; a line that the last run could not finish is taken out at the start."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self.attempt():
            data = path.read_bytes()
            rest = data.rpartition(b"\n")[2]
            if _parsed(rest) is not None:
                self.write("\n")
            elif rest:
                os.truncate(path, len(data) - len(rest))

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line, with the time; nan and infinity become null, which JSON has."""
        entry = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **entry}
        self.write(json.dumps(_strict(entry), allow_nan=False) + "\n")

    def drop_after(self, epoch: int, step: int) -> list[dict[str, Any]]:
        """Take out the lines after `step` steps of `epoch`, and give them; validation follows an epoch's last step."""
        dropped: list[dict[str, Any]] = []
        if not self.works:
            return dropped
        with self.attempt():
            kept = []
            for line in self.path.read_bytes().splitlines(keepends=True):
                entry = _parsed(line)
                if entry is None or not _is_after(entry, epoch, step):
                    kept.append(line)
                else:
                    dropped.append(entry)
            if dropped:
                with atomic_path(self.path) as temporary:
                    temporary.write_bytes(b"".join(kept))
        return dropped


def _strict(value: Any) -> Any:
    """The same value without numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {name: _strict(each) for name, each in value.items()}
    if isinstance(value, (str, int)):
        return value
    return float(value) if math.isfinite(value) else None


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of `interval`; None for what something else has put into the file."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"loader", "epoch", "step", "steps"} <= entry.keys() else None


def _is_after(entry: Mapping[str, Any], epoch: int, step: int) -> bool:
    if entry["loader"] == "train":
        return (entry["epoch"], entry["step"]) > (epoch, step)
    return entry["epoch"] >= epoch


class EventFile(GrowingFile):
    """A TensorBoard event file.

    Written here and not by TensorBoard's own writer, whose thread answers a full disk with a page of traceback.
    """

    def __init__(self, folder: Path) -> None:
        # TensorBoard reads a folder's files in the order of their names.
        super().__init__(folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}")
        self._add(Event(file_version="brain.Event:2"))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One point on each curve."""
        points = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._add(Event(summary=Summary(value=points), step=step))

    def picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        """An image (H, W, 3) uint8 RGB."""
        height, width = picture.shape[:2]
        png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._add(Event(summary=Summary(value=[Summary.Value(tag=tag, image=image)]), step=step))

    def forget_from(self, step: int) -> None:
        """Have TensorBoard drop earlier runs' points at `step` and after it."""
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=step))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self.write(record.getvalue())


class Console(Output):
    """stdout or stderr, which may be a full disk, or a pipe that nobody reads any more."""

    def __init__(self, stream: TextIO, name: str) -> None:
        super().__init__(name)
        self.stream = stream

    def write(self, text: str) -> None:
        """Write text."""
        if self.works:
            with self.attempt():
                self.stream.write(text)

    def flush(self) -> None:
        """Have it appear."""
        if self.works:
            with self.attempt():
                self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        # tqdm asks for the terminal's width and encoding.
        return getattr(self.stream, name)

    def __eq__(self, other: object) -> bool:
        # tqdm compares streams to know which bars are in the way of a text.
        return self is other or self.stream is other

    __hash__ = None


class AboveBar(Output):
    """Text lines on stdout; a progress bar moves out of their way."""

    def __init__(self) -> None:
        super().__init__("to stdout")

    def write(self, text: str) -> None:
        """Write text, and have it appear."""
        if self.works:
            with self.attempt():
                tqdm.write(text, end="")
                sys.stdout.flush()


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
