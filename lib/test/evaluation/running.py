"""Running a tracker over a test set, in this process or in several.

Every sequence leaves two files or none, so a stopped run continues when the command is run again. A sequence that fails
is logged with its traceback, and the others go on.
"""

import os
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from lib.data.registry import load_dataset, select_sequences
from lib.data.sequence import Sequence
from lib.test.evaluation.one_sequence import Job, Outcome, Tracker  # noqa: F401 - others import Tracker from here
from lib.test.evaluation.overlays import Overlays, overlays_for
from lib.test.evaluation.progress import Progress, rate
from lib.test.evaluation.result_files import read_result, refuse_other_weights, result_path, run_dir, to_integers
from lib.test.evaluation.workers import TrackerMaker, ends_in_order, track_in_workers
from lib.test.tracker import create_tracker, weights_path
from lib.test.tracker.engines import choose_engine
from lib.utils.device import available_cpus, available_devices
from lib.utils.errors import UserError
from lib.utils.workspace import workspace


@dataclass(frozen=True)
class Rank:
    """Which of all processes this one is, and which of this machine's."""

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1

    @classmethod
    def from_environment(cls) -> "Rank":
        """Read the variables that torchrun sets.

        Raises:
            UserError: one is not a number, or RANK is not below WORLD_SIZE.
        """
        defaults = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        try:
            rank = cls(*(int(os.environ.get(name, value)) for name, value in defaults.items()))
        except ValueError as error:
            raise UserError(f"{', '.join(defaults)} must be whole numbers: {error}") from error
        if not 0 <= rank.index < rank.count:
            raise UserError(f"RANK={rank.index}, WORLD_SIZE={rank.count}: RANK must be from 0 to WORLD_SIZE - 1")
        return rank

    @property
    def label(self) -> str:
        """Start of a printed line."""
        return f"rank {self.index}: " if self.count > 1 else ""

    @property
    def failure_log(self) -> str:
        """Name of the file of tracebacks; no two ranks write to one file."""
        return "failures.log" if self.count == 1 else f"failures_rank{self.index}.log"


ALONE = Rank()


