"""Running a tracker over test sequences, in this process or in several.

Every sequence leaves two files or none, so a run that was stopped goes on where it was. A sequence
that fails is logged with its traceback beside the results and the others go on.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lib.data.sequence import Sequence
from lib.data.test_sets import load_dataset, select_sequences
from lib.test.evaluation.claims import ALONE, POLL_SECONDS, Claims, Rank, WorkList
from lib.test.evaluation.one_sequence import Job, Outcome, Tracker
from lib.test.evaluation.overlays import FOLDER, Overlays
from lib.test.evaluation.progress import Progress, rate
from lib.test.evaluation.result_files import claim_for_weights, read_result, result_path, run_dir, to_integers
from lib.test.evaluation.workers import TrackerMaker, track_here, track_in_workers
from lib.test.video.window import Window, missing_display
from lib.utils.device import available_cpus
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

FAILURE_LOG = "failures.log"
DEBUG_LEVELS = (0, 1, 2)


@dataclass
class RunReport:
    """What became of a run's sequences, by name.

    Attributes:
        done: tracked now, by this process and its workers.
        kept: finished by an earlier run.
        elsewhere: tracked meanwhile by other processes that share the list.
        failed: name to the reason, one line.
        processes: how many tracked at a time.
        tracked_frames: frames after the first ones, tracked now.
        track_seconds: time in `track` alone, without reading frames, summed over processes.
        loop_seconds: time of the whole loop: reading, initialising, tracking; summed over processes.
        wall_seconds: from the begin of the first sequence to the end of the last.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    processes: int = 1
    tracked_frames: int = 0
    track_seconds: float = 0.0
    loop_seconds: float = 0.0
    wall_seconds: float = 0.0
    _begin: float = float("inf")

    def add(self, outcome: Outcome) -> None:
        """Count what became of a sequence."""
        if outcome.reason:
            self.failed[outcome.name] = outcome.reason
            return
        self.done.append(outcome.name)
        self.tracked_frames += outcome.frames - 1
        self.track_seconds += outcome.track_seconds
        self.loop_seconds += outcome.loop_seconds
        self._begin = min(self._begin, outcome.begin)
        self.wall_seconds = max(self.wall_seconds, outcome.end - self._begin)

    def summary(self) -> str:
        """One line for the user."""
        others = f", {len(self.elsewhere)} by other processes" if self.elsewhere else ""
        line = f"{len(self.done)} tracked{others}, {len(self.kept)} kept from before, {len(self.failed)} failed"
        if self.tracked_frames:
            track, loop, wall = (
                rate(self.tracked_frames, s) for s in (self.track_seconds, self.loop_seconds, self.wall_seconds)
            )
            line += f"; {track:.1f} FPS in the tracker, {loop:.1f} FPS with reading"
            if self.processes > 1:
                line += f" in each process; {wall:.1f} frames a second in {self.processes} processes"
        return line


@dataclass(frozen=True)
class NamedTracker:
    """Makes the tracker of a name, in whichever process: what `lib.test.tracker.create_tracker` takes."""

    tracker: str
    config: str
    checkpoint: Path | None = None
    device: str = "auto"
    engine: str = "torch"
    precision: str = "fp32"

    def __call__(self, dataset_name: str) -> Tracker:
        """The tracker with its weights, for a test set."""
        from lib.test.tracker import create_tracker

        return create_tracker(
            self.tracker, self.config, self.checkpoint, dataset_name, self.device, self.engine, self.precision
        )


