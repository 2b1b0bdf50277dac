"""Tracking in several processes: worker processes, and ranks that share one folder of results."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lib.test.evaluation import running
from lib.test.evaluation.claims import ALONE, CLAIMS_FILE, Claims, Rank, WorkList
from lib.test.evaluation.running import FAILURE_LOG, failure_log, run_sequences, spread_devices
from lib.utils import device
from lib.utils.errors import UserError
from tests.test.evaluation.worker_run import NAMES, Maker, make_set

REPOSITORY = Path(__file__).resolve().parents[3]
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
    deadline = time.monotonic() + 30
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


def test_workers_share_the_list_longest_first_and_make_their_tracker_once(sequences, diary, tmp_path):
    maker = Maker(diary)
    report = run_sequences([maker] * 2, sequences, tmp_path / "out")
    assert sorted(report.done) == sorted(NAMES)
    assert report.tracked_frames == 29
    assert report.processes == 2
    assert "frames a second in 2 processes" in report.summary()
    assert results(tmp_path / "out") == whole(*NAMES)
    made = [pid for _, pid in maker.entries("make")]
    orders = [[name for name, pid in maker.entries("start") if pid == worker] for worker in made]
    assert {order[0] for order in orders} == {"b", "d"}
    assert all(order == [name for name in BY_LENGTH if name in order] for order in orders)
    assert len(set(made)) == len(made) == 2
    assert os.getpid() not in made

    run_sequences([Maker(diary)], sequences, tmp_path / "here")
    for path in (tmp_path / "out").rglob("[a-f].txt"):
        assert path.read_bytes() == (tmp_path / "here" / sequences[0].subfolder / path.name).read_bytes()


def test_a_worker_that_dies_and_a_sequence_that_fails_leave_the_others_alone(sequences, diary, tmp_path):
    maker = Maker(diary, raising="f", dying="bd")  # both workers die on their first sequence
    lines = []
    report = run_sequences([maker] * 2, sequences, tmp_path / "out", say=lines.append)
    assert sorted(report.done) == ["a", "c", "e"]
    assert sorted(report.failed) == ["b", "d", "f"]
    assert report.failed["f"] == "RuntimeError: lost my way"
    for name in "bd":
        assert report.failed[name].startswith("worker ")
        assert "was killed by SIGKILL, perhaps since memory ran out, while tracking it" in report.failed[name]
    assert results(tmp_path / "out") == whole("a", "c", "e")
    log = (tmp_path / "out" / FAILURE_LOG).read_text()
    assert "in track" in log
    assert "b failed: worker" in log
    assert sum("failed" in line for line in lines) == 3


@pytest.mark.parametrize(
    ("making", "message"),
    [("refuses", "no such weights"), ("dies", "was killed by SIGKILL.* while making its tracker, as all others")],
)
def test_without_any_tracker_the_run_ends_and_says_why(sequences, diary, tmp_path, making, message):
    with pytest.raises(UserError, match=message):
        run_sequences([Maker(diary, making=making)] * 2, sequences, tmp_path / "out", say=lambda _: None)
    assert results(tmp_path / "out") == set()


ENDED_WITHOUT_A_TRACKER = """
import multiprocessing, os, signal, sys
from pathlib import Path
from lib.test.evaluation import workers
from lib.utils.errors import UserError
from tests.test.evaluation.worker_run import make_set

def refuse(name):
    raise UserError("no tracker")

def work(connection):
    workers._work(connection, refuse, None, 1)
    os.kill(os.getpid(), signal.SIGTERM)

