"""Errors that a user can cause, and how a command reports them."""

import errno
import io
import os
import sys
from collections.abc import Callable

# Of places that a user chose.
_USERS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


class UserError(Exception):
    """Something the user can put right.

    The message is one line that says what is wrong, where, and what to do.
    Commands print it without a traceback and exit with status 2.
    """


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and leave the process with its exit status.

    0 or the returned status on success, 2 after a `UserError` (one line on stderr),
    also where a folder cannot be written or the disk is full, 130 after Ctrl-C. Any other exception is a bug and keeps
    its traceback. `~` is the home directory in `--option=~/folder`, too, and names that are not UTF-8 are printed with
    their bytes as escapes.
    """
    sys.argv[1:] = map(_expand_home, sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
    except UserError as error:
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


def _expand_home(word: str) -> str:
    """A word of the command line with `~` expanded; shells leave it as it is behind an equals sign."""
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)
