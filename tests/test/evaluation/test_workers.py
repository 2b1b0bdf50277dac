"""Tracking in several processes: worker processes, and ranks that each take a share."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from lib.test.evaluation.running import run_sequences
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.processes import is_running, wait_until
from tests.test.evaluation.worker_run import LENGTHS, DiaryTracker, make_set

BY_LENGTH = sorted(LENGTHS, key=LENGTHS.get, reverse=True)
LONGEST_WAIT = 180  # seconds; on a busy machine a process takes its time to start


@pytest.fixture
def sequences(tmp_path: Path) -> list:
    return make_set(tmp_path / "set")


@pytest.fixture
def tracker(tmp_path: Path) -> Callable[..., DiaryTracker]:
    return partial(DiaryTracker, tmp_path / "diary.txt")


@pytest.fixture
def command(tmp_path: Path, sequences: list) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start `worker_run.py` as a process group of its own, as a terminal does; all are ended with the test."""
    started = []

    def start(processes: int, *behaviour: str, **environment: str) -> subprocess.Popen:
        place = [str(tmp_path / name) for name in ("set", "out", "diary.txt")]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.test.evaluation.worker_run", *place, str(processes), *behaviour],
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def results(folder: Path) -> set[str]:
    """Names of all files of results, unfinished ones included."""
    return {path.name for path in folder.rglob("*.txt")}


def whole(names: str) -> set[str]:
    return {f"{name}{end}.txt" for name in names for end in ("", "_time")}


def names(outcomes: list) -> str:
    return "".join(sorted(outcome.name for outcome in outcomes))


def test_workers_take_the_longest_first_and_make_their_tracker_once(sequences, tracker, tmp_path):
    waiting = tracker(waiting="bd")

    def go_when_both_wait() -> None:
        wait_until(lambda: len(waiting.entries("wait")) == 2)
        waiting.diary.with_suffix(".go").touch()

    threading.Thread(target=go_when_both_wait, daemon=True).start()
    report = run_sequences(waiting, sequences, tmp_path / "out", ["one", "two"])
    assert names(report.tracked) == "abcdef"
    assert "frames a second in 2 processes" in str(report)
    assert results(tmp_path / "out") == whole("abcdef")
    made = dict(waiting.entries("make"))
    assert set(made) == {"one", "two"}  # a device each
    orders = [[name for name, pid in waiting.entries("start") if pid == worker] for worker in made.values()]
    assert {order[0] for order in orders} == {"b", "d"}
    assert all(order == [name for name in BY_LENGTH if name in order] for order in orders)
    assert os.getpid() not in made.values()

    run_sequences(tracker(), sequences, tmp_path / "here")
    for path in (tmp_path / "out").rglob("[a-f].txt"):
        assert path.read_bytes() == (tmp_path / "here" / sequences[0].subfolder / path.name).read_bytes()


def test_a_worker_that_dies_and_a_sequence_that_fails_leave_the_others_alone(sequences, tracker, tmp_path, capsys):
    report = run_sequences(tracker(raising="f", dying="bd"), sequences, tmp_path / "out", ["cpu"] * 2)
    assert names(report.tracked) == "ace"
    died = "the worker process on cpu died, perhaps because memory ran out: give fewer --threads"
    reasons = {outcome.name: outcome.reason for outcome in report.failed}
    assert reasons == {"b": died, "d": died, "f": "RuntimeError: lost my way"}
    assert results(tmp_path / "out") == whole("ace")
    log = report.log.read_text()
    assert "in track" in log
    assert f"b: failed: {died}" in log
    assert capsys.readouterr().out.count("failed") == 3
    report = run_sequences(tracker(), sequences, tmp_path / "out", ["cpu"] * 2)
    assert (names(report.tracked), sorted(report.kept)) == ("bdf", ["a", "c", "e"])


@pytest.mark.parametrize("processes", [1, 2])
def test_without_a_tracker_the_run_ends_and_says_why(sequences, tracker, tmp_path, processes):
    with pytest.raises(UserError, match="no such weights"):
        run_sequences(tracker(refuses=True), sequences, tmp_path / "out", ["cpu"] * processes)
    assert results(tmp_path / "out") == set()


@pytest.mark.parametrize(
    ("number", "to_group", "status", "processes", "finished"),
    [
        (signal.SIGINT, True, 130, 1, "b"),
        (signal.SIGINT, True, 130, 2, "bc"),
        (signal.SIGKILL, False, -9, 2, "bc"),
    ],
)
def test_a_run_that_is_ended_leaves_no_worker_and_no_half_file_and_continues(
    command, sequences, tracker, tmp_path, number, to_group, status, processes, finished
):
    process = command(processes, "waiting", "df")
    assert wait_until(lambda: len(tracker().entries("wait")) == processes)
    (os.killpg if to_group else os.kill)(process.pid, number)
    assert process.wait(LONGEST_WAIT) == status
    assert "Traceback" not in process.stderr.read()
    workers = {pid for _, pid in tracker().entries("start")}
    assert wait_until(lambda: not any(map(is_running, workers)))
    assert results(tmp_path / "out") == whole(finished)

    half = tmp_path / "out" / sequences[0].subfolder / ".d_time.abcd1234.txt"  # as a kill leaves it while writing
    half.write_text("0.1")
    report = run_sequences(tracker(), sequences, tmp_path / "out")
    assert sorted(report.kept) == [*finished]
    assert results(tmp_path / "out") == whole("abcdef")


def test_ranks_have_shares(command, tracker, tmp_path):
    processes = [command(1, "raising", "b", RANK=str(index), WORLD_SIZE="2") for index in range(2)]
    printed = [process.communicate(timeout=LONGEST_WAIT)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]  # torchrun would end the others with the first
    assert "2 tracked, 0 finished before, 1 failed" in printed[0]
    assert "3 tracked, 0 finished before, 0 failed" in printed[1]
    assert [path.name for path in (tmp_path / "out").glob("*.log")] == ["failures_rank0.log"]
    owner = dict(tracker().entries("start"))
    assert owner["b"] == owner["c"] == owner["a"] != owner["d"] == owner["f"] == owner["e"]
    assert results(tmp_path / "out") == whole("acdef")
