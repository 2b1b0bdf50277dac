"""Worker processes that track one sequence after another, each with a tracker of its own.

A worker that dies takes one sequence with it. Workers end with the process that started them, however it ends.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import cv2

from lib.data.sequence import Sequence
from lib.test.evaluation.one_sequence import Job, Outcome, Tracker
from lib.test.evaluation.progress import Progress
from lib.utils.errors import UserError

TrackerMaker = Callable[[str], Tracker]  # device -> tracker; workers get it pickled

_NO_TRACKER, _IDLE = -1, -2  # states of a worker without a sequence
_POLL_SECONDS = 0.25
_SECONDS_TO_END = 10  # more than a tracker needs for one frame


class _Board(NamedTuple):
    """Shared memory, one number a worker: process id, index of its sequence or a negative state, frames so far."""

    process: SequenceOf[int]
    sequence: SequenceOf[int]
    frames: SequenceOf[int]


def track_in_workers(
    make_tracker: TrackerMaker,
    devices: SequenceOf[str],
    job: Job,
    sequences: SequenceOf[Sequence],
    progress: Progress,
    threads: int,
) -> Iterator[Outcome]:
    """Track sequences in their order, in one worker a device.

    A sequence on which a worker dies has failed. New workers then track the rest.

    Args:
        threads: number of threads of each worker.

    Raises:
        UserError: a tracker cannot be made, or a worker dies without a sequence.
    """
    context = multiprocessing.get_context("spawn")  # CUDA and thread pools do not survive a fork
    # Copies have no list of frames yet: what goes to the workers stays small.
    sequences, left = [replace(sequence) for sequence in sequences], set(range(len(sequences)))
    while left:
        count, others = min(len(devices), len(left)), multiprocessing.active_children()
        board = _Board(*(context.RawArray("q", [start] * count) for start in (0, _NO_TRACKER, 0)))
        seats = context.SimpleQueue()
        for seat in enumerate(devices[:count]):
            seats.put(seat)
        pool = ProcessPoolExecutor(count, context, _start, (make_tracker, job, sequences, seats, board, threads))
        try:
            futures = {pool.submit(_track, index): index for index in sorted(left)}
            workers = [process for process in multiprocessing.active_children() if process not in others]
            pending, seen = set(futures), 0
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                progress.frames(sum(board.frames) - seen)
                seen = sum(board.frames)
                for future in sorted(done, key=lambda future: future.exception() is not None):
                    outcome = future.result()
                    left.remove(futures[future])
                    yield outcome
        except BrokenProcessPool:
            pool.shutdown()  # waits until the pool has ended the other workers
            deaths = _deaths(workers, board)
            if all(index == _NO_TRACKER for index, _ in deaths):
                raise UserError(f"{deaths[0][1]} while making its tracker; give fewer --threads") from None
            for index, end in deaths:
                if index in left:
                    left.remove(index)
                    yield Outcome(sequences[index].name, f"{end} while tracking it")
        finally:
            _stop(pool, [process for process in multiprocessing.active_children() if process not in others])


@contextmanager
def ends_in_order() -> Iterator[None]:
    """SIGTERM raises SystemExit within, so that workers are ended and temporary files are removed."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _deaths(workers: list[BaseProcess], board: _Board) -> list[tuple[int, str]]:
    """Index of the sequence and description of the end, for each worker that the pool did not end itself."""
    ended_by_pool = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
    deaths = []
    # Where somebody else sent SIGTERM to a worker, all have ended alike.
    for process in [each for each in workers if each.exitcode not in ended_by_pool] or workers:
        code, processes = process.exitcode, list(board.process)
        end = f"ended with status {code}"
        if code < 0:
            hint = ", perhaps because memory ran out," if -code == signal.SIGKILL else ""
            end = f"was killed by {signal.Signals(-code).name}{hint}"
        index = board.sequence[processes.index(process.pid)] if process.pid in processes else _NO_TRACKER
        deaths.append((index, f"worker process {process.pid} {end}"))
    return deaths


def _stop(pool: ProcessPoolExecutor, workers: list[BaseProcess]) -> None:
    """End the workers, whatever they do."""
    pool.shutdown(wait=False, cancel_futures=True)
    for process in workers:
        process.terminate()
    deadline = time.monotonic() + _SECONDS_TO_END
    for process in workers:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
    pool.shutdown()


class _Worker:
    """A worker process's tracker; an error of making it is raised by the first sequence, so that the user sees it."""

    def __init__(
        self,
        make_tracker: TrackerMaker,
        job: Job,
        sequences: SequenceOf[Sequence],
        seats: "multiprocessing.SimpleQueue[tuple[int, str]]",
        board: _Board,
        threads: int,
    ) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
        signal.signal(signal.SIGTERM, self._end)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        # Processes that share cores and wait for each other's threads lose nearly all of their speed.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # for torch, if it is imported later
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        cv2.setNumThreads(threads)
        self.job, self.sequences, self.board, self.busy = job, sequences, board, False
        self.number, device = seats.get()
        board.process[self.number] = os.getpid()
        try:
            self.tracker = make_tracker(device)
            board.sequence[self.number] = _IDLE
        except Exception as error:  # noqa: BLE001
            self.tracker = error

    def track(self, index: int) -> Outcome:
        if isinstance(self.tracker, Exception):
            raise self.tracker
        self.board.sequence[self.number], self.busy = index, True
        try:
            return self.job.run(self.tracker, self.sequences[index], self._count)
        except SystemExit as end:
            os._exit(end.code)  # temporary files are removed; to close a network in order can take seconds
        finally:
            self.board.sequence[self.number], self.busy = _IDLE, False

    def _count(self, frames: int) -> None:
        self.board.frames[self.number] += frames

    def _end(self, number: int, _: object) -> None:
        """Handle SIGTERM: leave a sequence in order, so that no temporary file stays."""
        if not self.busy:
            os._exit(128 + number)
        raise SystemExit(128 + number)


_worker: _Worker | None = None  # in worker processes


def _start(*arguments: object) -> None:
    global _worker
    _worker = _Worker(*arguments)


def _track(index: int) -> Outcome:
    return _worker.track(index)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS_TO_END)
    os._exit(1)
