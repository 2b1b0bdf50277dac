"""tracking/train.py and tracking/train_slurm.sh; what they start is replaced."""

import os
import re
import signal
import subprocess
import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path

import pytest

from lib.commands import training
from lib.train.checks import Finding, Report
from lib.train.options import Stage
from lib.utils.workspace import REPOSITORY
from tests.processes import wait_until

S50 = ["--script", "stark_s", "--config", "baseline"]
ST2 = ["--script", "stark_st2", "--config", "baseline"]
LIGHTNING = ["--script", "stark_lightning_X_trt", "--config", "baseline_rephead_4_lite_search5"]


@pytest.fixture
def calls(monkeypatch):
    """What the command would have started."""
    calls = {}

    def launch(command, torchrun):
        calls["launch"] = command, {name: value for name, value in torchrun.items() if value is not None}
        return 7

    monkeypatch.setattr(training, "run_training", lambda options: calls.update(train=options))
    monkeypatch.setattr(training, "launch", launch)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("STARK_SAVE_DIR", "/saved")
    return calls


@pytest.fixture
def command(calls, run_script):
    """Run the command; gives its exit status."""
    return partial(run_script, "train.py")


TEACHER = ["--script_teacher", "stark_s", "--config_teacher", "baseline", "--checkpoint_teacher", "t.pth.tar"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([*S50, "--save_dir", "here"], {"script": "stark_s", "config": "baseline", "save_dir": Path("here")}),
        ([*S50, "--seed", "5", "--opts", "TRAIN.EPOCH=2"], {"overrides": ("TRAIN.EPOCH=2", "TRAIN.SEED=5")}),
        ([*S50, "--use_lmdb", "0"], {"use_lmdb": False, "save_dir": Path("/saved")}),  # the workspace's
        ([*S50, "--use_lmdb", "1"], {"use_lmdb": True, "previous": None, "teacher": None}),
        (["--use_lmdb", *S50], {"use_lmdb": True}),
        ([*ST2, "--script_prv", "stark_st1"], {"previous": Stage("stark_st1", "baseline")}),
        ([*ST2, "--script_prv", "stark_st1", "--config_prv", "R101"], {"previous": Stage("stark_st1", "R101")}),
        ([*ST2, "--checkpoint_prv", "a.pth.tar"], {"previous": Stage("stark_st2", "baseline", Path("a.pth.tar"))}),
        ([*LIGHTNING, *TEACHER[:2], "--distill", "1"], {"teacher": Stage("stark_s", "baseline")}),
        ([*LIGHTNING, *TEACHER, "--distill"], {"teacher": Stage("stark_s", "baseline", Path("t.pth.tar"))}),
        ([*LIGHTNING, *TEACHER[:4], "--opts", "TRAIN.DISTILL=true"], {"teacher": Stage("stark_s", "baseline")}),
    ],
)
def test_a_single_process(words, expected, command, calls):
    assert command(*words) == 0
    assert list(calls) == ["train"]
    assert {name: getattr(calls["train"], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*LIGHTNING, "--distill", "1"], "--distill needs a teacher: add --script_teacher stark_s --config_teacher"),
        ([*LIGHTNING, "--script_teacher", "stark_s", "--config_teacher", "baseline"], "add --distill 1"),
        ([*LIGHTNING, "--checkpoint_teacher", "a"], "--checkpoint_teacher needs the network"),
        ([*ST2, "--config_prv", "baseline"], "add --script_prv"),
        ([*S50, "--mode", "single", "--nnodes", "2", "--node_rank", "1"], "--nnodes --node_rank: --mode single is one"),
        ([*S50, "--mode", "multiple", "--opts", "TRAIN.EPOCHS=1"], "did you mean 'TRAIN.EPOCH'"),
    ],
)
def test_contradictions_are_one_line_and_start_nothing(words, message, command, calls, capsys):
    assert command(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert calls == {}


def test_several_processes_are_launched_with_the_same_command(command, calls, monkeypatch):
    torchrun = {"nnodes": "4:8", "rdzv_endpoint": "a:1", "rdzv_backend": "c10d", "rdzv_id": "x", "max_restarts": "3"}
    words = [*S50, "--nproc_per_node", "2", "--device", "cpu"]
    words += [word for name, value in torchrun.items() for word in (f"--{name}", value)]
    assert command(*words) == 7
    (program, *rest), options = calls.pop("launch")
    assert (Path(program).name, rest, options) == ("train.py", words, torchrun | {"nproc_per_node": "2"})
    assert calls == {}
    monkeypatch.setattr(sys, "argv", ["/site/stark_tracker/__main__.py", "train", *words])
    assert training.train(ArgumentParser(), words) == 7
    assert calls["launch"][0] == ["-m", "lib", "train", *words]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")  # what is launched trains
    assert command(*words, "--mode", "multiple") == 0
    assert calls["train"].script == "stark_s"


def test_check_looks_and_trains_nothing(command, calls, monkeypatch, capsys):
    monkeypatch.setattr(training, "check_run", lambda *_: Report([Finding("data", "ok", "there")]))
    assert command(*S50, "--check", "--mode", "multiple", "--nproc_per_node", "2") == 0
    assert "there" in capsys.readouterr().out
    monkeypatch.setattr(training, "check_run", lambda *_: Report([Finding("problem", "data", "gone: bring it back")]))
    assert command(*S50, "--check") == 2
    assert "bring it back" in "".join(capsys.readouterr())
    assert calls == {}


SECONDS = 120  # which a busy machine may need
SCRIPT = REPOSITORY / "tracking" / "train_slurm.sh"
SLURM = {
    "scontrol": """echo "scontrol $*" >> "$TOLD"; [ "$1" != show ] || printf 'node-a\\nnode-b\\n'""",
    "scancel": """echo "scancel $*" >> "$TOLD"; touch "$TOLD.cancelled" """,
    # Runs until it is asked to end, by scancel, and says then that the training has saved.
    "srun": """
for word in "$@"; do echo "$word" >> "$TOLD.srun"; done
trap : TERM
while [ -n "$RUNS" ] && [ ! -e "$TOLD.cancelled" ]; do sleep 0.05; done
[ -n "$RUNS" ] && sleep 0.3
exit "$STATUS"
""",
}


@pytest.fixture
def start(tmp_path):
    """Start the script as Slurm would, from another folder than that of the job."""
    commands, submitted = tmp_path / "bin", tmp_path / "stark"
    for path in (commands, submitted / "tracking"):
        path.mkdir(parents=True)
    for name, text in SLURM.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}")
        (commands / name).chmod(0o755)
    (submitted / "tracking" / "train.py").touch()

    def run(*words, **variables):
        environment = {"PATH": f"{commands}:{os.environ['PATH']}", "TOLD": str(tmp_path / "told"), "STATUS": "0"}
        environment |= {"RUNS": "", "SLURM_JOB_ID": "4711", "SLURM_SUBMIT_DIR": str(submitted)}
        environment |= {"SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "32"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", str(SCRIPT), *words], cwd="/", env=environment | variables, **pipes)

    return run


