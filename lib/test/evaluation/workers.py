"""Worker processes that track one sequence after another, each with a tracker of its own."""

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import cache, partial

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
    """Track sequences in their order, in one worker a device, each with a number of threads.

    A sequence on which a worker dies has failed; a new worker takes the next one.

    Raises:
        UserError: a tracker cannot be made.
    """
    others = multiprocessing.active_children()
    # CUDA and thread pools do not survive a fork.
    new_worker = partial(ProcessPoolExecutor, 1, multiprocessing.get_context("spawn"), _start)
    idle: queue.SimpleQueue[tuple[str, ProcessPoolExecutor]] = queue.SimpleQueue()
    for device in devices:
        idle.put((device, new_worker((make_tracker, device, threads))))

    def track(sequence: Sequence) -> Outcome:
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
            reason = f"the worker process on {device} died while tracking it, perhaps because memory ran out"
            return Outcome(sequence.name, reason)
        finally:
            idle.put((device, worker))

    # Ctrl-C reaches all processes, and this one ends the others. Workers inherit what their starting thread blocks.
    blocked = signal.SIG_BLOCK, {signal.SIGINT}
    with ThreadPoolExecutor(len(devices), initializer=signal.pthread_sigmask, initargs=blocked) as pool:
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


def _track(run: Run, sequence: Sequence) -> Outcome:
    return run(_make(), sequence)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
