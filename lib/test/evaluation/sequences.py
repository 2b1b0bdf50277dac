"""Tracking one sequence after another, in this process or in workers that each have a tracker of their own."""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np

from ...data.images import Picture
from ...data.sequence import Sequence
from ...utils.errors import UserError
from ..tracker import Tracker, learned_score
from ..tracker.stark import StarkTracker
from .overlays import FrameObserver, Overlays
from .result_files import remove_unfinished, result_path, write_result

_READ_AHEAD = 4


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
        return f"{self.name}: {self.frames} frames, {rate(self.frames - 1, self.track_seconds):.1f} FPS"


# Both are pickled for the workers.
TrackerMaker = Callable[[str], Tracker]  # device -> tracker
Run = Callable[[Tracker, Sequence], SequenceResult]  # tracks a sequence and writes its files


def rate(count: int, seconds: float) -> float:
    """Frames a second; 0 where no time has passed."""
    return count / seconds if seconds > 0 else 0.0


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
    frame or the annotation is unusable, and ValueError where the tracker returns something that is not a box.
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
            box = np.asarray(boxes[-1], dtype=np.float64)
            if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0).any():
                where = sequence.storage.locate(sequence.frames[index])
                raise ValueError(f"the tracker gave {boxes[-1]} for {where}, not finite x, y, width and height")
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

    A sequence on which a worker dies has failed; a new worker takes the next one. Raises UserError where a tracker
    cannot be made.
    """
    others, context = multiprocessing.active_children(), multiprocessing.get_context("spawn")  # as CUDA needs it
    new_worker = partial(ProcessPoolExecutor, 1, context, _start)
    idle: queue.SimpleQueue[tuple[str, ProcessPoolExecutor]] = queue.SimpleQueue()
    for device in devices:
        idle.put((device, new_worker((make_tracker, device, threads))))

    def track(sequence: Sequence) -> SequenceResult:
        device, worker = idle.get()
        ready = False
        try:
            worker.submit(_prepare).result()
            ready = True
            # A copy has no list of frames yet: what goes to the worker stays small.
            return worker.submit(_track, run, replace(sequence)).result()
        except BrokenProcessPool:
            if not ready:
                raise UserError(f"a worker process on {device} died making its tracker; give fewer --threads") from None
            worker = new_worker((make_tracker, device, threads))
            died = f"the worker process on {device} died while tracking it, perhaps because memory ran out"
            return SequenceResult(sequence.name, died)
        finally:
            idle.put((device, worker))

    with ThreadPoolExecutor(len(devices), initializer=_block_interrupts) as pool:
        futures = [pool.submit(track, sequence) for sequence in sequences]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            while wait(futures, timeout=0.1).not_done:
                for process in multiprocessing.active_children():
                    if process not in others:
                        process.terminate()
            raise
        finally:
            while not idle.empty():
                idle.get()[1].shutdown()


def _block_interrupts() -> None:
    """Ctrl-C reaches all processes, and this one ends the others, which inherit what their starting thread blocks."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows, where workers only print more when they are ended
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


_make: Callable[[], Tracker] | None = None  # in worker processes; makes the tracker once


def _start(make_tracker: TrackerMaker, device: str, threads: int) -> None:
    """Begin a worker process. An error of making the tracker comes with the first task, so that the user sees it."""
    global _make
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Processes that share cores and wait for each other's threads lose nearly all of their speed.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # for torch, if it is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    cv2.setNumThreads(threads)
    _make = cache(partial(make_tracker, device))


def _prepare() -> None:
    _make()


def _track(run: Run, sequence: Sequence) -> SequenceResult:
    return run(_make(), sequence)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