def test_slurm_reads_its_options():
    """They count up to the first line that is a command, and a comment behind one would be part of it."""
    head = re.match(r"(?:#.*\n|\n)*", SCRIPT.read_text())[0]
    options = re.findall("(?m)^#SBATCH (.*)", head)
    assert SCRIPT.read_text().count("#SBATCH") == len(options)
    assert all(re.fullmatch(r"--\S+", option) for option in options)
    assert {"--nodes=8", "--gpus-per-node=8", "--ntasks-per-node=1", "--signal=B:USR1@180", "--requeue"} <= {*options}


def test_what_runs_on_every_machine(start, tmp_path):
    words = ["--script", "stark_s", "--config", "baseline", "--opts", "DATA.TRAIN.DATASETS_NAME=['FOLDER:/a b']"]
    job = start(*words, SLURM_RESTART_COUNT="2", PYTHON="/env/bin/python")
    _, errors = job.communicate(timeout=SECONDS)
    assert (job.returncode, errors) == (0, "")
    found = (tmp_path / "told.srun").read_text().splitlines()
    at = found.index("/env/bin/python")
    options = "--nodes 2 --ntasks-per-node 1 --cpus-per-task 32 --kill-on-bad-exit=0 --wait=300"
    assert found[:at] == options.split()
    assert found[at + 1 : at + 3 + len(words)] == ["-u", "tracking/train.py", *words]
    torchrun = "--nnodes 2 --nproc_per_node 4 --rdzv_endpoint node-a:14711 --rdzv_id 4711-2 --max_restarts 3"
    assert found[at + 3 + len(words) :] == ["--mode", "multiple", *torchrun.split()]
    assert (tmp_path / "told").read_text() == "scontrol show hostnames node-[a-b]\n"


@pytest.mark.parametrize(
    ("name", "status", "asked"),
    [
        ("USR1", "143", ["scancel --signal=TERM 4711", "scontrol requeue 4711"]),  # out of time, and not done
        ("USR1", "0", ["scancel --signal=TERM 4711"]),
        ("USR1", "1", ["scancel --signal=TERM 4711"]),
        ("TERM", "5", []),  # cancelled: Slurm tells the launchers itself, and the script waits for them
    ],
)
def test_what_a_signal_does(name, status, asked, start, tmp_path):
    job = start(RUNS="1", STATUS=status)
    assert wait_until((tmp_path / "told.srun").exists)
    job.send_signal(getattr(signal, f"SIG{name}"))
    if not asked:
        (tmp_path / "told.cancelled").touch()
    job.communicate(timeout=SECONDS)
    assert job.returncode == int(status)
    assert (tmp_path / "told").read_text().splitlines()[1:] == asked


def test_started_in_the_wrong_way(start):
    for variable, value, message in (("JOB_ID", "", "a job for Slurm: sbatch"), ("SUBMIT_DIR", "/", "no tracking/")):
        job = start(**{f"SLURM_{variable}": value})
        _, errors = job.communicate(timeout=SECONDS)
        assert job.returncode == 2
        assert message in errors
