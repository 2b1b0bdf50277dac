"""Errors that a user can cause, and how a command reports them."""

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lib.utils.files import write_text

# Names a folder for errors where a launcher (lib.train.launch) started this process as one of several.
REPORTS = "STARK_REPORTS"


# Of places that a user chose.
_USERS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


class UserError(Exception):
    """Something the user can put right.

    The message is one line that says what is wrong, where, and what to do.
    Commands print it without a traceback and exit with status 2.
    """


class LostProcessError(UserError):
    """One of several processes cannot go on since another one ended, which says why."""


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and leave the process with its exit status.

    0 or the returned status on success, 2 after a `UserError` (one line on stderr),
    also where a folder cannot be written or the disk is full, 130 after Ctrl-C. Any other exception is a bug and keeps
    its traceback.

    One of several processes that a launcher started leaves the line to it, so that what all of them meet is said once.
    """
    try:
        status = main()
    except UserError as error:
        if not _left_to_launcher(error):
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _USERS:
            raise
        where = f"{error.filename}: " if error.filename else "cannot write: "
        print(f"error: {where}{error.strerror}; make room, or choose another place", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)


def _left_to_launcher(error: UserError) -> bool:
    """Write an error down for the launcher. False where it has to be said here."""
    folder, lost = os.environ.get(REPORTS), isinstance(error, LostProcessError)
    if folder is None:
        return False
    if os.environ["TORCHELASTIC_RESTART_COUNT"] != os.environ["TORCHELASTIC_MAX_RESTARTS"]:
        return lost  # all are started again; the launcher looks only at the last attempt
    report = {"message": str(error), "lost": lost, "time": time.time()}
    try:
        write_text(Path(folder) / f"{os.environ['RANK']}.json", json.dumps(report))
    except OSError:
        return False  # a full disk, or a launcher that has ended: it is said here after all
    return True
