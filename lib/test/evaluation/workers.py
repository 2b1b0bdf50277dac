"""Worker processes that track one sequence after another, each with a tracker of its own.

A worker that dies takes one sequence with it, which is reported. Workers end with the process that started them,
however that one ends.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import cv2

from lib.data.sequence import Sequence
from lib.test.evaluation.claims import WorkList
from lib.test.evaluation.one_sequence import Job, Outcome, Tracker
from lib.test.evaluation.progress import Progress
from lib.utils.errors import UserError

TrackerMaker = Callable[[str], Tracker]  # test set's name -> tracker; picklable where it goes to a worker

_POLL_SECONDS = 0.5
_REPORT_SECONDS = 0.25
_SECONDS_TO_END = 10


class _Ready:
    """Message of a worker: the tracker is made, and tracking begins."""


@dataclass(frozen=True)
class _Unusable:
    """Message of a worker: a tracker cannot be made, since the user has to put something right."""

    reason: str


def track_here(
    make_tracker: TrackerMaker, job: Job, worklist: WorkList, progress: Progress
) -> Iterator[tuple[Sequence, Outcome]]:
    """Track whatever is left in this process, and give what became of each sequence."""
    trackers = _TrackerOfSet(make_tracker)
    while (sequence := worklist.wait()) is not None:
        yield sequence, job.run(trackers.get(sequence.dataset), sequence, progress.frames)


def track_in_workers(
    makers: SequenceOf[TrackerMaker], job: Job, worklist: WorkList, progress: Progress, threads: int
) -> Iterator[tuple[Sequence, Outcome]]:
    """Track whatever is left in processes, one for each of `makers`, and give what became of each sequence.

    A worker that dies with a sequence is replaced. One that dies while it makes its tracker, for which there may be
    no memory, is not, and its sequence is left to the others.

    Args:
        threads: how many each worker may compute with.

    Raises:
        UserError: a tracker cannot be made, or no worker lives.
    """
    workers: dict[int, _Worker] = {}
    usable = list(range(len(makers)))
    try:
        while True:
            _hand_out(workers, usable, worklist, lambda n: _Worker(n, makers[n], job, threads))
            busy = [worker for worker in workers.values() if worker.sequence is not None]
            if not busy and worklist.is_empty:
                return
            if not busy:
                time.sleep(_POLL_SECONDS)
                continue
            ready = wait([worker.connection for worker in workers.values()], _POLL_SECONDS)
            for worker in [worker for worker in workers.values() if worker.connection in ready]:
                message = worker.receive()
                if isinstance(message, int):
                    progress.frames(message)
                elif isinstance(message, _Unusable):
                    raise UserError(message.reason)
                elif isinstance(message, Outcome):
                    yield worker.release(), message
                elif message is None:
                    del workers[worker.number]
                    if (outcome := _bury(worker, usable, worklist, progress)) is not None:
                        yield outcome
                    if not usable:
                        raise UserError(
                            f"{worker.describe_end()} while making its tracker, as all others: fewer --threads?"
                        )
    finally:
        _stop(list(workers.values()))


class _TrackerOfSet:
    """Makes a tracker once a test set, only when there is something to track."""

    def __init__(self, make_tracker: TrackerMaker) -> None:
        self._make, self._tracker, self._dataset = make_tracker, None, None

    def get(self, dataset: str) -> Tracker:
        """The tracker for a test set by its name."""
        if self._dataset != dataset:
            self._tracker = None  # makes room for the next one
            self._tracker, self._dataset = self._make(dataset), dataset
        return self._tracker


class _Worker:
    """The end of a worker process that gives it work.

    Attributes:
        number: its place among the workers, from 0.
        sequence: what it works on, None for nothing.
        is_ready: whether it has made a tracker.
        has_begun: whether it has begun to track the sequence.
    """

    def __init__(self, number: int, make_tracker: TrackerMaker, job: Job, threads: int) -> None:
        # Spawned, not forked: CUDA and thread pools do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.number, self.sequence = number, None
        self.is_ready = self.has_begun = False
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, make_tracker, job, threads), daemon=True)
        self.process.start()
        theirs.close()  # so that the worker's end is closed when it ends

    def give(self, sequence: Sequence) -> None:
        """Have it track a sequence."""
        self.sequence, self.has_begun = sequence, False
        try:
            self.connection.send(sequence)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has died, which `receive` tells next

    def receive(self) -> object | None:
        """Its next message; None where it has died."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):  # the latter where it died in the middle of a message
            return None
        if isinstance(message, _Ready):
            self.is_ready = self.has_begun = True
        return message

    def release(self) -> Sequence | None:
        """Take back the sequence that it works on."""
        sequence, self.sequence = self.sequence, None
        return sequence

    def describe_end(self) -> str:
        """How it died, for the user."""
        self.process.join()
        code, name = self.process.exitcode, f"worker {self.number} (process {self.process.pid})"
        if code is not None and code < 0:
            hint = ", perhaps since memory ran out," if -code == signal.SIGKILL else ""
            return f"{name} was killed by {signal.Signals(-code).name}{hint}"
        return f"{name} ended with status {code}"