def evaluate_tracker(
    tracker: str,
    config: str,
    dataset: str,
    sequence: str | None = None,
    checkpoint: str | None = None,
    device: str = "auto",
    results_dir: Path | None = None,
    run_id: int | None = None,
    threads: int = 0,
    num_gpus: int | None = None,
    debug: int = 0,
    engine: str = "torch",
    precision: str = "fp32",
) -> RunReport:
    """Run a tracker by its name over a test set by its name, and print the progress.

    Several processes may run the same at a time, on one machine or several, by torchrun or by hand: they share the
    sequences.

    Args:
        tracker, config, checkpoint, device, engine, precision: as `lib.test.tracker.create_tracker` takes them.
        dataset: as `load_dataset` takes it.
        sequence: as `select_sequences` takes it; all for None.
        results_dir: where results go; the workspace's by default.
        run_id: number of the run, where a tracker is run more than once.
        threads: number of worker processes; 0 or 1 tracks in this process.
        num_gpus: how many GPUs the processes of a machine are spread over; all of them by default.
        debug: 1 shows the boxes in a window, or saves a video a sequence where no window can be; 2 saves video and
            pictures.

    Raises:
        UserError: a name is unknown, an option is out of range, or the tracker cannot be made.
    """
    from lib.test.tracker import weights_path
    from lib.test.tracker.engines import choose_engine

    rank = Rank.from_environment()
    sequences = select_sequences(load_dataset(dataset), sequence)
    output_dir = run_dir(results_dir or workspace("test").results_dir, tracker, config, run_id)
    weights = weights_path(tracker, config, checkpoint)
    if weights is not None:
        wanted, engine = engine, choose_engine(engine, device, precision)
        if wanted == "auto":
            print(f"{rank.label}engine: {engine} {precision}, the fastest that is installed", flush=True)
    devices = spread_devices(device, threads, num_gpus, rank, engine)
    if weights is not None:
        claim_for_weights(output_dir, weights, engine, precision)
    maker = NamedTracker(tracker, config, weights, engine=engine, precision=precision)
    makers, bar = [replace(maker, device=each) for each in devices], rank.count == 1 and sys.stderr.isatty()
    with overlays_for(debug, output_dir, alone=len(devices) == rank.count == 1) as overlays:
        report = run_sequences(makers, sequences, output_dir, overlays, rank, bar)
    print(f"{rank.label}{report.summary()}; results: {output_dir}", flush=True)
    if report.failed:
        logs = failure_log(rank) if rank.count == 1 else "failures_rank*.log"
        print(f"{rank.label}failed: {', '.join(report.failed)}; see {output_dir / logs}", flush=True)
    return report


def run_sequences(
    makers: SequenceOf[TrackerMaker],
    sequences: list[Sequence],
    output_dir: Path,
    overlays: Overlays | None = None,
    rank: Rank = ALONE,
    bar: bool = False,
    say: Callable[[str], None] = print,
) -> RunReport:
    """Track every sequence that has no result yet, the longest first, and write its files under `output_dir`.

    Args:
        makers: each makes the tracker of one process from a test set's name, once a test set and only when there is
            something to track; a UserError that it raises ends the run. One maker works in this process; more are
            pickled and work in processes of their own.
        sequences: what to track.
        output_dir: `<results>/<tracker>/<config>`.
        overlays: where boxes are drawn.
        rank: this process among others that run the same.
        bar: show a bar on stderr; without it, `say` takes one line of progress a sequence.

    Raises:
        UserError: no tracker can be made, or the folder cannot be written.
    """
    job = Job(output_dir, overlays)
    with Claims(output_dir) as claims, _failure_logger(output_dir / failure_log(rank)) as logger:
        ordered = sorted(sequences, key=frame_count, reverse=True)
        left, finished = [], []
        for sequence in _share(ordered, claims, rank, say):
            (finished if job.is_finished(sequence) else left).append(sequence)
        makers = makers[: max(1, len(left))]
        report = RunReport(processes=len(makers))
        with Progress(len(left), sum(map(frame_count, left)), bar, rank.label, say) as progress:
            _keep_finished(finished, output_dir, report, logger, progress.note)
            if report.kept:
                progress.note(f"{len(report.kept)} sequences were done before and are kept")
            worklist = WorkList(
                left, claims, job.is_finished, lambda sequence: progress.elsewhere(frame_count(sequence))
            )
            run = (
                track_here(makers[0], job, worklist, progress)
                if len(makers) == 1
                else track_in_workers(makers, job, worklist, progress, _threads_each(len(makers), rank))
            )
            with closing(run):
                for sequence, outcome in run:
                    if outcome.reason:
                        logger.error("%s failed: %s\n%s", outcome.name, outcome.reason, outcome.details)
                    worklist.settle(sequence, failed=bool(outcome.reason))
                    report.add(outcome)
                    progress.settled(outcome)
        if report.failed and rank.count > 1:
            # A failure is known by a lock that this process holds: the others have to see it before it ends.
            time.sleep(2 * POLL_SECONDS)
    report.elsewhere = worklist.others_done
    report.failed |= dict.fromkeys(worklist.others_failed, "failed in another process, whose log says why")
    return report


