"""Worker processes that track one sequence after another, each with a tracker of its own."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import cache
from multiprocessing.process import BaseProcess

import cv2

from lib.data.sequence import Sequence
from lib.test.evaluation.one_sequence import Outcome
from lib.test.tracker import Tracker
from lib.utils.errors import UserError

# Both are pickled for the workers.
TrackerMaker = Callable[[str], Tracker]  # device -> tracker
Run = Callable[[Tracker, Sequence], Outcome]  # tracks a sequence and writes its files


def track_in_workers(
    make_tracker: TrackerMaker, devices: SequenceOf[str], run: Run, sequences: SequenceOf[Sequence], threads: int
) -> Iterator[Outcome]:
    """Track sequences in their order, in one worker a device with a number of threads.

    A sequence on which a worker dies has failed. New workers then track the rest.

    Raises:
        UserError: a tracker cannot be made, or a worker dies without a sequence.
    """
    context = multiprocessing.get_context("spawn")  # CUDA and thread pools do not survive a fork
    # Copies have no list of frames yet: what goes to the workers stays small.
    sequences, left = [replace(sequence) for sequence in sequences], set(range(len(sequences)))
    while left:
        owners = context.RawArray("q", len(sequences))  # the process that tracks each sequence now; 0: none
        places, others = context.SimpleQueue(), multiprocessing.active_children()
        for device in devices:
            places.put(device)
        count, arguments = min(len(devices), len(left)), (make_tracker, run, sequences, owners, threads, places)
        pool, workers = ProcessPoolExecutor(count, context, _start, arguments), []
        try:
            futures = {pool.submit(_track, index): index for index in sorted(left)}
            workers = [process for process in multiprocessing.active_children() if process not in others]
            for future in as_completed(futures):
                outcome = future.result()
                left.remove(futures[future])
                yield outcome
        except BrokenProcessPool:
            pool.shutdown()  # waits until the pool has ended the other workers, by SIGTERM
            dead = [process for process in workers if process.exitcode not in (0, -signal.SIGTERM)] or workers
            lost = {index: process for process in dead for index in left if owners[index] == process.pid}
            if not lost:
                end = _end_of(dead[0]) if dead else "a worker process ended"
                raise UserError(f"{end} while making its tracker; give fewer --threads") from None
            left -= lost.keys()
            for index, process in lost.items():
                yield Outcome(sequences[index].name, f"{_end_of(process)} while tracking it")
        except BaseException:
            for process in workers:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _end_of(process: BaseProcess) -> str:
    """How a worker ended, for messages."""
    code, end = process.exitcode, f"ended with status {process.exitcode}"
    if code < 0:
        hint = ", perhaps because memory ran out," if -code == signal.SIGKILL else ""
        end = f"was killed by {signal.Signals(-code).name}{hint}"
    return f"worker process {process.pid} {end}"


_track_here: Callable[[int], Outcome] | None = None  # in worker processes


def _start(
    make_tracker: TrackerMaker,
    run: Run,
    sequences: SequenceOf[Sequence],
    owners: SequenceOf[int],
    threads: int,
    places: "multiprocessing.SimpleQueue[str]",
) -> None:
    """Begin a worker process; the tracker is made by the first sequence, so that the user sees an error of it."""
    global _track_here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Processes that share cores and wait for each other's threads lose nearly all of their speed.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # for torch, if it is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    cv2.setNumThreads(threads)
    device = places.get()
    tracker = cache(lambda: make_tracker(device))

    def track(index: int) -> Outcome:
        tracker()
        owners[index] = os.getpid()
        try:
            return run(tracker(), sequences[index])
        finally:
            owners[index] = 0

    _track_here = track


def _track(index: int) -> Outcome:
    return _track_here(index)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
