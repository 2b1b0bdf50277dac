"""Several processes: how they are started, stopped, and what is said when one fails."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import SignalException

from lib.train.launch import LAUNCHER, Processes, _Stop, check_gpus, end_with_launcher, launch
from lib.utils.errors import REPORTS, LostProcessError, UserError, run_command
from lib.utils.workspace import REPOSITORY

# What every fake training process begins with: `out` takes what it has to tell, `mark` says that it got so far,
# `after` waits for another rank's end, so that who fails first does not hang on the machine's load.
HEAD = f"""
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
out, rank = Path(__file__).parent, int(os.environ["RANK"])
def mark(name): (out / f"{{name}}.{{rank}}").touch()
def process(of): return out / f"{{of}}.pid"
process(f"new{{rank}}").write_text(str(os.getpid()))
process(f"new{{rank}}").rename(process(rank))
def ended(other):
    while not process(other).exists(): time.sleep(0.01)
    stat = Path("/proc", process(other).read_text(), "stat")
    try: return stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError): return True
def after(other):
    while not ended(other): time.sleep(0.01)
"""
FAILING = """
from lib.utils.errors import LostProcessError, UserError, run_command
def main():
    raise {error}
"""


@pytest.fixture
def script(tmp_path):
    """Makes a fake training of a text."""

    def make(text):
        path = tmp_path / "training.py"
        path.write_text(HEAD + text)
        return path

    return make


def wait_for(*paths):
    deadline = time.monotonic() + 300
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"never came: {paths}"
        time.sleep(0.05)


def start_launcher(script, processes, **how):
    """A launcher in a process of its own."""
    text = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from lib.train.launch import Processes, launch\n"
        f"sys.exit(launch([{str(script)!r}], {processes!r}))\n"
    )
    return subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.PIPE, text=True, **how)


@pytest.mark.parametrize(
    ("processes", "words"),
    [
        (Processes(8), "--nproc-per-node=8 --nnodes=1 --max-restarts=0 --standalone"),
        (Processes(2, max_restarts=3), "--nproc-per-node=2 --nnodes=1 --max-restarts=3 --standalone"),
        (
            Processes(8, nnodes="4:8", rdzv_endpoint="a:1", rdzv_id="x"),
            "--nproc-per-node=8 --nnodes=4:8 --max-restarts=0 --rdzv-backend=c10d --rdzv-endpoint=a:1 --rdzv-id=x",
        ),
        (
            Processes(8, nnodes="2", rdzv_endpoint="a:1", rdzv_backend="etcd-v2"),
            "--nproc-per-node=8 --nnodes=2 --max-restarts=0 --rdzv-backend=etcd-v2 --rdzv-endpoint=a:1",
        ),
        (
            Processes(8, nnodes="2", master_addr="a", master_port=1, node_rank=1),
            "--nproc-per-node=8 --nnodes=2 --max-restarts=0 --rdzv-backend=static --master-addr=a --master-port=1 "
            "--node-rank=1",
        ),
        (
            Processes(1, master_port=29501),
            "--nproc-per-node=1 --nnodes=1 --max-restarts=0 --rdzv-backend=static --master-port=29501",
        ),
    ],
)
def test_torchrun_gets_what_was_asked_for(processes, words):
    assert processes.words() == words.split()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nproc_per_node": 0}, "--nproc_per_node 0: expected 1 or more"),
        ({"max_restarts": -1}, "--max_restarts -1: expected 0"),
        ({"nnodes": "8:4"}, "--nnodes 8:4: expected a number of machines"),
        ({"nnodes": "0"}, "--nnodes 0: expected"),
        ({"nnodes": "two"}, "--nnodes two: expected"),
        ({"nnodes": "2"}, "--nnodes 2 does not say where the machines meet: add --rdzv_endpoint"),
        ({"nnodes": "2", "master_addr": "a"}, "add .* --node_rank"),
        ({"nnodes": "2:4", "master_addr": "a", "node_rank": 0}, "a varying number needs --rdzv_endpoint"),
        ({"nnodes": "2", "master_addr": "a", "node_rank": 2}, "--node_rank 2: machines are counted from 0"),
        ({"nnodes": "2", "rdzv_backend": "c10d"}, "--rdzv_backend c10d needs --rdzv_endpoint"),
        ({"nnodes": "2", "rdzv_endpoint": "a:1", "master_addr": "a"}, "two ways to meet"),
    ],
)
def test_options_that_do_not_serve(given, message):
    with pytest.raises(UserError, match=message):
        Processes(**given).words()


def test_the_number_of_processes_is_known_unless_it_varies():
    assert Processes(8, nnodes="2").total == 16
    assert Processes(8, nnodes="2:4").total is None


def test_every_process_runs_with_its_own_number(script, monkeypatch, capfd):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = "RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR OMP_NUM_THREADS TORCHELASTIC_RUN_ID"
    path = script(
        f"told = {{name: os.environ[name] for name in {names.split()}}} | {{'words': sys.argv[1:]}}\n"
        "(out / f'{rank}.json').write_text(json.dumps(told))\n"
    )
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert launch([str(path), "--mode", "multiple", "--opts", "A=[1, 2]"], Processes(2)) == 0
    told = [json.loads((path.parent / f"{rank}.json").read_text()) for rank in range(2)]
    assert [each["RANK"] for each in told] == [each["LOCAL_RANK"] for each in told] == ["0", "1"]
    assert all(each["WORLD_SIZE"] == "2" for each in told)
    assert all(each["words"] == ["--mode", "multiple", "--opts", "A=[1, 2]"] for each in told)
    assert int(told[0]["OMP_NUM_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 2)
    assert capfd.readouterr() == ("", "")
    # Nothing of it stays in this process.
    assert not {REPORTS, LAUNCHER, "OMP_NUM_THREADS"} & set(os.environ)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert logging.root.manager.disable == 0


def test_the_user_s_number_of_threads_stays(script, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    path = script("mark(os.environ['OMP_NUM_THREADS'])\n")
    assert launch([str(path)], Processes(1)) == 0
    assert (path.parent / "5.0").exists()


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        pytest.param(
            FAILING.format(error="UserError('no such set')") + "if rank: after(0)\nrun_command(main)\n",
            2,
            ["error: no such set", "training ended: rank 0 (of 2) failed with exit status 2"],
            id="a user's error that all have",
        ),
        pytest.param(
            FAILING.format(error="UserError('no such set') if rank else LostProcessError('lost rank 1')")
            + "if not rank: after(1)\nrun_command(main)\n",
            2,
            ["error: no such set", "training ended: rank 1 (of 2) failed with exit status 2"],
            id="one that rank 1 has, which the other loses by it",
        ),
        pytest.param(
            FAILING.format(error="LostProcessError('lost rank 1')")
            + "if rank: os.kill(os.getpid(), signal.SIGKILL)\nafter(1)\nrun_command(main)\n",
            137,
            ["training ended: rank 1 (of 2) was killed by SIGKILL, which the system does when memory runs out"],
            id="a process that is killed, which the other loses by it",
        ),
        pytest.param(
            "if rank == 0: time.sleep(60)\nsys.exit(7)\n",
            7,
            ["training ended: rank 1 (of 2) failed with exit status 7"],
            id="a status of its own, while the other goes on",
        ),
        pytest.param(
            "sys.exit(143)\n", 143, ["training ended: rank 0 (of 2) was stopped by SIGTERM"], id="stopped by itself"
        ),
    ],
)
def test_a_failure_is_said_once_and_its_status_returned(text, status, said, script, capfd):
    assert launch([str(script(text))], Processes(2)) == status
    assert capfd.readouterr().err.splitlines() == said


def test_processes_are_started_again(script, capfd):
    path = script(
        FAILING.format(error="UserError('once') if rank else LostProcessError('lost rank 1')")
        + "mark('attempt' + os.environ['TORCHELASTIC_RESTART_COUNT'])\n"
        "if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':\n"
        "    if not rank: after(1)\n"
        "    run_command(main)\n"
    )
    assert launch([str(path)], Processes(2, max_restarts=2)) == 0
    assert (path.parent / "attempt1.1").exists()
    assert not (path.parent / "attempt2.1").exists()
    assert capfd.readouterr().err == "error: once\n"  # the launcher would not say it


SAVING = """
def save(number, frame):
    time.sleep(0.5)
    mark(f"saved after {number}")
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
mark("ready")
time.sleep(60)
"""


def test_a_signal_reaches_all_which_have_time_to_save(script):
    path = script(SAVING)
    folder = path.parent
    with start_launcher(path, Processes(2)) as launcher:
        wait_for(folder / "ready.0", folder / "ready.1")
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):  # schedulers repeat themselves
            launcher.send_signal(number)
            time.sleep(0.05)
        _, errors = launcher.communicate(timeout=300)
    assert launcher.returncode == 143
    assert errors == "SIGTERM: 2 processes are asked to save and end, within 60 s\n"
    assert sorted(folder.glob("saved*")) == [folder / "saved after 15.0", folder / "saved after 15.1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_every_signal_is_passed_on_as_sigterm_once(number, capfd):
    stop = _Stop(4)
    with stop.watching():
        with pytest.raises(SignalException) as caught:
            signal.raise_signal(number)
        signal.raise_signal(number)
    assert caught.value.sigval == signal.SIGTERM
    assert stop.status(caught.value.sigval) == 128 + number
    stop.time -= 61
    assert stop.status(caught.value.sigval) == 128 + number
    first, late = capfd.readouterr().err.splitlines()
    assert first.startswith(f"{number.name}: 4 processes are asked")
    assert late.startswith("some processes did not end within 60 s and were killed")


def test_nohup_and_a_killed_launcher(script):
    path = script(
        "from lib.train.launch import end_with_launcher\nend_with_launcher()\n"
        + SAVING.replace("sys.exit", "mark('pid' + str(os.getpid())); sys.exit")
    )
    folder = path.parent
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}  # what nohup does
    with start_launcher(path, Processes(2), **ignore) as launcher:
        wait_for(folder / "ready.0", folder / "ready.1")
        launcher.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert launcher.poll() is None
        assert not list(folder.glob("saved*"))
        launcher.kill()
        launcher.communicate(timeout=300)
    wait_for(folder / "saved after 15.0", folder / "saved after 15.1")


def test_a_process_whose_launcher_is_gone_does_not_start(monkeypatch):
    monkeypatch.setenv(LAUNCHER, str(os.getpid()))  # not this process's parent
    script = "from lib.train.launch import end_with_launcher; end_with_launcher(); print('trains')"
    code = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {script!r}]).returncode)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (143, "")
    monkeypatch.delenv(LAUNCHER)
    end_with_launcher()  # plain torchrun, or no launcher: nothing to follow


def test_two_machines_meet(script):
    """Two launchers on this one stand for two machines."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    path = script("mark(os.environ['WORLD_SIZE'] + '.' + os.environ['GROUP_RANK'])\n")
    two = Processes(2, nnodes="2", rdzv_endpoint=f"localhost:{port}", rdzv_id="test")
    with start_launcher(path, two) as other:
        assert launch([str(path)], two) == 0
        _, errors = other.communicate(timeout=300)
    assert (other.returncode, errors) == (0, "")
    assert {found.suffix for found in path.parent.glob("4.*")} == {".0", ".1", ".2", ".3"}
    assert len(list(path.parent.glob("4.0.*"))) == 2


