"""The floating-point environment of a thread: how it rounds, and what it does with numbers that are nearly 0."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

_LIBRARY = ctypes.CDLL(None) if os.name == "posix" else None
# C's `fenv_t` has 8 bytes on some processors and 32 on others.
_BYTES = 256


def has_environment() -> bool:
    """Whether the system can tell and set it; elsewhere the functions below do nothing."""
    return hasattr(_LIBRARY, "fegetenv") and hasattr(_LIBRARY, "fesetenv")


def environment() -> ctypes.Array:
    """The one of this thread, as it is now."""
    found = ctypes.create_string_buffer(_BYTES)
    if has_environment():
        _LIBRARY.fegetenv(found)
    return found


def set_environment(wanted: ctypes.Array) -> None:
    """Give this thread one that `environment` found."""
    if has_environment():
        _LIBRARY.fesetenv(wanted)


@contextlib.contextmanager
def environment_kept() -> Iterator[None]:
    """What the body does to it is undone."""
    before = environment()
    try:
        yield
    finally:
        set_environment(before)
