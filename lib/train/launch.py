"""Several processes train together: torchrun starts them, and this process waits for torchrun.

torchrun runs in a session of its own, and detaches every training process from the terminal: a signal that is sent to
this process, or typed there, reaches them only from here.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.train.distributed import handle_signals
from lib.utils.device import available_cpus
from lib.utils.errors import UserError

# A training process saves its state when it is asked to end; torchrun kills it after this time.
SECONDS_TO_SAVE = 60
# `python -m torch.distributed.run` without the traceback of its own code, which hides its report.
TORCHRUN = """
import sys
from torch.distributed.run import main
sys.excepthook = lambda _, error, __: print(error, file=sys.stderr)
main()
"""
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def is_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def torchrun_options(given: Mapping[str, str | int | None]) -> list[str]:
    """Options for torchrun's command line from its own names and values; None where not given.

    Raises:
        UserError: several machines, and no place where they meet.
    """
    given = {name: value for name, value in given.items() if value is not None}
    options = [f"--{name}={value}" for name, value in given.items()]
    if "rdzv_endpoint" in given:
        return options if "rdzv_backend" in given else [*options, "--rdzv_backend=c10d"]
    if given.keys() & {"master_addr", "master_port", "node_rank"}:
        return options
    if str(given.get("nnodes", 1)) != "1":
        raise UserError(
            f"--nnodes {given['nnodes']} does not say where the machines meet: add --rdzv_endpoint HOST:PORT (the same "
            "on all, HOST is one of them), or --master_addr HOST --node_rank K (K is 0 on HOST)"
        )
    return [*options, "--standalone"]


def launch(command: Sequence[str], options: Mapping[str, str | int | None]) -> int:
    """Run a Python program in several processes and wait for them.

    The first SIGTERM, SIGINT, SIGHUP or SIGQUIT is passed on as SIGTERM; the processes have `SECONDS_TO_SAVE` to end.

    Args:
        command: the program's file and its arguments.
        options: see `torchrun_options`.

    Returns:
        0; 128 plus the signal's number if this process was asked to end; 2 if the first process that failed recorded
        an error; else torchrun's status.
    """
    words = torchrun_options(options)
    asked: list[int] = []
    torchrun: subprocess.Popen | None = None

    def stop(number: int, _: object) -> None:
        asked.append(number)
        if torchrun is not None and len(asked) == 1:
            torchrun.terminate()

    with tempfile.TemporaryDirectory(prefix="stark_") as folder, handle_signals(STOPPING, stop):
        report = Path(folder) / "error.json"
        torchrun = subprocess.Popen(
            [sys.executable, "-c", TORCHRUN, *words, f"--log_dir={folder}", *command],
            env=_environment(report, int(options.get("nproc_per_node") or 1)),
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        if asked:
            torchrun.terminate()
        status = torchrun.wait()
        if asked:
            return 128 + asked[0]
        if status and report.is_file():
            print(f"error: {_message(report)}", file=sys.stderr)
            return 2
    if status:
        print(
            "error: a training process was killed (the system does so when memory runs out) or failed: torchrun's "
            "report above names it; the same command goes on from the last checkpoint",
            file=sys.stderr,
        )
    return 128 - status if status < 0 else status


def end_with_parent() -> None:
    """Have Linux send this process SIGTERM when its parent ends, also by SIGKILL, so that no process is left behind."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _environment(report: Path, processes: int) -> dict[str, str]:
    """The environment variables of torchrun and of the processes that it starts."""
    return {
        "OMP_NUM_THREADS": str(max(1, available_cpus() // processes)),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SECONDS_TO_SAVE),
        **os.environ,
        # torchrun copies the error here that the first failed process recorded.
        "TORCHELASTIC_ERROR_FILE": str(report),
    }


def _message(report: Path) -> str:
    """The message of a recorded error, without the name of its class."""
    message = json.loads(report.read_text())["message"]
    text = message if isinstance(message, str) else message["message"]
    return re.sub(r"^\w+: ", "", text)
