"""Running a tracker over a test set, in this process or in several.

Every sequence leaves two files or none, so a stopped run continues when the command is run again. A sequence that fails
is logged with its traceback, and the others go on.
"""

import os
import time
from collections.abc import Sequence as SequenceOf
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from ...config import leaves
from ...data.registry import load_dataset, select_sequences
from ...data.sequence import Sequence, doubt_boxes, with_frames
from ...utils.device import available_cpus, available_devices
from ...utils.errors import UserError
from ...utils.workspace import workspace
from ..tracker import SCRIPT_OF, Tracker, create_tracker, find_weights, tracker_config
from ..tracker.classic import BASELINES
from ..tracker.engines import choose_engine, engine_device
from .overlays import Overlays, overlays_for
from .result_files import read_result, refuse_to_mix, result_path, run_dir
from .sequences import SequenceResult, TrackerMaker, rate, run_sequence, track_in_workers

# Options that decide results beside the weights.
_DECIDING = ("MODEL.", "TEST.", "DATA.MEAN", "DATA.STD", "DATA.MAX_SAMPLE_INTERVAL")


@dataclass(frozen=True)
class Rank:
    """Which of all processes this one is, and which of this machine's, as torchrun numbers them."""

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1

    @classmethod
    def from_environment(cls) -> "Rank":
        """Raises UserError where a variable is not a number, or RANK is not below WORLD_SIZE."""
        defaults = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        given = {name: os.environ.get(name, default) for name, default in defaults.items()}
        if not all(map(str.isdecimal, given.values())) or int(given["RANK"]) >= int(given["WORLD_SIZE"]):
            said = ", ".join(f"{name}={value}" for name, value in given.items())
            raise UserError(f"{said}: expected whole numbers, and RANK from 0 to WORLD_SIZE - 1")
        return cls(*map(int, given.values()))

    def say(self, line: str) -> None:
        """Print a line, which begins with the rank where there are several."""
        print(f"rank {self.index}: {line}" if self.count > 1 else line, flush=True)


@dataclass
class RunReport:
    """The results of one rank."""

    rank: Rank
    log: Path  # of tracebacks; no two ranks write to one file
    processes: int = 1
    kept: list[str] = field(default_factory=list)  # names of sequences that an earlier run finished
    tracked: list[SequenceResult] = field(default_factory=list)
    failed: list[SequenceResult] = field(default_factory=list)

    def add(self, result: SequenceResult) -> None:
        """Count a result; a failure is logged."""
        if not result.reason:
            self.tracked.append(result)
            return
        self.failed.append(result)
        with open(self.log, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {result}\n{result.details}")

    @property
    def wall_seconds(self) -> float:
        """From the begin of the first sequence to the end of the last."""
        return max(each.end for each in self.tracked) - min(each.begin for each in self.tracked)

    @property
    def status(self) -> int:
        """The command's exit status; of several ranks always 0, because torchrun would stop the others."""
        return 1 if self.failed and self.rank.count == 1 else 0

    def __str__(self) -> str:
        line = f"{len(self.tracked)} tracked, {len(self.kept)} finished before, {len(self.failed)} failed"
        frames = sum(each.frames - 1 for each in self.tracked)  # the first one is given
        if frames:
            track = rate(frames, sum(each.track_seconds for each in self.tracked))
            loop = rate(frames, sum(each.end - each.begin for each in self.tracked))
            line += f"; {track:.1f} FPS in the tracker, {loop:.1f} FPS with reading"
            if self.processes > 1:
                wall = rate(frames, self.wall_seconds)
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
    overrides: SequenceOf[str] = (),
) -> RunReport:
    """Run a tracker by its name over a test set by its name, and print the progress.

    The arguments are the options of `tracking/test.py`; see `create_tracker`, `load_dataset`, `select_sequences`,
    `spread_devices` and `overlays_for`. Raises UserError for an unknown name, an option out of range, a tracker that
    cannot be made.
    """
    rank = Rank.from_environment()
    sequences = with_frames(select_sequences(load_dataset(dataset), sequence))
    for note in filter(None, (sequences.report, doubt_boxes(sequences))):
        rank.say(f"note: {note}")
    output_dir = run_dir(results_dir or workspace("test").results_dir, tracker, config, run_id)
    if tracker in BASELINES:
        files = str(checkpoint).split(os.pathsep) if checkpoint else []
        refuse_to_mix(output_dir, [Path(file) for file in files], "opencv", {})
    if tracker in SCRIPT_OF:
        checkpoint = find_weights(SCRIPT_OF[tracker], config, checkpoint, overrides)
        engine = choose_engine(engine, device, precision)
        rank.say(f"engine: {engine} {precision}")
        values = leaves(tracker_config(SCRIPT_OF[tracker], config, checkpoint, overrides))
        deciding = {key: value for key, value in values if key.startswith(_DECIDING) and key != "TEST.EPOCH"}
        refuse_to_mix(output_dir, [checkpoint], f"{engine} {precision}", deciding, engine_device(engine, device))
    devices = spread_devices(device, threads, num_gpus, rank, engine)
    how = {"engine": engine, "precision": precision, "overrides": tuple(overrides)}
    make = partial(_make_warm_tracker, tracker, config, checkpoint, sequences[0].dataset, **how)
    with overlays_for(debug, output_dir, alone=len(devices) == rank.count == 1) as overlays:
        report = run_sequences(make, sequences, output_dir, devices, overlays, rank)
    rank.say(f"{report}; results: {output_dir}")
    if report.failed:
        rank.say(f"failed: {', '.join(each.name for each in report.failed)}; see {report.log}")
    return report


