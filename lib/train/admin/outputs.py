"""Where a run's words and numbers go: files that grow, TensorBoard's event file, the console.

What cannot be written any more is reported once on stderr; after that, writing to it does nothing.
"""

import contextlib
import io
import json
import math
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

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
