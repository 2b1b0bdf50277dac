"""Choosing how a process gets its memory."""

import os
import subprocess
import sys

import pytest

from lib.utils import allocator
from lib.utils.allocator import preloading, use_allocator
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY

FAULTS = """
import ctypes, resource, sys
from lib.utils.allocator import use_allocator
print(use_allocator(sys.argv[1]))
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    block = libc.malloc(40 << 20)
    ctypes.memset(block, 1, 40 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(name):
    """What a process says that uses an allocator: its name, and the page faults of eight blocks of 40 MiB."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LD_PRELOAD", "MALLOC"))}
    command = [sys.executable, "-c", FAULTS, name]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    name, faults = done.stdout.split()
    return name, int(faults)


@pytest.mark.skipif(not allocator._has_mallopt(), reason="not glibc")
def test_memory_is_kept_where_it_was_given_back():
    (name, kept), (_, given_back) = run("auto"), run("system")
    assert name == "keep"
    assert kept < given_back / 4


@pytest.fixture
def begun(monkeypatch, tmp_path):
    """A system with tcmalloc alone, in a folder; what the process would begin anew with."""
    (tmp_path / "libtcmalloc_minimal.so.4").touch()
    monkeypatch.setattr(allocator, "_folders", lambda: [tmp_path])
    monkeypatch.setattr(allocator, "_preloaded", lambda: None)
    monkeypatch.setattr(sys, "orig_argv", ["python", "tracking/train.py", "--allocator", "tcmalloc"])
    begun = {}
    monkeypatch.setattr(os, "execve", lambda *arguments: begun.update(arguments=arguments))
    return begun


def test_a_library_is_preloaded_by_beginning_anew(begun, monkeypatch, tmp_path):
    monkeypatch.setenv("LD_PRELOAD", "/opt/other.so")
    use_allocator("tcmalloc")
    program, words, environment = begun["arguments"]
    assert (program, words) == (sys.executable, [sys.executable, "tracking/train.py", "--allocator", "tcmalloc"])
    assert environment["LD_PRELOAD"] == f"{tmp_path}/libtcmalloc_minimal.so.4:/opt/other.so"
    # A library that cannot be loaded is said, and not tried for ever.
    monkeypatch.setenv("LD_PRELOAD", environment["LD_PRELOAD"])
    with pytest.raises(UserError, match="does not fit this Python"):
        use_allocator("tcmalloc")


def test_a_library_that_is_there_is_used(begun, monkeypatch):
    monkeypatch.setattr(allocator, "_preloaded", lambda: "jemalloc")
    assert use_allocator("auto") == use_allocator("jemalloc") == "jemalloc"
    with pytest.raises(UserError, match="jemalloc is preloaded"):
        use_allocator("keep")
    assert not begun


def test_other_systems_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(allocator, "_preloaded", lambda: None)
    monkeypatch.setattr(allocator, "_has_mallopt", lambda: False)
    assert use_allocator("auto") == "system"
    with pytest.raises(UserError, match="another C library"):
        use_allocator("keep")


def test_what_is_not_there(begun):
    with pytest.raises(UserError, match="jemalloc is not installed: apt-get install libjemalloc2"):
        use_allocator("jemalloc")
    with pytest.raises(UserError, match="unknown allocator 'mimalloc'; choose auto, system"):
        use_allocator("mimalloc")
    assert list(preloading("tcmalloc")) == ["LD_PRELOAD"]
