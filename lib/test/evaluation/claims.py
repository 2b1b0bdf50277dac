"""Sharing the sequences of a test set among processes, on one machine or several, that write to one folder.

Nobody assigns the sequences: whoever is free claims the longest one that is left. A claim ends with the process that
holds it, so what a killed process leaves is taken over by the others.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType

from lib.data.sequence import Sequence
from lib.utils.errors import UserError
from lib.utils.files import NO_LOCKS

CLAIMS_FILE = ".claims"

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Rank:
    """Which of several processes this one is, as torchrun tells it.

    Attributes:
        index, count: among all processes.
        local_index, local_count: among those of this machine.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1

    @classmethod
    def from_environment(cls) -> "Rank":
        """Read RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; the only process where they are not set.

        Raises:
            UserError: they are not numbers, or the rank is none of the world's.
        """
        try:
            count, index = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
            local_count = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            rank = cls(index, count, int(os.environ.get("LOCAL_RANK", 0)), local_count)
        except KeyError:
            return ALONE
        except ValueError as error:
            raise UserError(
                f"RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE must be whole numbers: {error}"
            ) from error
        if not (0 <= index < count and 0 <= rank.local_index < local_count):
            raise UserError(
                f"rank {index} of {count}, on this machine {rank.local_index} of {local_count}: no such rank"
            )
        return rank

    @property
    def label(self) -> str:
        """`rank 3: ` before a line of one of several processes."""
        return f"rank {self.index}: " if self.count > 1 else ""


ALONE = Rank()


class _State(IntEnum):
    """The bytes of a sequence in the claims' file; locked, they say what the process that locks them knows."""

    CLAIMED = 0
    DONE = 1
    FAILED = 2


class Claims:
    """Claims of this process in a folder; a context manager that gives them up at its end.

    Every sequence has three bytes in a file that stays empty, and locks on them are the claims: the system keeps them
    right over all processes and machines, and gives up those of a process that ends, however it ends.

    Attributes:
        work: False on a file system without locks, where every claim is granted.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / CLAIMS_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 - held open as long as the claims last
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --results_dir") from error
        self.work = True
        try:
            self._try_lock(fcntl.LOCK_SH, "", _State.CLAIMED)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                self._file.close()
                raise UserError(f"cannot lock {path}: {error.strerror}; choose a --results_dir elsewhere") from error
            self.work = False

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(self, key: str) -> bool:
        """Claim a sequence; False where another process has it."""
        return not self.work or self._try_lock(fcntl.LOCK_EX, key, _State.CLAIMED)

    def settle(self, key: str, failed: bool) -> None:
        """Tell the others what became of a claimed sequence; the claim stays, so that nobody repeats it."""
        if self.work:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _offset(key, _State.FAILED if failed else _State.DONE))

    def is_done(self, key: str) -> bool:
        """Whether a running process has finished the sequence."""
        return self._is_set(key, _State.DONE)

    def has_failed(self, key: str) -> bool:
        """Whether the sequence failed in a running process."""
        return self._is_set(key, _State.FAILED)

    def _is_set(self, key: str, state: _State) -> bool:
        # A shared lock: two processes that ask at once do not take each other for the answer.
        if self._try_lock(fcntl.LOCK_SH, key, state):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key, state))
            return False
        return True

    def _try_lock(self, kind: int, key: str, state: _State) -> bool:
        try:
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB, 1, _offset(key, state))
        except (BlockingIOError, PermissionError):
            return False
        return True


class WorkList:
    """The sequences that are left, in the order in which they are given out.

    Args:
        sequences: what to track, the longest first.
        claims: of the folder of their results.
        is_finished: whether a sequence has all its files.
        on_elsewhere: called with every sequence that another process has settled.

    Attributes:
        others_done, others_failed: names of what other processes did meanwhile.
    """

    def __init__(
        self,
        sequences: SequenceOf[Sequence],
        claims: Claims,
        is_finished: Callable[[Sequence], bool],
        on_elsewhere: Callable[[Sequence], None] = lambda _: None,
    ) -> None:
        self._left = list(sequences)
        self._claims, self._is_finished, self._on_elsewhere = claims, is_finished, on_elsewhere
        self.others_done: list[str] = []
        self.others_failed: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, not even in the hands of other processes."""
        return not self._left

    def take(self) -> Sequence | None:
        """The next sequence that nobody works on; None where there is none for now."""
        for sequence in list(self._left):
            key = _key(sequence)
            if self._claims.take(key):
                if not self._is_finished(sequence):
                    self._left.remove(sequence)
                    return sequence
                self._drop(sequence, self.others_done)  # by a process that has ended since
            elif self._claims.is_done(key):
                self._drop(sequence, self.others_done)
            elif self._claims.has_failed(key):
                self._drop(sequence, self.others_failed)
        return None

    def wait(self) -> Sequence | None:
        """The next sequence, as soon as there is one; None where everything is settled."""
        while not self.is_empty:
            sequence = self.take()
            if sequence is not None:
                return sequence
            if not self.is_empty:
                time.sleep(POLL_SECONDS)
        return None

    def put_back(self, sequence: Sequence) -> None:
        """Return a sequence that was taken, and not begun."""
        self._left.insert(0, sequence)

    def settle(self, sequence: Sequence, failed: bool) -> None:
        """Say what became of a sequence that was taken."""
        self._claims.settle(_key(sequence), failed)

    def _drop(self, sequence: Sequence, names: list[str]) -> None:
        self._left.remove(sequence)
        names.append(sequence.name)
        self._on_elsewhere(sequence)


def _key(sequence: Sequence) -> str:
    return f"{sequence.subfolder}/{sequence.name}"


def _offset(key: str, state: _State) -> int:
    """Where a sequence's byte lies: the same in every process, and two sequences practically never share one."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")
    return place * len(_State) + state