@dataclass
class RunReport:
    """The outcome of a run, with names of sequences.

    Attributes:
        done, kept, failed: tracked now; finished by an earlier run; failed, with the reason in one line.
        processes, ranks: number of processes of this rank; number of ranks.
        tracked_frames: number of frames that are tracked now, without the first ones.
        track_seconds, loop_seconds: time in `track`, and in the whole loop with reading; summed over processes.
        wall_seconds: from the begin of the first sequence to the end of the last.
    """

    processes: int = 1
    ranks: int = 1
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    tracked_frames: int = 0
    track_seconds: float = 0.0
    loop_seconds: float = 0.0
    wall_seconds: float = 0.0
    _begin: float = float("inf")

    def add(self, outcome: Outcome) -> None:
        """Count the outcome of a sequence, just after its end."""
        if outcome.reason:
            self.failed[outcome.name] = outcome.reason
            return
        self.done.append(outcome.name)
        self.tracked_frames += outcome.frames - 1
        self.track_seconds += outcome.track_seconds
        self.loop_seconds += outcome.loop_seconds
        self._begin = min(self._begin, outcome.begin)
        self.wall_seconds = time.monotonic() - self._begin

    @property
    def status(self) -> int:
        """The command's exit status; of a rank always 0, because torchrun would stop the others."""
        return 1 if self.failed and self.ranks == 1 else 0

    def summary(self) -> str:
        """One line for the user."""
        line = f"{len(self.done)} tracked, {len(self.kept)} finished before, {len(self.failed)} failed"
        if self.tracked_frames:
            track, loop = (rate(self.tracked_frames, seconds) for seconds in (self.track_seconds, self.loop_seconds))
            line += f"; {track:.1f} FPS in the tracker, {loop:.1f} FPS with reading"
            if self.processes > 1:
                wall = rate(self.tracked_frames, self.wall_seconds)
                line += f" in each process; {wall:.1f} frames a second in {self.processes} processes"
        return line


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

    Args:
        tracker, config, checkpoint, device, engine, precision: as `lib.test.tracker.create_tracker` takes them.
        dataset: as `load_dataset` takes it.
        sequence: as `select_sequences` takes it; all for None.
        results_dir: folder of results; the workspace's by default.
        run_id: number of the run, where a tracker is run more than once.
        threads: number of worker processes; 0 or 1 tracks in this process.
        num_gpus: number of GPUs for the processes of a machine; all of them by default.
        debug: as `overlays_for` takes it.

    Raises:
        UserError: an unknown name, an option out of range, a tracker that cannot be made.
    """
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
        refuse_other_weights(output_dir, weights, engine, precision)
    make = partial(create_tracker, tracker, config, weights, sequences[0].dataset, engine=engine, precision=precision)
    bar = rank.count == 1 and sys.stderr.isatty()
    with overlays_for(debug, output_dir, alone=len(devices) == rank.count == 1) as overlays:
        report = run_sequences(make, sequences, output_dir, devices, overlays, rank, bar)
    print(f"{rank.label}{report.summary()}; results: {output_dir}", flush=True)
    if report.failed:
        print(f"{rank.label}failed: {', '.join(report.failed)}; see {output_dir / rank.failure_log}", flush=True)
    return report


def run_sequences(
    make_tracker: TrackerMaker,
    sequences: SequenceOf[Sequence],
    output_dir: Path,
    devices: SequenceOf[str] = ("auto",),
    overlays: Overlays | None = None,
    rank: Rank = ALONE,
    bar: bool = False,
    say: Callable[[str], None] = print,
) -> RunReport:
    """Track this rank's share of the sequences, the longest first, and write their files under `output_dir`.

    Args:
        make_tracker: makes a tracker from the name of its device; called only when there is something to track.
        sequences: the sequences of all ranks; those with a result are skipped.
        output_dir: `<results>/<tracker>/<config>`.
        devices: one a process; a single one is this process.
        overlays: where boxes are drawn.
        bar: show a bar on stderr; without it, `say` takes one line of progress a sequence.

    Raises:
        UserError: no tracker can be made.
    """
    job = Job(output_dir, overlays)
    share = sorted(sequences, key=frame_count, reverse=True)[rank.index :: rank.count]
    finished, left = [], []
    for sequence in share:
        (finished if job.is_finished(sequence) else left).append(sequence)
    devices = devices[: max(1, len(left))]
    report = RunReport(processes=len(devices), ranks=rank.count)
    output_dir.mkdir(parents=True, exist_ok=True)

    def log(name: str, reason: str, details: str = "") -> None:
        with open(output_dir / rank.failure_log, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {name} failed: {reason}\n{details}")

    with ends_in_order(), Progress(len(left), sum(map(frame_count, left)), bar, rank.label, say) as progress:
        for sequence in finished:
            if problem := _misfit(result_path(output_dir, sequence), sequence):
                report.failed[sequence.name] = problem
                log(sequence.name, problem)
                progress.note(f"{sequence.name}: failed: {problem}")
            else:
                report.kept.append(sequence.name)
        if report.kept:
            progress.note(f"{len(report.kept)} sequences have results from before and are skipped")
        if len(devices) > 1:
            threads = max(1, available_cpus() // (len(devices) * rank.local_count))
            outcomes = track_in_workers(make_tracker, devices, job, left, progress, threads)
        else:
            tracker = make_tracker(devices[0]) if left else None
            outcomes = (job.run(tracker, sequence, progress.frames) for sequence in left)
        with closing(outcomes):
            for outcome in outcomes:
                report.add(outcome)
                if outcome.reason:
                    log(outcome.name, outcome.reason, outcome.details)
                progress.settled(outcome)
    return report


def spread_devices(
    device: str, threads: int, num_gpus: int | None, rank: Rank = ALONE, engine: str = "torch"
) -> list[str]:
    """The device of each process of this rank; all processes of a machine take its GPUs in turn.

    Engines other than PyTorch get GPUs only with `num_gpus`, since they may not work there.

    Raises:
        UserError: a number is out of range, or `num_gpus` is given beside a certain device.
    """
    if threads < 0:
        raise UserError(f"--threads {threads}: expected 0 or more processes")
    count = max(1, threads)
    if num_gpus is None and (engine != "torch" or device not in ("auto", "cuda")):
        return [device] * count
    gpus = [name for name in available_devices() if name.startswith("cuda")]
    if num_gpus is not None:
        if device not in ("auto", "cuda"):
            raise UserError(f"--num_gpus {num_gpus} and --device {device} contradict each other: give one of them")
        if not 1 <= num_gpus <= len(gpus):
            raise UserError(f"--num_gpus {num_gpus}: this machine has {len(gpus)} GPUs; leave it out to use them all")
        gpus = gpus[:num_gpus]
    if not gpus:
        return [device] * count
    return [gpus[(rank.local_index * count + number) % len(gpus)] for number in range(count)]


def frame_count(sequence: Sequence) -> int:
    """Number of frames; 0 where they cannot be listed, which the sequence's turn reports."""
    try:
        return len(sequence)
    except UserError:
        return 0


def _misfit(path: Path, sequence: Sequence) -> str:
    """Why an earlier result belongs to other data under the same name; "" where it does not."""
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
