"""Running a tracker over one sequence, and the outcome."""

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from lib.data.sequence import Sequence
from lib.test.evaluation.overlays import FrameObserver, Overlays
from lib.test.evaluation.result_files import remove_unfinished, result_path, write_result

_READ_AHEAD = 4


class Tracker(Protocol):
    """Images are (H, W, 3) uint8 RGB, boxes xywh in pixels."""

    def initialize(self, image: np.ndarray, info: dict) -> object:
        """Start with the box `info["init_bbox"]`."""

    def track(self, image: np.ndarray) -> dict:
        """Find the object in the next frame: `{"target_bbox": [x, y, w, h], …}`."""


@dataclass(frozen=True)
class SequenceRun:
    """A tracked sequence: boxes (N, 4) xywh, seconds (N,) inside the tracker, seconds of the whole loop."""

    boxes: np.ndarray
    seconds: np.ndarray
    loop_seconds: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of one sequence.

    Attributes:
        reason, details: of a failure, in one line and as a traceback; "" for none.
        frames: number of frames, the first included; 0 after a failure.
        track_seconds, loop_seconds: time in `track`, and in the whole loop with reading.
        begin: on the machine's monotonic clock, in seconds.
    """

    name: str
    reason: str = ""
    details: str = ""
    frames: int = 0
    track_seconds: float = 0.0
    loop_seconds: float = 0.0
    begin: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Job:
    """The work on every sequence: results go to `output_dir`, boxes are drawn into `overlays`."""

    output_dir: Path
    overlays: Overlays | None = None

    def is_finished(self, sequence: Sequence) -> bool:
        """Whether all files of the sequence exist."""
        written = result_path(self.output_dir, sequence).is_file()
        return written and (self.overlays is None or self.overlays.are_drawn(sequence))

    def run(self, tracker: Tracker, sequence: Sequence, count_frames: Callable[[int], None]) -> Outcome:
        """Track a sequence and write its files; an existing result stays. `count_frames` gets numbers of new frames."""
        begin, result = time.monotonic(), result_path(self.output_dir, sequence)
        try:
            remove_unfinished(self.output_dir, sequence)
            with self.overlays.drawing(sequence) if self.overlays else nullcontext() as draw:

                def observe(*frame: object) -> None:
                    if draw is not None:
                        draw(*frame)
                    count_frames(1)

                run = track_sequence(tracker, sequence, observe)
            if not result.is_file():
                write_result(self.output_dir, sequence, run.boxes, run.seconds)
        except Exception as error:  # noqa: BLE001 - it is logged with its traceback, and the other sequences go on
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Outcome(sequence.name, reason, traceback.format_exc(), begin=begin)
        track_seconds = float(run.seconds[1:].sum())
        return Outcome(sequence.name, "", "", len(run.boxes), track_seconds, run.loop_seconds, begin)


def track_sequence(tracker: Tracker, sequence: Sequence, on_frame: FrameObserver = lambda *_: None) -> SequenceRun:
    """Run a tracker over one sequence from its given box.

    Args:
        on_frame: called after every frame, outside the tracker's time.

    Raises:
        UserError: a frame cannot be read, or the annotation is unusable.
        ValueError: the tracker returns something that is not a box.
    """
    sequence.check_lengths()
    boxes, seconds = [sequence.init_bbox], []
    loop_start = time.perf_counter()
    with closing(_read_ahead(sequence)) as images:
        for index, image in enumerate(images):
            start, score = time.perf_counter(), None
            if index == 0:
                tracker.initialize(image, {"init_bbox": sequence.init_bbox})
            else:
                result = tracker.track(image)
                boxes.append(result["target_bbox"])
                score = result.get("conf_score")
            seconds.append(time.perf_counter() - start)
            _require_box(boxes[-1], sequence, index)
            on_frame(index, image, boxes[-1], score)
    loop_seconds = time.perf_counter() - loop_start
    return SequenceRun(np.array(boxes, dtype=np.float64), np.array(seconds), loop_seconds)


def _require_box(box: object, sequence: Sequence, index: int) -> None:
    values = np.asarray(box, dtype=np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or (values[2:] < 0).any():
        where = sequence.frame_name(index)
        raise ValueError(f"the tracker gave {box} for {where}; a box is four finite numbers x, y, width, height")


def _read_ahead(sequence: Sequence) -> Iterator[np.ndarray]:
    """Frames in order, read and decoded a few ahead in a thread."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = deque()
        for index in range(len(sequence)):
            pending.append(pool.submit(sequence.read_frame, index))
            if len(pending) > _READ_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
