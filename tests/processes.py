"""Waiting for other processes."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(true: Callable[[], object], seconds: float = 300) -> bool:
    """Whether something becomes true in time, which a busy machine may need; each look may take long, too."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int | str) -> bool:
    """Whether there is a process; one that has ended, and whose parent has not asked yet, is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
