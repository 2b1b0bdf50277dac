"""Errors that a user can cause, and how a command reports them."""

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence

# Errors of places that a user chose.
_USERS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


class UserError(Exception):
    """Something the user can put right: one line that says what is wrong, where, and what to do."""


def few(texts: Sequence[str], count: int = 3, separator: str = ", ", width: int = 150) -> str:
    """The first texts, each cut off at `width` characters, and how many more there are."""
    more = f"{separator}and {len(texts) - count} more" if len(texts) > count else ""
    return (separator.join(text[:width] for text in texts[:count]) or "nothing") + more


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and leave the process with its exit status.

    0 or the returned status on success; 2, and one line on stderr, after a `UserError` or where a place cannot be
    written; 130 after Ctrl-C. Any other exception is a bug and keeps its traceback. `~` is the home directory in
    `--option=~/folder`, too, and names that are not UTF-8 are printed with their bytes as escapes.
    """
    sys.argv[1:] = map(_expand_home, sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main() or 0)
    except UserError as error:
        message = str(error)
    except BrokenPipeError:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # who read the output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        raise
    except OSError as error:
        if error.errno not in _USERS:
            raise
        message = f"{error.filename or 'cannot write'}: {error.strerror}; make room, or choose another place"
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _expand_home(word: str) -> str:
    """A word of the command line with `~` expanded; shells leave it as it is behind an equals sign."""
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)
