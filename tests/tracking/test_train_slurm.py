"""tracking/train_slurm.sh, with commands that stand for Slurm's."""

import os
import signal
import subprocess

import pytest

from lib.utils.workspace import REPOSITORY
from tests.processes import wait_until

SECONDS = 120  # which a busy machine may need
SCRIPT = REPOSITORY / "tracking" / "train_slurm.sh"
COMMANDS = {
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
    for name, text in COMMANDS.items():
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
