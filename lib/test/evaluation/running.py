"""Running a tracker over test sequences.

Every sequence leaves two files or none, so a run that was stopped goes on where it was. A sequence
that fails is logged with its traceback beside the results and the others go on.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from lib.test.evaluation.datasets import load_dataset, select_sequences
from lib.test.evaluation.result_files import (
    claim_for_weights,
    read_result,
    result_path,
    run_dir,
    to_integers,
    write_result,
)
from lib.test.evaluation.sequence import Sequence
from lib.utils.errors import UserError
from lib.utils.image import read_image
from lib.utils.workspace import workspace

FAILURE_LOG = "failures.log"

_READ_AHEAD = 4


class Tracker(Protocol):
    """What a tracker offers; images are (H, W, 3) uint8 RGB, boxes xywh in pixels."""

    def initialize(self, image: np.ndarray, info: dict) -> object:
        """Start from the box `info["init_bbox"]`."""

    def track(self, image: np.ndarray) -> dict:
        """Follow into the next frame: `{"target_bbox": [x, y, w, h], …}`."""


@dataclass(frozen=True)
class SequenceRun:
    """One sequence tracked: boxes (N, 4) xywh, seconds (N,) inside the tracker, seconds of the whole loop."""

    boxes: np.ndarray
    seconds: np.ndarray
    loop_seconds: float


@dataclass
class RunReport:
    """What became of a run's sequences, by name.

    Attributes:
        done: tracked now.
        kept: finished by an earlier run.
        failed: name to the reason, one line.
        tracked_frames: frames after the first ones, tracked now.
        track_seconds: time in `track` alone, without reading frames.
        loop_seconds: time of the whole loop: reading, initialising, tracking.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    tracked_frames: int = 0
    track_seconds: float = 0.0
    loop_seconds: float = 0.0

    def add(self, name: str, run: SequenceRun) -> None:
        """Count a sequence that was tracked."""
        self.done.append(name)
        self.tracked_frames += len(run.boxes) - 1
        self.track_seconds += float(run.seconds[1:].sum())
        self.loop_seconds += run.loop_seconds

    def summary(self) -> str:
        """One line for the user."""
        line = f"{len(self.done)} tracked, {len(self.kept)} kept from before, {len(self.failed)} failed"
        if self.tracked_frames:
            track, loop = (_rate(self.tracked_frames, s) for s in (self.track_seconds, self.loop_seconds))
            line += f"; {track:.1f} FPS in the tracker, {loop:.1f} FPS with reading"
        return line


def evaluate_tracker(
    tracker: str,
    config: str,
    dataset: str,
    sequence: str | None = None,
    checkpoint: str | None = None,
    device: str = "auto",
    results_dir: Path | None = None,
) -> RunReport:
    """Run a tracker by its name over a test set by its name, and print the progress.

    Args:
        tracker, config, checkpoint, device: as `lib.test.tracker.create_tracker` takes them.
        dataset: as `load_dataset` takes it.
        sequence: one sequence, by name or index; all for None.
        results_dir: where results go; the workspace's by default.

    Raises:
        UserError: a name is unknown, or the tracker cannot be made.
    """
    # Imported here since it brings the networks along, which `run_sequences` does without.
    from lib.test.tracker import create_tracker, weights_path

    sequences = select_sequences(load_dataset(dataset), sequence)
    output_dir = run_dir(results_dir or workspace("test").results_dir, tracker, config)
    weights = weights_path(tracker, config, checkpoint)
    if weights is not None:
        claim_for_weights(output_dir, weights)

    def make_tracker(dataset_name: str) -> Tracker:
        return create_tracker(tracker, config, checkpoint=weights, dataset_name=dataset_name, device=device)

    report = run_sequences(make_tracker, sequences, output_dir)
    print(f"{report.summary()}; results: {output_dir}")
    if report.failed:
        print(f"failed: {', '.join(report.failed)}; see {output_dir / FAILURE_LOG}")
    return report