ours, theirs = multiprocessing.Pipe()
process = multiprocessing.get_context("fork").Process(target=work, args=(theirs,))
process.start()
ours.send(make_set(Path(sys.argv[1]))[0])
print(ours.recv())
process.join()
print(process.exitcode)
"""


def test_a_worker_that_has_no_tracker_is_ended_without_a_word(tmp_path):
    command = [sys.executable, "-c", ENDED_WITHOUT_A_TRACKER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert "no tracker" in done.stdout
    assert done.stdout.splitlines()[-1] == str(-signal.SIGTERM), done.stderr  # and not by an exception of Python's


def test_a_worker_without_memory_for_its_tracker_leaves_its_sequence_to_others(sequences, diary, tmp_path):
    lines = []
    makers = [Maker(diary, making="dies"), Maker(diary)]
    report = run_sequences(makers, sequences, tmp_path / "out", say=lines.append)
    assert sorted(report.done) == sorted(NAMES)
    assert any("while making its tracker; 1 others go on" in line for line in lines)


@pytest.mark.parametrize(("number", "to_group", "status"), [(signal.SIGKILL, False, -9), (signal.SIGINT, True, 130)])
def test_a_run_that_is_ended_leaves_no_worker_and_no_half_file_and_goes_on(
    command, sequences, diary, tmp_path, number, to_group, status
):
    maker = Maker(diary)
    process = command(2, "waiting", "df")
    wait_for(lambda: len(maker.entries("wait")) == 2, "both workers to be busy")
    (os.killpg if to_group else os.kill)(process.pid, number)
    assert process.wait(30) == status
    workers = {pid for _, pid in maker.entries("start")}
    assert len(workers) == 2
    wait_for(lambda: not any(map(is_alive, workers)), "the workers to end")
    assert results(tmp_path / "out") == whole("b", "c")

    half = tmp_path / "out" / sequences[0].subfolder / ".d_time.abcd1234.txt"  # as a kill leaves it while writing
    half.write_text("0.1")
    report = run_sequences([maker], sequences, tmp_path / "out", say=lambda _: None)
    assert sorted(report.kept) == ["b", "c"]
    assert report.done == [name for name in BY_LENGTH if name not in "bc"]
    assert results(tmp_path / "out") == whole(*NAMES)


def rank_environment(index: int, count: int = 2) -> dict[str, str]:
    return {"RANK": str(index), "WORLD_SIZE": str(count), "LOCAL_RANK": "0"}


def test_ranks_share_the_list_and_take_over_what_a_dead_one_leaves(command, sequences, diary, tmp_path):
    maker = Maker(diary)
    ranks = [command(1, "waiting", "b", **rank_environment(index, 3)) for index in range(3)]
    wait_for(lambda: len({name for name, _ in maker.entries("start")}) == 6, "the others to begin the rest")
    wait_for(lambda: maker.entries("wait"), "the first to be busy")
    ((_, holder),) = maker.entries("wait")
    os.kill(holder, signal.SIGKILL)
    wait_for(lambda: len(maker.entries("wait")) == 2, "another rank to take over")
    diary.with_suffix(".go").touch()
    printed = "".join(rank.communicate(timeout=60)[0] for rank in ranks)
    assert sorted(rank.returncode for rank in ranks) == [-9, 0, 0]
    assert results(tmp_path / "out") == whole(*NAMES)
    started = [name for name, _ in maker.entries("start")]
    assert sorted(started) == sorted([*NAMES, "b"])  # nothing twice, except what was taken over
    assert sum("tracked, " in line for line in printed.splitlines()) == 2
    assert "by other processes" in printed


def test_a_failure_in_one_rank_is_known_to_the_other_which_finishes_first(command, sequences, diary, tmp_path):
    maker = Maker(diary)
    ranks = [command(1, "raising", "b", "waiting", "d", **rank_environment(index)) for index in range(2)]
    wait_for(lambda: len({name for name, _ in maker.entries("start")}) == 6, "all to have begun")
    wait_for(lambda: list((tmp_path / "out").glob("failures_rank*.log")), "the failure")
    assert [rank.poll() for rank in ranks] == [None, None]  # torchrun would end the others with the first that fails
    diary.with_suffix(".go").touch()
    printed = [rank.communicate(timeout=60)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert all("1 failed" in text for text in printed)
    assert [name for name, _ in maker.entries("start")].count("b") == 1
    assert results(tmp_path / "out") == whole("a", "c", "d", "e", "f")


def test_without_locks_ranks_have_fixed_shares(sequences, diary, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    lines, done = [], []
    for index in range(2):
        rank = Rank(index, 2)
        done.append(run_sequences([Maker(diary)], sequences, tmp_path / "out", rank=rank, say=lines.append).done)
    assert done == [["b", "c", "a"], ["d", "f", "e"]]
    assert "has no locks" in lines[0]


def test_claims_are_of_one_process_and_end_with_it(sequences, tmp_path):
    with Claims(tmp_path) as claims:
        worklist = WorkList(sequences, claims, lambda sequence: sequence.name == "a")
        assert worklist.take().name == "b"
        assert worklist.others_done == ["a"]
        worklist.put_back(sequences[1])
        assert worklist.take().name == "b"
        worklist.settle(sequences[1], failed=True)
        ask = (
            "import sys; from lib.test.evaluation.claims import Claims; from pathlib import Path; "
            "c = Claims(Path(sys.argv[1])); k = sys.argv[2]; "
            "print([(c.take(k + n), c.has_failed(k + n), c.is_done(k + n)) for n in 'bc'])"
        )
        arguments = [sys.executable, "-c", ask, str(tmp_path), f"{sequences[0].subfolder}/"]
        answer = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        assert answer.strip() == "[(False, True, False), (True, False, False)]"
    answer = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert answer.strip() == "[(True, False, False), (True, False, False)]"
    assert (tmp_path / CLAIMS_FILE).stat().st_size == 0


def test_ranks_are_read_from_the_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Rank.from_environment() == ALONE
    assert (ALONE.label, failure_log(ALONE)) == ("", FAILURE_LOG)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    rank = Rank.from_environment()
    assert rank == Rank(5, 8, 1, 4)
    assert (rank.label, failure_log(rank)) == ("rank 5: ", "failures_rank5.log")
    monkeypatch.setenv("RANK", "8")
    with pytest.raises(UserError, match="rank 8 of 8"):
        Rank.from_environment()
    monkeypatch.setenv("RANK", "two")
    with pytest.raises(UserError, match="must be whole numbers: .*two"):
        Rank.from_environment()


def test_processes_are_dealt_out_over_the_gpus(monkeypatch):
    monkeypatch.setattr(device, "available_devices", lambda: ["cuda:0", "cuda:1", "cuda:2", "cpu"])
    assert spread_devices("auto", 4, None, ALONE) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert spread_devices("auto", 3, 2, ALONE) == ["cuda:0", "cuda:1", "cuda:0"]
    assert spread_devices("auto", 0, None, ALONE) == ["cuda:0"]
    assert spread_devices("auto", 0, None, Rank(5, 8, 1, 4)) == ["cuda:1"]
    assert spread_devices("auto", 2, None, Rank(5, 8, 1, 4)) == ["cuda:2", "cuda:0"]
    assert spread_devices("cuda:1", 2, None, ALONE) == ["cuda:1", "cuda:1"]
    assert spread_devices("auto", 2, None, ALONE, engine="onnx") == ["auto", "auto"]
    assert spread_devices("auto", 2, 2, ALONE, engine="onnx") == ["cuda:0", "cuda:1"]
    assert spread_devices("cpu", 2, None, ALONE) == ["cpu", "cpu"]
    for arguments, message in (
        (("auto", 2, 4), "this machine has 3 GPUs"),
        (("auto", 2, 0), "--num_gpus 0"),
        (("cpu", 2, 1), "contradict"),
        (("auto", -1, None), "--threads -1"),
    ):
        with pytest.raises(UserError, match=message):
            spread_devices(*arguments, ALONE)
    monkeypatch.setattr(device, "available_devices", lambda: ["cpu"])
    assert spread_devices("auto", 2, None, ALONE) == ["auto", "auto"]


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr(running, "available_cpus", lambda: 16)
    assert running._threads_each(4, ALONE) == 4
    assert running._threads_each(4, Rank(0, 2, 0, 2)) == 2
    assert running._threads_each(64, ALONE) == 1
    assert np.isfinite(running.available_cpus())
