"""What a training process knows of the launcher that started it as one of several (lib.train.admin.launch)."""

import ctypes
import os
import signal
import sys

# The launcher's process id.
LAUNCHER = "STARK_LAUNCHER"

_PR_SET_PDEATHSIG = 1


def is_launched() -> bool:
    """Whether torchrun started this process, by our launcher or by hand."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def end_with_launcher() -> None:
    """Have the system ask this process to end (SIGTERM) when its launcher is killed, so that none is left behind.

    Does nothing where no launcher of ours started it, or on another system than Linux.
    """
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(launcher):  # it ended before the line above
        raise SystemExit(128 + signal.SIGTERM)
