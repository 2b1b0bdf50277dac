"""Tracking in several processes: worker processes, and ranks that each take a share."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib.test.evaluation.running import run_sequences
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.test.evaluation.worker_run import NAMES, Maker, make_set

BY_LENGTH = ["b", "d", "c", "f", "a", "e"]


@pytest.fixture
def sequences(tmp_path: Path) -> list:
    return make_set(tmp_path / "set")


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary.txt"


@pytest.fixture
def command(tmp_path: Path, sequences: list, diary: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start `worker_run.py` as a process group of its own, as a terminal does; all are ended with the test."""
    started = []

    def start(processes: int, *behaviour: str, **environment: str) -> subprocess.Popen:
        place = [str(tmp_path / "set"), str(tmp_path / "out"), str(diary), str(processes)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.test.evaluation.worker_run", *place, *behaviour],
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


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that has ended, and whose new parent has not asked yet, is none.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def results(folder: Path) -> set[str]:
    """Names of all files of results, unfinished ones included."""
    return {path.name for path in folder.rglob("*.txt")}


def whole(*names: str) -> set[str]:
    return {f"{name}{end}.txt" for name in names for end in ("", "_time")}


def names(outcomes: list) -> list[str]:
    return sorted(outcome.name for outcome in outcomes)


def test_workers_take_the_longest_first_and_make_their_tracker_once(sequences, diary, tmp_path):
    maker = Maker(diary, waiting="bd")

    def go_when_both_wait() -> None:
        wait_for(lambda: len(maker.entries("wait")) == 2, "both workers to be busy")
        diary.with_suffix(".go").touch()

    threading.Thread(target=go_when_both_wait, daemon=True).start()
    report = run_sequences(maker, sequences, tmp_path / "out", ["one", "two"])
    assert names(report.tracked) == sorted(NAMES)
    assert "frames a second in 2 processes" in str(report)
    assert results(tmp_path / "out") == whole(*NAMES)
    made = dict(maker.entries("make"))
    assert set(made) == {"one", "two"}  # a device each
    orders = [[name for name, pid in maker.entries("start") if pid == worker] for worker in made.values()]
    assert {order[0] for order in orders} == {"b", "d"}
    assert all(order == [name for name in BY_LENGTH if name in order] for order in orders)
    assert os.getpid() not in made.values()

    run_sequences(Maker(diary), sequences, tmp_path / "here")
    for path in (tmp_path / "out").rglob("[a-f].txt"):
        assert path.read_bytes() == (tmp_path / "here" / sequences[0].subfolder / path.name).read_bytes()


def test_a_worker_that_dies_and_a_sequence_that_fails_leave_the_others_alone(sequences, diary, tmp_path, capsys):
    report = run_sequences(Maker(diary, raising="f", dying="bd"), sequences, tmp_path / "out", ["cpu"] * 2)
    assert names(report.tracked) == ["a", "c", "e"]
    reasons = {outcome.name: outcome.reason for outcome in report.failed}
    assert sorted(reasons) == ["b", "d", "f"]
    assert reasons["f"] == "RuntimeError: lost my way"
    for name in "bd":
        assert reasons[name].startswith("worker process ")
        assert "was killed by SIGKILL, perhaps because memory ran out, while tracking it" in reasons[name]
    assert results(tmp_path / "out") == whole("a", "c", "e")
    log = report.log.read_text()
    assert "in track" in log
    assert "b: failed: worker" in log
    assert capsys.readouterr().out.count("failed") == 3
    report = run_sequences(Maker(diary), sequences, tmp_path / "out", ["cpu"] * 2)
    assert (names(report.tracked), sorted(report.kept)) == (["b", "d", "f"], ["a", "c", "e"])


@pytest.mark.parametrize(
    ("making", "processes", "message"),
    [
        ("refuses", 1, "no such weights"),
        ("refuses", 2, "no such weights"),
        ("dies", 2, "killed by SIGKILL.* while making its tracker"),
    ],
)
def test_without_a_tracker_the_run_ends_and_says_why(sequences, diary, tmp_path, making, processes, message):
    with pytest.raises(UserError, match=message):
        run_sequences(Maker(diary, making=making), sequences, tmp_path / "out", ["cpu"] * processes)
    assert results(tmp_path / "out") == set()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("number", "to_group", "status"),
    [(signal.SIGKILL, False, -9), (signal.SIGINT, True, 130), (signal.SIGTERM, False, -15)],
)
def test_a_run_that_is_ended_leaves_no_worker_and_no_half_file_and_continues(
    command, sequences, diary, tmp_path, number, to_group, status, processes
):
    maker = Maker(diary)
    process = command(processes, "waiting", "df")
    wait_for(lambda: len(maker.entries("wait")) == processes, "the workers to be busy")
    (os.killpg if to_group else os.kill)(process.pid, number)
    assert process.wait(60) == status
    workers = {pid for _, pid in maker.entries("start")}
    wait_for(lambda: not any(map(is_alive, workers)), "the workers to end")
    finished = "bc" if processes == 2 else "b"
    assert results(tmp_path / "out") == whole(*finished)

    half = tmp_path / "out" / sequences[0].subfolder / ".d_time.abcd1234.txt"  # as a kill leaves it while writing
    half.write_text("0.1")
    report = run_sequences(maker, sequences, tmp_path / "out")
    assert sorted(report.kept) == [*finished]
    assert names(report.tracked) == sorted(set(NAMES) - set(finished))
    assert results(tmp_path / "out") == whole(*NAMES)


def test_a_worker_that_somebody_ends_is_named(command, diary):
    maker = Maker(diary)
    process = command(2, "waiting", "b")
    wait_for(lambda: maker.entries("wait"), "a worker to be busy")
    os.kill(maker.entries("wait")[0][1], signal.SIGTERM)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "b: failed: worker process" in printed
    assert "was killed by SIGTERM while tracking it" in printed


def test_ranks_have_shares(command, diary, tmp_path):
    processes = [command(1, "raising", "b", RANK=str(index), WORLD_SIZE="2") for index in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]  # torchrun would end the others with the first
    assert "rank 0: 2 tracked, 0 finished before, 1 failed" in printed[0]
    assert "rank 1: 3 tracked, 0 finished before, 0 failed" in printed[1]
    assert [path.name for path in (tmp_path / "out").glob("*.log")] == ["failures_rank0.log"]
    owner = dict(Maker(diary).entries("start"))
    assert owner["b"] == owner["c"] == owner["a"] != owner["d"] == owner["f"] == owner["e"]
    assert results(tmp_path / "out") == whole("a", "c", "d", "e", "f")