def spread_devices(
    device: str, threads: int, num_gpus: int | None, rank: Rank = ALONE, engine: str = "torch"
) -> list[str]:
    """The device of each process that tracks; all processes of a machine are dealt out over its GPUs.

    Another engine than PyTorch may not be able to use them, and gets them only where `num_gpus` says so.

    Raises:
        UserError: a number is out of range, there are not so many GPUs, or `device` is a certain one.
    """
    if threads < 0:
        raise UserError(f"--threads {threads}: expected 0 or more processes")
    count = max(1, threads)
    if num_gpus is None and (engine != "torch" or device not in ("auto", "cuda")):
        return [device] * count
    from lib.utils.device import available_devices

    gpus = [name for name in available_devices() if name.startswith("cuda")]
    if num_gpus is not None:
        if device not in ("auto", "cuda"):
            raise UserError(f"--num_gpus {num_gpus} and --device {device} contradict each other: give one of them")
        if not 1 <= num_gpus <= len(gpus):
            raise UserError(
                f"--num_gpus {num_gpus}: this machine has {len(gpus)} GPUs; leave it out to use what there is"
            )
        gpus = gpus[:num_gpus]
    if not gpus:
        return [device] * count
    return [gpus[(rank.local_index * count + number) % len(gpus)] for number in range(count)]


@contextmanager
def overlays_for(debug: int, output_dir: Path, alone: bool) -> Iterator[Overlays | None]:
    """Where a debug level draws boxes, None for nowhere; `alone` where one process tracks, which may open a window.

    Raises:
        UserError: there is no such level.
    """
    if debug not in DEBUG_LEVELS:
        raise UserError(f"--debug {debug}: expected one of {', '.join(map(str, DEBUG_LEVELS))}")
    if debug == 0:
        yield None
        return
    obstacle = missing_display() if alone else "several processes track"
    if debug == 1 and obstacle is None:
        window = Window()
        try:
            yield Overlays(output_dir, window=window)
        finally:
            window.close()
        return
    why = f"no window: {obstacle}; " if debug == 1 else ""
    print(f"{why}overlays go to {output_dir / FOLDER}")
    yield Overlays(output_dir, pictures=debug > 1)


def frame_count(sequence: Sequence) -> int:
    """Number of frames; 0 where they cannot be listed, which is told by name when the sequence has its turn."""
    try:
        return len(sequence)
    except UserError:
        return 0


def failure_log(rank: Rank) -> str:
    """Name of the file of tracebacks; no two ranks write to one file."""
    return FAILURE_LOG if rank.count == 1 else f"failures_rank{rank.index}.log"


def _share(ordered: list[Sequence], claims: Claims, rank: Rank, say: Callable[[str], None]) -> list[Sequence]:
    """What this process may take: everything where claims keep processes apart, else every so manieth sequence."""
    if claims.work:
        return ordered
    what = "a rank that ends leaves its share undone" if rank.count > 1 else "start this command only once at a time"
    say(f"{rank.label}note: the results' file system has no locks: {what}")
    return ordered[rank.index :: rank.count]


def _keep_finished(
    finished: list[Sequence],
    output_dir: Path,
    report: RunReport,
    logger: logging.Logger,
    say: Callable[[str], None],
) -> None:
    """Report results of earlier runs as kept, or as failed where they cannot be these sequences'."""
    for sequence in finished:
        problem = _misfit(result_path(output_dir, sequence), sequence)
        if problem:
            logger.error("%s failed: %s", sequence.name, problem)
            say(f"{sequence.name}: failed: {problem}")
            report.failed[sequence.name] = problem
        else:
            report.kept.append(sequence.name)


def _misfit(path: Path, sequence: Sequence) -> str:
    """Why a kept result is not this sequence's (data under an old name may have changed since); "" where it is."""
    try:
        boxes = read_result(path)
        same_start = np.abs(boxes[0] - to_integers(sequence.truth[0])).max() <= 1
        if len(boxes) == len(sequence) and same_start:
            return ""
        return (
            f"{path} has {len(boxes)} boxes from {boxes[0].tolist()}, but the sequence has {len(sequence)} "
            f"frames from {sequence.init_bbox}: it belongs to other data; move it away"
        )
    except UserError as error:
        return str(error)


@contextmanager
def _failure_logger(path: Path) -> Iterator[logging.Logger]:
    """A logger that adds to `path`; the file is made by the first failure."""
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


def _threads_each(processes: int, rank: Rank) -> int:
    """How many threads each process computes with when they share the machine's cores."""
    return max(1, available_cpus() // (processes * rank.local_count))