def test_machines_that_do_not_meet(script):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        processes = Processes(1, master_port=port)
        with pytest.raises(UserError, match=rf"did not meet at this machine:{port}, .*its port free"):
            launch([str(script(""))], processes)


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UserError, match="--nproc_per_node 8: this machine has 2 GPUs, one a process"):
        check_gpus("auto", 8)
    check_gpus("auto", 2)
    check_gpus("cpu", 8)


@pytest.mark.parametrize(
    ("error", "variables", "printed"),
    [
        (UserError("wrong"), {}, True),
        (LostProcessError("lost"), {}, True),
        (UserError("wrong"), {"COUNT": "0", "MAX": "0"}, False),
        (LostProcessError("lost"), {"COUNT": "2", "MAX": "2"}, False),
        (UserError("wrong"), {"COUNT": "0", "MAX": "2"}, True),
        (LostProcessError("lost"), {"COUNT": "0", "MAX": "2"}, False),
    ],
)
def test_who_says_an_error(error, variables, printed, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(REPORTS, raising=False)
    if variables:
        monkeypatch.setenv(REPORTS, str(tmp_path))
        monkeypatch.setenv("RANK", "3")
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", variables["COUNT"])
        monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", variables["MAX"])

    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (f"error: {error}\n" if printed else "")
    last = bool(variables) and variables["COUNT"] == variables["MAX"]
    assert (tmp_path / "3.json").exists() == last


def test_an_error_is_said_where_it_cannot_be_left_to_the_launcher(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(REPORTS, str(tmp_path / "file" / "reports"))
    Path(tmp_path / "file").touch()  # stands for a full disk
    for name, value in (("RANK", "1"), ("TORCHELASTIC_RESTART_COUNT", "0"), ("TORCHELASTIC_MAX_RESTARTS", "0")):
        monkeypatch.setenv(name, value)

    def main():
        raise UserError("wrong")

    with pytest.raises(SystemExit):
        run_command(main)
    assert capsys.readouterr().err == "error: wrong\n"
