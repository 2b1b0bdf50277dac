"""Memory of this process; apart, so that a process can ask without loading anything large."""

import re
from pathlib import Path

from lib.utils.errors import UserError


def resident() -> tuple[float, float]:
    """MB of this process in memory: now, and at most.

    Raises:
        UserError: the system does not tell.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError as error:
        raise UserError("memory is read from /proc/self/status, which this system does not have") from error
    now, most = (int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024 for key in ("VmRSS", "VmHWM"))
    return now, most