def _make_warm_tracker(
    name: str, config: str, checkpoint: str | Path | None, dataset_name: str, device: str, **how: object
) -> Tracker:
    """`create_tracker`, and some frames before any clock runs: in the first ones engines compile and choose kernels."""
    tracker = create_tracker(name, config, checkpoint, dataset_name, device, **how)
    if name in SCRIPT_OF:
        image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
        tracker.initialize(image, {"init_bbox": [100, 80, 64, 48]})
        for _ in range(3):
            tracker.track(image)
    return tracker


def run_sequences(
    make_tracker: TrackerMaker,
    sequences: SequenceOf[Sequence],
    output_dir: Path,
    devices: SequenceOf[str] = ("auto",),
    overlays: Overlays | None = None,
    rank: Rank = Rank(),
) -> RunReport:
    """Track this rank's share of the sequences, the longest first, and write their files under `output_dir`.

    Sequences with a result are skipped, unless `overlays` want them. There is a worker process for each of several
    `devices`; a single one is this process. Raises UserError where no tracker can be made.
    """
    log = output_dir / ("failures.log" if rank.count == 1 else f"failures_rank{rank.index}.log")
    report, misfits, left = RunReport(rank, log), [], []
    for sequence in sorted(sequences, key=_frame_count, reverse=True)[rank.index :: rank.count]:
        result = result_path(output_dir, sequence)
        if not result.is_file() or (overlays is not None and not overlays.are_drawn(sequence)):
            left.append(sequence)
        elif problem := _misfit(result, sequence):
            misfits.append(SequenceResult(sequence.name, problem))
        else:
            report.kept.append(sequence.name)
    if report.kept:
        rank.say(f"{len(report.kept)} sequences have results from before and are skipped")
    output_dir.mkdir(parents=True, exist_ok=True)
    devices = devices[: max(1, len(left))]
    report.processes, run = len(devices), partial(run_sequence, output_dir=output_dir, overlays=overlays)
    if len(devices) > 1:
        threads = max(1, available_cpus() // (len(devices) * rank.local_count))
        results = track_in_workers(make_tracker, devices, run, left, threads)
    else:
        tracker = make_tracker(devices[0]) if left else None
        results = (run(tracker, sequence) for sequence in left)
    frames, start = {sequence.name: _frame_count(sequence) for sequence in left}, time.monotonic()
    seen, total = 0, sum(frames.values())
    with closing(results):
        for number, result in enumerate(chain(misfits, results), start=1):
            report.add(result)
            seen += frames.get(result.name, 0)
            seconds_left = round((time.monotonic() - start) * (total - seen) / max(seen, 1))
            rank.say(f"[{number}/{len(misfits) + len(left)}] {result}, {timedelta(seconds=seconds_left)} left")
    return report


def spread_devices(
    device: str, threads: int, num_gpus: int | None, rank: Rank = Rank(), engine: str = "torch"
) -> list[str]:
    """The device of each process of this rank; all processes of a machine take its GPUs in turn.

    All GPUs are used by default, but none by default with engines other than PyTorch, since they may not work there.
    """
    if threads < 0 or (num_gpus is not None and num_gpus < 1):
        raise UserError(f"--threads {threads}, --num_gpus {num_gpus}: expected 0 or more processes, 1 or more GPUs")
    count = max(1, threads)
    if device not in ("auto", "cuda") or (num_gpus is None and engine != "torch"):
        return [device] * count
    gpus = [name for name in available_devices() if name.startswith("cuda")]
    if num_gpus is not None and num_gpus > len(gpus):
        rank.say(f"--num_gpus {num_gpus}: this machine has {len(gpus)}, which are used")
    gpus = gpus[:num_gpus] or [device]
    return [gpus[(rank.local_index * count + number) % len(gpus)] for number in range(count)]


def _frame_count(sequence: Sequence) -> int:
    """Number of frames; 0 where they cannot be listed, which the sequence's turn reports."""
    try:
        return len(sequence)
    except UserError:
        return 0


def _misfit(path: Path, sequence: Sequence) -> str:
    """Why an earlier result belongs to other data under the same name; "" where it does not."""
    try:
        boxes = read_result(path)
        fits = len(boxes) == len(sequence) and np.abs(boxes[0] - np.trunc(sequence.truth[0])).max() <= 1
    except UserError as error:
        return str(error)
    return "" if fits else f"{path} is of other data than {sequence.annotation}: move it away"
