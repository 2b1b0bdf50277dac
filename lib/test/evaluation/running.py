"""Running a tracker over a test set, in this process or in several.

Every sequence leaves two files or none, so a stopped run continues when the command is run again. A sequence that fails
is logged with its traceback, and the others go on.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection, wait
from pathlib import Path

import cv2
import numpy as np

from ...config.loader import leaves
from ...data.images import Picture
from ...data.registry import load_dataset, select_sequences
from ...data.sequence import Sequence, doubt_boxes, with_frames
from ...utils.device import available_cpus, available_devices
from ...utils.errors import UserError
from ...utils.workspace import workspace
from ..tracker import SCRIPT_OF, Tracker, create_tracker, find_weights, learned_score, tracker_config
from ..tracker.classic import BASELINES
from ..tracker.engines import choose_engine, engine_device
from ..tracker.stark import StarkTracker
from .overlays import FrameObserver, Overlays, overlays_for
from .result_files import read_result, refuse_to_mix, remove_unfinished, result_path, run_dir, write_result

# Options that decide results beside the weights.
_DECIDING = ("MODEL.", "TEST.", "DATA.MEAN", "DATA.STD", "DATA.MAX_SAMPLE_INTERVAL")
_READ_AHEAD = 4  # frames


@dataclass(frozen=True)
class Rank:
    """Which of all processes this one is, and which of this machine's, as torchrun numbers them."""

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1

    @classmethod
    def from_environment(cls) -> "Rank":
        """Raises UserError where RANK is not below WORLD_SIZE."""
        defaults = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        rank = cls(*(int(os.environ.get(name, default)) for name, default in defaults.items()))
        if not 0 <= rank.index < rank.count:
            raise UserError(f"RANK={rank.index}, WORLD_SIZE={rank.count}: expected RANK from 0 to WORLD_SIZE - 1")
        return rank


@dataclass(frozen=True)
class SequenceResult:
    """How tracking one sequence ended."""

    name: str
    reason: str = ""  # of a failure, in one line
    details: str = ""  # of a failure: the traceback
    frames: int = 0  # the first included; 0 after a failure
    track_seconds: float = 0.0  # in `track`
    begin: float = 0.0  # on the machine's monotonic clock, in seconds
    end: float = 0.0

    def __str__(self) -> str:
        if self.reason:
            return f"{self.name}: failed: {self.reason}"
        return f"{self.name}: {self.frames} frames, {(self.frames - 1) / (self.track_seconds or 1):.1f} FPS"


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
            track = frames / sum(each.track_seconds for each in self.tracked)
            loop = frames / sum(each.end - each.begin for each in self.tracked)
            line += f"; {track:.1f} FPS in the tracker, {loop:.1f} FPS with reading"
            if self.processes > 1:
                wall = frames / self.wall_seconds
                line += f" in each process; {wall:.1f} frames a second in {self.processes} processes"
        return line