def run_sequences(
    make_tracker: Callable[[str], Tracker],
    sequences: list[Sequence],
    output_dir: Path,
    say: Callable[[str], None] = print,
) -> RunReport:
    """Track every sequence that has no result yet and write its files under `output_dir`.

    Args:
        make_tracker: test set name to a tracker. Called once a test set, only when there is something to track;
            what it raises ends the run.
        sequences: what to track, in this order.
        output_dir: `<results>/<tracker>/<config>`.
        say: takes one line of progress a sequence.
    """
    report = RunReport()
    tracker, tracker_dataset = None, None
    with _failure_logger(output_dir / FAILURE_LOG) as logger:
        for number, sequence in enumerate(sequences, start=1):
            where = f"[{number}/{len(sequences)}] {sequence.name}"
            unfinished = not result_path(output_dir, sequence).is_file()
            if unfinished and tracker_dataset != sequence.dataset:
                tracker, tracker_dataset = make_tracker(sequence.dataset), sequence.dataset
            try:
                if unfinished:
                    run = track_sequence(tracker, sequence)
                    write_result(output_dir, sequence, run.boxes, run.seconds)
                else:
                    _check_kept(result_path(output_dir, sequence), sequence)
            except Exception as error:
                logger.exception("%s failed", sequence.name)
                report.failed[sequence.name] = f"{type(error).__name__}: {error}"
                say(f"{where}: failed: {report.failed[sequence.name]}")
                continue
            if unfinished:
                report.add(sequence.name, run)
                speed = _rate(len(run.boxes) - 1, float(run.seconds[1:].sum()))
                say(f"{where}: {len(run.boxes)} frames, {speed:.1f} FPS")
            else:
                report.kept.append(sequence.name)
                say(f"{where}: done before, kept")
    return report


def track_sequence(tracker: Tracker, sequence: Sequence) -> SequenceRun:
    """Run a tracker over one sequence from its given box.

    Raises:
        UserError: a frame cannot be read, or the annotation is unusable.
        ValueError: the tracker gives something that is not a box.
    """
    sequence.check_lengths()
    boxes, seconds = [sequence.init_bbox], []
    loop_start = time.perf_counter()
    with closing(_read_ahead(sequence.frames)) as images:
        for index, image in enumerate(images):
            start = time.perf_counter()
            if index == 0:
                tracker.initialize(image, {"init_bbox": sequence.init_bbox})
            else:
                boxes.append(tracker.track(image)["target_bbox"])
            seconds.append(time.perf_counter() - start)
            _require_box(boxes[-1], sequence.frames[index])
    loop_seconds = time.perf_counter() - loop_start
    return SequenceRun(np.array(boxes, dtype=np.float64), np.array(seconds), loop_seconds)


def _require_box(box: object, frame: Path) -> None:
    values = np.asarray(box, dtype=np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or (values[2:] < 0).any():
        raise ValueError(f"the tracker gave {box} for {frame}; a box is four finite numbers x, y, width, height")


def _read_ahead(paths: list[Path]) -> Iterator[np.ndarray]:
    """Frames in order, as RGB, read and decoded a few ahead in a thread."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = deque()
        for path in paths:
            pending.append(pool.submit(read_image, path))
            if len(pending) > _READ_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _check_kept(path: Path, sequence: Sequence) -> None:
    """A kept result must be this sequence's: data under an old name may have changed since."""
    boxes = read_result(path)
    same_start = np.abs(boxes[0] - to_integers(sequence.truth[0])).max() <= 1
    if len(boxes) != len(sequence.frames) or not same_start:
        raise UserError(
            f"{path} has {len(boxes)} boxes from {boxes[0].tolist()}, but the sequence has {len(sequence.frames)} "
            f"frames from {sequence.init_bbox}: it belongs to other data; move it away"
        )


@contextmanager
def _failure_logger(path: Path) -> Iterator[logging.Logger]:
    """A logger that adds to `path`; the file is made by the first failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger(f"{__name__}.{path}")
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
