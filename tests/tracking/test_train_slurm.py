"""tracking/train_slurm.sh, with commands that stand for Slurm's."""

import os
import signal
import subprocess

import pytest

from lib.utils.workspace import REPOSITORY
from tests.processes import wait_until

SECONDS = 120  # which a busy machine may need
SCRIPT = REPOSITORY / "tracking" / "train_slurm.sh"
SCONTROL = """#!/bin/sh
echo "scontrol $*" >> "$TOLD"
if [ "$1" = show ]; then echo node-a; echo node-b; fi
"""
# Runs until it is asked to end, by scancel, and says then that the training has saved.
SRUN = """#!/bin/sh
for word in "$@"; do echo "$word" >> "$TOLD.srun"; done
trap : TERM
while [ -n "$RUNS" ] && [ ! -e "$TOLD.cancelled" ]; do sleep 0.05; done
[ -n "$RUNS" ] && sleep 0.3
exit "$STATUS"
"""
SCANCEL = """#!/bin/sh
echo "scancel $*" >> "$TOLD"
touch "$TOLD.cancelled"
"""


@pytest.fixture
def start(tmp_path):
    """Start the script as Slurm would: a copy of it, somewhere else."""
    commands, submitted = tmp_path / "bin", tmp_path / "stark"
    for path in (commands, submitted / "tracking", tmp_path / "spool"):
        path.mkdir(parents=True)
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN), ("scancel", SCANCEL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    (submitted / "tracking" / "train.py").touch()
    copy = tmp_path / "spool" / "slurm_script"
    copy.write_text(SCRIPT.read_text())

    def run(*words, **variables):
        environment = {"PATH": f"{commands}:{os.environ['PATH']}", "TOLD": str(tmp_path / "told"), "STATUS": "0"}
        environment |= {"RUNS": "", "SLURM_JOB_ID": "4711", "SLURM_SUBMIT_DIR": str(submitted)}
        environment |= {"SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "32"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", str(copy), *words], env=environment | variables, **pipes)

    return run


def told(tmp_path):
    return (tmp_path / "told").read_text().splitlines()


def test_slurm_reads_its_options():
    """They count up to the first line that is a command, and a comment behind one would be part of it."""
    lines = SCRIPT.read_text().splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [line.removeprefix("#SBATCH ") for line in lines[:first_command] if line.startswith("#SBATCH ")]
    assert sum("#SBATCH" in line for line in lines) == len(options)
    assert all(" " not in option and option.startswith("--") for option in options)
    expected = {"--nodes=8", "--gpus-per-node=8", "--ntasks-per-node=1", "--signal=B:USR1@180", "--requeue"}
    assert expected <= set(options)


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
    assert told(tmp_path) == ["scontrol show hostnames node-[a-b]"]


def test_the_interpreter_of_the_repository_is_preferred_and_a_failure_ends_the_job(start, tmp_path):
    python = tmp_path / "stark" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    job = start(STATUS="2")
    job.communicate(timeout=SECONDS)
    assert ".venv/bin/python" in (tmp_path / "told.srun").read_text().splitlines()
    assert job.returncode == 2
    assert len(told(tmp_path)) == 1


@pytest.mark.parametrize(("status", "queued"), [("143", True), ("0", False), ("1", False)])
def test_out_of_time_it_saves_and_queues_again_what_is_not_done(status, queued, start, tmp_path):
    job = start(RUNS="1", STATUS=status)
    assert wait_until((tmp_path / "told.srun").exists)
    job.send_signal(signal.SIGUSR1)
    job.communicate(timeout=SECONDS)
    assert job.returncode == int(status)
    asked = ["scancel --signal=TERM 4711", *(["scontrol requeue 4711"] if queued else [])]
    assert told(tmp_path)[1:] == asked


def test_cancelled_it_waits_for_the_launchers_and_does_not_queue_again(start, tmp_path):
    job = start(RUNS="1", STATUS="5")
    assert wait_until((tmp_path / "told.srun").exists)
    job.send_signal(signal.SIGTERM)
    (tmp_path / "told.cancelled").touch()  # Slurm tells the launchers itself
    job.communicate(timeout=SECONDS)
    assert job.returncode == 5  # not 143, by which the signal alone would end it
    assert len(told(tmp_path)) == 1


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [("JOB_ID", "", "this is a job for Slurm: sbatch"), ("SUBMIT_DIR", "/", "no tracking/train.py in /")],
)
def test_started_in_the_wrong_way(variable, value, message, start):
    job = start(**{f"SLURM_{variable}": value})
    _, errors = job.communicate(timeout=SECONDS)
    assert job.returncode == 2
    assert message in errors