def _hand_out(
    workers: dict[int, _Worker], usable: list[int], worklist: WorkList, start: Callable[[int], _Worker]
) -> None:
    """Give every free worker a sequence; start those that are missing as long as there is work for them."""
    for number in usable:
        worker = workers.get(number)
        if worker is not None and worker.sequence is not None:
            continue
        sequence = worklist.take()
        if sequence is None:
            return
        if worker is None:
            workers[number] = worker = start(number)
        worker.give(sequence)


def _bury(
    worker: _Worker, usable: list[int], worklist: WorkList, progress: Progress
) -> tuple[Sequence, Outcome] | None:
    """What the death of a worker means: a failed sequence, or one for the others."""
    end, sequence = worker.describe_end(), worker.release()
    if sequence is None:
        return None
    if worker.has_begun:
        return sequence, Outcome(sequence.name, f"{end} while tracking it")
    worklist.put_back(sequence)
    if not worker.is_ready:
        usable.remove(worker.number)
        progress.note(f"{end} while making its tracker; {len(usable)} others go on")
    return None


def _stop(workers: list[_Worker]) -> None:
    """End the workers, whatever they do."""
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + _SECONDS_TO_END
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.connection.close()


def _work(connection: Connection, make_tracker: TrackerMaker, job: Job, threads: int) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started this one decides
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_threads(threads)
    trackers, report = _TrackerOfSet(make_tracker), _FrameReport(connection)
    try:
        while True:
            sequence = connection.recv()
            try:
                tracker = trackers.get(sequence.dataset)
            except UserError as error:
                connection.send(_Unusable(str(error)))
                return
            connection.send(_Ready())
            outcome = job.run(tracker, sequence, report.count)
            report.send()
            connection.send(outcome)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the process that started this one has ended
    except SystemExit as end:
        os._exit(end.code)  # no file is open now, and to take the networks down in order can take seconds
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # raised while Python ends, it would be told with a traceback


def _limit_threads(threads: int) -> None:
    """Compute with so many threads: processes that share cores and wait for each other's turn lose nearly all."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torch heeds it as it is imported
    if "torch" in sys.modules:  # by what started the process
        sys.modules["torch"].set_num_threads(threads)
    cv2.setNumThreads(threads)


class _FrameReport:
    """Tells how many frames are done, now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._count, self._sent = connection, 0, time.monotonic()

    def count(self) -> None:
        """One more frame."""
        self._count += 1
        if time.monotonic() - self._sent > _REPORT_SECONDS:
            self.send()

    def send(self) -> None:
        """Tell at once."""
        self._connection.send(self._count)
        self._count, self._sent = 0, time.monotonic()


def _end(number: int, _: object) -> None:
    """Leave in order, so that no unfinished file stays behind."""
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    """Wait in a thread for the end of the process that started this one, and end, too."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS_TO_END)  # longer than any step of a tracker that cannot be interrupted
    os._exit(1)
