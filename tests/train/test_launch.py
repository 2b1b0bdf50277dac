"""Several processes: how they start, how they stop, and the message when one fails."""

import json
import os
import signal
import subprocess
import sys

import pytest

from lib.train.distributed import launch, torchrun_options
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.processes import is_running, wait_until

# The first lines of every fake training: `out` takes its results, `mark` shows how far it got.
HEAD = f"""
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
from torch.distributed.elastic.multiprocessing.errors import record
from lib.train.distributed import end_with_parent
from lib.utils.errors import UserError, run_command
end_with_parent()
out, rank = Path(__file__).parent, int(os.environ["RANK"])
def mark(name): (out / f"{{name}}.{{rank}}").write_text(str(os.getpid()))
def fail(text):
    def main(): raise UserError(text)
    run_command(record(main))
"""
SAVING = """
def save(*_):
    mark("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
mark("ready")
time.sleep(300)
"""


@pytest.fixture
def script(tmp_path):
    """Makes a fake training of a text."""

    def make(text):
        path = tmp_path / "training.py"
        path.write_text(HEAD + text)
        return path

    return make


def both(folder, name):
    """Whether both processes set a mark."""
    return all((folder / f"{name}.{rank}").exists() for rank in range(2))


def start_launcher(script, processes=2):
    """A launcher in a process of its own."""
    text = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from lib.train.distributed import launch\n"
        f"sys.exit(launch([{str(script)!r}], {{'nproc_per_node': {processes}}}))\n"
    )
    return subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nproc_per_node": "8", "nnodes": None}, "--nproc_per_node=8 --standalone"),
        ({"nnodes": "4:8", "rdzv_endpoint": "a:1"}, "--nnodes=4:8 --rdzv_endpoint=a:1 --rdzv_backend=c10d"),
        ({"rdzv_endpoint": "a:1", "rdzv_backend": "etcd-v2"}, "--rdzv_endpoint=a:1 --rdzv_backend=etcd-v2"),
        ({"nnodes": "2", "master_addr": "a", "node_rank": "1"}, "--nnodes=2 --master_addr=a --node_rank=1"),
    ],
)
def test_torchrun_gets_its_options(given, words):
    assert torchrun_options(given) == words.split()


def test_machines_that_do_not_know_where_to_meet_are_refused():
    with pytest.raises(UserError, match="--nnodes 2 does not say where the machines meet: add --rdzv_endpoint"):
        torchrun_options({"nnodes": "2"})


def test_every_process_has_its_own_number(script, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "OMP_NUM_THREADS"]
    path = script(
        f"told = {{name: os.environ[name] for name in {names}}} | {{'words': sys.argv[1:]}}\n"
        "(out / f'{rank}.json').write_text(json.dumps(told))\n"
    )
    words, threads = ["--mode", "multiple", "--opts", "A=[1, 2]"], max(1, len(os.sched_getaffinity(0)) // 2)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert launch([str(path), *words], {"nproc_per_node": 2}) == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    for rank in "01":
        told = json.loads((path.parent / f"{rank}.json").read_text())
        assert list(told.values()) == [rank, "2", rank, str(threads), words]


# The gradient is the mean of all processes, and not finite in each; the prediction is so in one.
FAULT = """
import torch
from lib.train import distributed
from lib.train.losses import FiniteChecks
def main():
    with distributed.joined("cpu"):
        checks = FiniteChecks()
        for _ in range(2):
            checks.note(torch.ones(2, 4), "the prediction", [["good"], ["good"]])
            checks.require()
        boxes = torch.tensor([[1.0], [float("nan") if rank else 2.0]])
        checks.note(boxes, "the prediction", [["a"], [f"frame {rank}"]])
        checks.note(torch.full((2, 1), float("nan")), "the gradient", [["innocent"], ["innocent"]])
        checks.require()
run_command(record(main))
"""


@pytest.mark.parametrize(
    ("text", "status", "last"),
    [
        (FAULT, 2, "error: the prediction is not finite; samples: frame 1"),
        ("fail('no such set') if rank else time.sleep(60)\n", 2, "error: no such set"),
        ("os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(60)\n", 1, "error: a training process was"),
    ],
)
def test_a_failure_ends_with_one_line_and_a_status(text, status, last, script, capfd):
    assert launch([str(script(text))], {"nproc_per_node": 2}) == status
    assert capfd.readouterr().err.splitlines()[-1].startswith(last)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_every_process_save(number, script, tmp_path):
    launcher = start_launcher(script(SAVING))
    assert wait_until(lambda: both(tmp_path, "ready"))
    launcher.send_signal(number)
    launcher.communicate(timeout=300)
    assert launcher.returncode == 128 + number
    assert both(tmp_path, "saved")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent ended")
def test_a_launcher_that_is_killed_leaves_no_process_behind(script, tmp_path):
    launcher = start_launcher(script(SAVING))
    assert wait_until(lambda: both(tmp_path, "ready"))
    launcher.kill()
    launcher.communicate()
    assert wait_until(lambda: both(tmp_path, "saved"))
    assert wait_until(lambda: not any(is_running((tmp_path / f"ready.{rank}").read_text()) for rank in range(2)))
