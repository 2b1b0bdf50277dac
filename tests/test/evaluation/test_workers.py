"""Tracking in several processes: worker processes, and ranks that each take a share."""

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from lib.test.evaluation.running import Rank, SequenceResult, run_sequences
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.processes import is_running, wait_until
from tests.test.evaluation.worker_run import LENGTHS, DiaryTracker, make_set

BY_LENGTH = sorted(LENGTHS, key=LENGTHS.get, reverse=True)


@pytest.fixture
def sequences(tmp_path: Path) -> list:
    return make_set(tmp_path / "set")


@pytest.fixture
def tracker(tmp_path: Path) -> partial:
    return partial(DiaryTracker, tmp_path / "diary.txt")


def results(folder: Path) -> set[str]:
    """Names of all files of results, unfinished ones included."""
    return {path.name for path in folder.rglob("*.txt")}


def whole(names: str) -> set[str]:
    return {f"{name}{end}.txt" for name in names for end in ("", "_time")}


def names(outcomes: list[SequenceResult]) -> str:
    return "".join(sorted(outcome.name for outcome in outcomes))


def test_workers_take_the_longest_first_and_make_their_tracker_once(sequences, tracker, tmp_path):
    report = run_sequences(tracker(), sequences, tmp_path / "out", ["one", "two"])
    assert names(report.tracked) == "abcdef"
    assert "frames a second in 2 processes" in str(report)
    assert results(tmp_path / "out") == whole("abcdef")
    made, started = dict(tracker().entries("make")), tracker().entries("start")
    assert set(made) == {"one", "two"}  # a device each
    assert {pid for _, pid in started} <= set(made.values()) - {os.getpid()}
    for worker in made.values():
        order = [name for name, pid in started if pid == worker]
        assert order == [name for name in BY_LENGTH if name in order]
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
    ("number", "status", "processes", "finished"),
    [(signal.SIGINT, 130, 1, "b"), (signal.SIGINT, 130, 2, "bc"), (signal.SIGKILL, -9, 2, "bc")],
)
def test_a_run_that_is_ended_leaves_no_worker_and_no_half_file_and_continues(
    sequences, tracker, tmp_path, number, status, processes, finished
):
    place = [str(tmp_path / name) for name in ("set", "out", "diary.txt")]
    command = [sys.executable, "-m", "tests.test.evaluation.worker_run", *place, str(processes), "df"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert wait_until(lambda: len(tracker().entries("wait")) == processes)
        # Ctrl-C goes to the whole group.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        assert process.wait(180) == status
        assert "Traceback" not in process.stderr.read()
        workers = {pid for _, pid in tracker().entries("start")}
        assert wait_until(lambda: not any(map(is_running, workers)))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert results(tmp_path / "out") == whole(finished)
    half = tmp_path / "out" / sequences[0].subfolder / ".d_time.abcd1234.txt"  # as a kill leaves it while writing
    half.write_text("0.1")
    report = run_sequences(tracker(), sequences, tmp_path / "out")
    assert sorted(report.kept) == [*finished]
    assert results(tmp_path / "out") == whole("abcdef")


def test_ranks_have_shares(sequences, tracker, tmp_path):
    first, second = (
        run_sequences(tracker(raising="b"), sequences, tmp_path / "out", rank=Rank(index, 2)) for index in range(2)
    )
    assert (names(first.tracked), names(first.failed), names(second.tracked)) == ("ac", "b", "def")
    assert first.status == second.status == 0  # torchrun would end the others with the first
    assert [path.name for path in (tmp_path / "out").glob("*.log")] == ["failures_rank0.log"]
    assert results(tmp_path / "out") == whole("acdef")