# Both are pickled for the workers.
TrackerMaker = Callable[[str], Tracker]  # device -> tracker
Run = Callable[[Tracker, Sequence], SequenceResult]  # tracks a sequence and writes its files


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
    `spread_devices` and `overlays_for`. Raises UserError for an unknown name, or a tracker that cannot be made.
    """
    rank = Rank.from_environment()
    sequences = with_frames(select_sequences(load_dataset(dataset), sequence))
    for note in filter(None, (sequences.report, doubt_boxes(sequences))):
        print(f"note: {note}")
    output_dir = run_dir(results_dir or workspace("test").results_dir, tracker, config, run_id)
    if tracker in BASELINES:
        files = str(checkpoint).split(os.pathsep) if checkpoint else []
        refuse_to_mix(output_dir, [Path(file) for file in files], "opencv", {})
    if tracker in SCRIPT_OF:
        checkpoint = find_weights(SCRIPT_OF[tracker], config, checkpoint, overrides)
        engine = choose_engine(engine, device, precision)
        print(f"engine: {engine} {precision}", flush=True)
        values = leaves(tracker_config(SCRIPT_OF[tracker], config, checkpoint, overrides))
        deciding = {key: value for key, value in values if key.startswith(_DECIDING) and key != "TEST.EPOCH"}
        refuse_to_mix(output_dir, [checkpoint], f"{engine} {precision}", deciding, engine_device(engine, device))
    devices = spread_devices(device, threads, num_gpus, rank, engine)
    how = {"engine": engine, "precision": precision, "overrides": tuple(overrides)}
    make = partial(_make_warm_tracker, tracker, config, checkpoint, sequences[0].dataset, **how)
    with overlays_for(debug, output_dir, alone=len(devices) == rank.count == 1) as overlays:
        report = run_sequences(make, sequences, output_dir, devices, overlays, rank)
    print(f"{report}; results: {output_dir}", flush=True)
    if report.failed:
        print(f"failed: {', '.join(each.name for each in report.failed)}; see {report.log}", flush=True)
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
    `devices`. Raises what making a tracker raises.
    """
    log = output_dir / ("failures.log" if rank.count == 1 else f"failures_rank{rank.index}.log")
    report, misfits, left = RunReport(rank, log), [], []
    for sequence in sorted(sequences, key=_frame_count, reverse=True)[rank.index :: rank.count]:
        result = result_path(output_dir, sequence)
        if overlays or not result.is_file():
            left.append(sequence)
        elif problem := _misfit(result, sequence):
            misfits.append(SequenceResult(sequence.name, problem))
        else:
            report.kept.append(sequence.name)
    if report.kept:
        print(f"{len(report.kept)} sequences have results from before and are skipped", flush=True)
    output_dir.mkdir(parents=True, exist_ok=True)
    devices = devices[: max(1, len(left))]
    report.processes, run = len(devices), partial(run_sequence, output_dir=output_dir, overlays=overlays)
    if len(devices) > 1:
        threads = max(1, available_cpus() // (len(devices) * rank.local_count))
        results = track_in_workers(make_tracker, devices, run, left, threads)
    else:
        tracker = make_tracker(devices[0]) if left else None
        results = (run(tracker, sequence) for sequence in left)
    with closing(results):
        for number, result in enumerate(chain(misfits, results), start=1):
            report.add(result)
            print(f"[{number}/{len(misfits) + len(left)}] {result}", flush=True)
    return report


def spread_devices(
    device: str, threads: int, num_gpus: int | None, rank: Rank = Rank(), engine: str = "torch"
) -> list[str]:
    """The device of each process of this rank; all processes of a machine take its GPUs in turn.

    All GPUs are used by default, but none by default with engines other than PyTorch, since they may not work there.
    """
    count = max(1, threads)
    if device not in ("auto", "cuda") or (num_gpus is None and engine != "torch"):
        return [device] * count
    gpus = [name for name in available_devices() if name.startswith("cuda")]
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


def run_sequence(tracker: Tracker, sequence: Sequence, output_dir: Path, overlays: Overlays | None) -> SequenceResult:
    """Track a sequence and write its files; an existing result stays. Every error is in the result."""
    begin = time.monotonic()
    try:
        remove_unfinished(output_dir, sequence)
        with overlays.drawing(sequence, tracker) if overlays else nullcontext() as draw:
            boxes, seconds = track_sequence(tracker, sequence, draw)
        if not result_path(output_dir, sequence).is_file():
            write_result(output_dir, sequence, boxes, seconds)
    except Exception as error:  # noqa: BLE001 - it is logged with its traceback, and the other sequences go on
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return SequenceResult(sequence.name, reason, traceback.format_exc())
    return SequenceResult(sequence.name, "", "", len(boxes), float(seconds[1:].sum()), begin, time.monotonic())


def track_sequence(
    tracker: Tracker, sequence: Sequence, on_frame: FrameObserver | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Run a tracker over one sequence from its given box: boxes (N, 4) xywh, and seconds (N,) inside the tracker.

    `on_frame` is called after every frame, outside the tracker's time, as frames are decoded. Raises UserError where a
    frame or the annotation is unusable.
    """
    sequence.check_lengths()
    boxes, seconds = [sequence.init_bbox], []
    parts = on_frame is None and isinstance(tracker, StarkTracker)  # what the network does not see is not decoded

    def read(index: int) -> np.ndarray | Picture:
        if not parts:
            return sequence.read_frame(index)
        picture = sequence.picture(index)
        tracker.prepare(picture, boxes[-1])
        return picture

    with closing(_read_ahead(read, len(sequence))) as images:
        for index, image in enumerate(images):
            decoding = image.seconds if parts else 0.0
            start, score = time.perf_counter(), None
            if index == 0:
                tracker.initialize(image, {"init_bbox": sequence.init_bbox})
            else:
                result = tracker.track(image)
                boxes.append(result["target_bbox"])
                score = learned_score(result)
            seconds.append(time.perf_counter() - start - (image.seconds - decoding if parts else 0.0))
            if on_frame is not None:
                on_frame(index, image, boxes[-1], score)
    return np.array(boxes, dtype=np.float64), np.array(seconds)


def _read_ahead(read: Callable[[int], np.ndarray | Picture], count: int) -> Iterator[np.ndarray | Picture]:
    """Frames in order, read a few ahead in a thread."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = deque()
        for index in range(count):
            pending.append(pool.submit(read, index))
            if len(pending) > _READ_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def track_in_workers(
    make_tracker: TrackerMaker, devices: SequenceOf[str], run: Run, sequences: SequenceOf[Sequence], threads: int
) -> Iterator[SequenceResult]:
    """Track sequences in their order, in one worker a device, each with a number of threads.

    A sequence on which a worker dies has failed; a new worker takes the next one. Raises what making a tracker raises.
    """
    context = multiprocessing.get_context("spawn")  # CUDA and thread pools do not survive a fork
    left, processes, busy = deque(sequences), [], {}

    def give(device: str, pipe: Connection | None) -> None:
        """Send the next sequence to a worker; to a new one where there is no pipe."""
        if pipe is None:
            pipe, its_end = context.Pipe()
            processes.append(context.Process(target=_work, args=(its_end, make_tracker, device, run, threads)))
            processes[-1].start()
            its_end.close()  # so that the pipe ends with the worker
        busy[pipe] = device, left.popleft()
        pipe.send(replace(busy[pipe][1]))  # a copy has no list of frames yet: what goes to the worker stays small

    try:
        for device in devices:
            give(device, None)
        while busy:
            for pipe in wait(list(busy)):
                device, sequence = busy.pop(pipe)
                try:
                    result = pipe.recv()
                except (EOFError, ConnectionResetError):
                    died = f"the worker process on {device} died, perhaps because memory ran out: give fewer --threads"
                    pipe, result = None, SequenceResult(sequence.name, died)
                if isinstance(result, Exception):
                    raise result
                if left:
                    give(device, pipe)
                yield result
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(pipe: Connection, make_tracker: TrackerMaker, device: str, run: Run, threads: int) -> None:
    """A worker process: it makes its tracker, then tracks the sequences that come through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Processes that share cores and wait for each other's threads lose nearly all of their speed.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # for torch, if it is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        tracker = make_tracker(device)
    except Exception as error:  # noqa: BLE001 - the first process raises it
        pipe.send(error)
        return
    with suppress(EOFError):  # no sequence is left
        while True:
            pipe.send(run(tracker, pipe.recv()))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
