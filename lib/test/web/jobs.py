"""Many jobs in one process, a step of each in turn.

A job is a generator: each `yield` ends a short step. It yields None, or a function that says whether it can go on. Its
`finally` blocks run when it is cancelled.
"""

import logging
from collections.abc import Callable, Iterator

from lib.utils.errors import UserError

Steps = Iterator[Callable[[], bool] | None]

log = logging.getLogger(__name__)


class Job:
    """One job.

    Args:
        steps: the generator.
        failed: told in a line of what went wrong.
    """

    def __init__(self, steps: Steps, failed: Callable[[str], None]) -> None:
        self._steps, self._failed = steps, failed
        self._waits_for: Callable[[], bool] | None = None

    @property
    def ready(self) -> bool:
        """Whether a step can be done."""
        return self._waits_for is None or self._waits_for()

    def step(self) -> bool:
        """Do a step; False where it was the last."""
        try:
            self._waits_for = next(self._steps)
        except StopIteration:
            return False
        except UserError as error:
            self._failed(str(error))
            return False
        except Exception as error:
            # One page's trouble must not end the others' work; the log has the traceback.
            log.exception("a job failed")
            self._failed(unexpected(error))
            return False
        return True

    def cancel(self) -> None:
        """End it where it is."""
        self._steps.close()


def unexpected(error: Exception) -> str:
    """What a page is told of a mistake of ours."""
    return f"something went wrong in the server ({type(error).__name__}: {error}); its log says where"


class Places:
    """A number of places for what takes much memory: wait for `free`, then enter, in the same step."""

    def __init__(self, count: int) -> None:
        self._left = count

    def free(self) -> bool:
        """Whether there is one."""
        return self._left > 0

    def __enter__(self) -> None:
        self._left -= 1

    def __exit__(self, *_: object) -> None:
        self._left += 1


class Turns:
    """Jobs by owner and kind; each owner has one step in turn, however many jobs it has."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Job]] = {}  # both in the order of their turns

    def begin(self, owner: str, kind: str, job: Job) -> None:
        """Add a job; one of the same kind of this owner is cancelled."""
        self.cancel(owner, kind)
        self._jobs.setdefault(owner, {})[kind] = job

    def cancel(self, owner: str, kind: str | None = None) -> bool:
        """Cancel an owner's job of a kind, or all of them; says whether there was one."""
        jobs = self._jobs.get(owner, {})
        gone = [jobs.pop(each) for each in list(jobs) if kind in (None, each)]
        for job in gone:
            job.cancel()
        if not jobs:
            self._jobs.pop(owner, None)
        return bool(gone)

    def has(self, owner: str, kind: str) -> bool:
        """Whether an owner has a job of a kind."""
        return kind in self._jobs.get(owner, {})

    def step(self) -> bool:
        """Do one step of the owner whose turn it is; False where nothing can be done now."""
        for owner in list(self._jobs):
            kind = next((kind for kind, job in self._jobs[owner].items() if job.ready), None)
            if kind is None:
                continue
            jobs = self._jobs.pop(owner)
            job = jobs.pop(kind)
            if job.step():
                jobs[kind] = job
            if jobs:
                self._jobs[owner] = jobs
            return True
        return False
