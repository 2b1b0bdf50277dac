"""Running a tracker over one sequence, and the outcome."""

import time
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data.sequence import Sequence
from lib.test.evaluation.overlays import FrameObserver, Overlays
from lib.test.evaluation.result_files import remove_unfinished, result_path, write_result
from lib.test.tracker import Tracker

_READ_AHEAD = 4


@dataclass(frozen=True)
class Outcome:
    """The outcome of one sequence.

    Attributes:
        reason, details: of a failure, in one line and as a traceback; "" for none.
        frames: number of frames, the first included; 0 after a failure.
        track_seconds: time in `track`.
        begin, end: on the machine's monotonic clock, in seconds.
    """

    name: str
    reason: str = ""
    details: str = ""
    frames: int = 0
    track_seconds: float = 0.0
    begin: float = 0.0
    end: float = 0.0

    def __str__(self) -> str:
        if self.reason:
            return f"{self.name}: failed: {self.reason}"
        return f"{self.name}: {self.frames} frames, {rate(self.frames - 1, self.track_seconds):.1f} FPS"


def rate(count: int, seconds: float) -> float:
    """Frames a second; 0 where no time has passed."""
    return count / seconds if seconds > 0 else 0.0


def run_sequence(tracker: Tracker, sequence: Sequence, output_dir: Path, overlays: Overlays | None) -> Outcome:
    """Track a sequence and write its files; an existing result stays. Every error is in the outcome."""
    begin = time.monotonic()
    try:
        remove_unfinished(output_dir, sequence)
        with overlays.drawing(sequence) if overlays else nullcontext(lambda *_: None) as draw:
            boxes, seconds = track_sequence(tracker, sequence, draw)
        if not result_path(output_dir, sequence).is_file():
            write_result(output_dir, sequence, boxes, seconds)
    except Exception as error:  # noqa: BLE001 - it is logged with its traceback, and the other sequences go on
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(sequence.name, reason, traceback.format_exc())
    return Outcome(sequence.name, "", "", len(boxes), float(seconds[1:].sum()), begin, time.monotonic())


def track_sequence(
    tracker: Tracker, sequence: Sequence, on_frame: FrameObserver = lambda *_: None
) -> tuple[np.ndarray, np.ndarray]:
    """Run a tracker over one sequence from its given box: boxes (N, 4) xywh, and seconds (N,) inside the tracker.

    Args:
        on_frame: called after every frame, outside the tracker's time.

    Raises:
        UserError: a frame cannot be read, or the annotation is unusable.
        ValueError: the tracker returns something that is not a box.
    """
    sequence.check_lengths()
    boxes, seconds = [sequence.init_bbox], []
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
            box = np.asarray(boxes[-1], dtype=np.float64)
            if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0).any():
                where = sequence.frame_name(index)
                raise ValueError(f"the tracker gave {boxes[-1]} for {where}, not finite x, y, width and height")
            on_frame(index, image, boxes[-1], score)
    return np.array(boxes, dtype=np.float64), np.array(seconds)


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
