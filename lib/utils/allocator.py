"""How this process gets its memory from the system.

glibc gives large blocks back as soon as they are free, and gets them anew, page after page, for the next tensor. A
training step on a CPU spends a tenth of its time so. Memory that is kept costs nothing, and a step needs as much as the
one before it.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

from lib.utils.errors import UserError

ALLOCATORS = ("auto", "system", "keep", "tcmalloc", "jemalloc")
HELP = (
    "memory on the CPU: auto (default), system (as it is), keep (glibc keeps what was freed), or a library that is "
    "preloaded: tcmalloc, jemalloc"
)

# Files of the libraries, as the dynamic linker finds them, and the Debian packages that bring them.
LIBRARIES = {
    "tcmalloc": (("libtcmalloc_minimal.so.4", "libtcmalloc.so.4"), "libtcmalloc-minimal4"),
    "jemalloc": (("libjemalloc.so.2",), "libjemalloc2"),
}
# glibc's malloc.h: the parameters' numbers, and their values: nothing is mapped apart, the top of the heap is never
# given back, and it grows by 64 MiB.
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_TOP_PAD = -4, -1, -2
_KEEP = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: 64 << 20}


def use_allocator(name: str = "auto") -> str:
    """Make this process use an allocator; gives its name: `system`, `keep`, `tcmalloc` or `jemalloc`.

    A library has to be there before the process starts: where it is not, the process begins anew with it, with the same
    arguments, and this function does not return. Call it before anything is done.

    Args:
        name: one of `ALLOCATORS`; `auto` is a library that is preloaded already, else `keep` on glibc, else `system`.

    Raises:
        UserError: an unknown name, or an allocator that is not there.
    """
    if name not in ALLOCATORS:
        raise UserError(f"unknown allocator '{name}'; choose {', '.join(ALLOCATORS)}")
    loaded = _preloaded()
    if name == "auto":
        name = loaded or ("keep" if _has_mallopt() else "system")
    if name == "keep":
        if loaded or not _has_mallopt():
            what = f"{loaded} is preloaded" if loaded else "this is another C library"
            raise UserError(f"--allocator keep is a setting of glibc's, and {what}; use --allocator auto")
        keep_memory()
    elif name in LIBRARIES and name != loaded:
        _begin_anew(name)
    return name


def keep_memory() -> None:
    """Let glibc keep freed memory for what comes next."""
    libc = ctypes.CDLL(None)
    for parameter, value in _KEEP.items():
        libc.mallopt(parameter, value)


def preloading(name: str) -> dict[str, str]:
    """The environment variable by which a process starts with `tcmalloc` or `jemalloc`.

    Raises:
        UserError: it is not installed.
    """
    path = find_library(name)
    if path is None:
        raise UserError(
            f"{name} is not installed: apt-get install {LIBRARIES[name][1]}, or use --allocator auto, which needs "
            "no library"
        )
    before = [word for word in os.environ.get("LD_PRELOAD", "").split(":") if word and word != str(path)]
    return {"LD_PRELOAD": ":".join([str(path), *before])}


def find_library(name: str) -> Path | None:
    """The file of `tcmalloc` or `jemalloc`, or None where it is not installed."""
    files = (folder / file for folder in _folders() for file in LIBRARIES[name][0])
    return next((file for file in files if file.is_file()), None)


def _folders() -> list[Path]:
    """Where libraries lie."""
    folders = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    folders += [Path(sys.prefix) / "lib", Path("/usr/local/lib")]
    for root in (Path("/usr/lib"), Path("/lib"), Path("/usr/lib64")):
        folders += [root, *root.glob("*-linux-gnu")]
    return folders


def _begin_anew(name: str) -> None:
    """Start this process's program again, with a library preloaded."""
    variables = preloading(name)
    if os.environ.get("LD_PRELOAD") == variables["LD_PRELOAD"]:
        raise UserError(f"{name} was preloaded and is not in this process: it does not fit this Python")
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | variables)


def _preloaded() -> str | None:
    """The library that this process runs with already, its own or the user's choice."""
    maps = Path("/proc/self/maps")
    text = maps.read_text() if maps.is_file() else ""
    for name, (files, _) in LIBRARIES.items():
        if any(f"/{file.partition('.so')[0]}.so" in text for file in files):
            return name
    return None


def _has_mallopt() -> bool:
    return platform.libc_ver()[0] == "glibc"
