"""Starting the processes of a training, on one machine or several, with torchrun.

torchrun runs inside this process, so that its signals and exit statuses are known exactly. It detaches every training
process from the terminal: a signal that is sent to this process, or typed there, reaches them only from here.
"""

import ctypes
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
import torch.distributed.run as torchrun
from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError

from lib.train.stop import heeding
from lib.utils.device import select_device
from lib.utils.errors import REPORTS, UserError

# A training process saves its state when it is asked to end; after so many seconds it is killed.
SECONDS_TO_SAVE = 60
STOPPING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]


@dataclass(frozen=True)
class Processes:
    """Which processes train together. Names and meanings are torchrun's.

    Attributes:
        nproc_per_node: processes on this machine: one a GPU; without GPUs they share the CPU.
        nnodes: machines: a number, or "MIN:MAX" where some may leave and join.
        rdzv_endpoint: `HOST:PORT` where all machines meet; HOST is one of them.
        rdzv_backend: how; `c10d` by default.
        rdzv_id: tells runs apart that meet at one place.
        master_addr, master_port: machine number 0, where machines do not meet but are numbered.
        node_rank: this machine's number then.
        max_restarts: how often processes are started again after one failed; they go on from the last checkpoint.
    """

    nproc_per_node: int = 1
    nnodes: str = "1"
    rdzv_endpoint: str | None = None
    rdzv_backend: str | None = None
    rdzv_id: str | None = None
    master_addr: str | None = None
    master_port: int | None = None
    node_rank: int | None = None
    max_restarts: int = 0

    def words(self) -> list[str]:
        """Options of torchrun.

        Raises:
            UserError: they contradict each other, or do not say where machines meet.
        """
        least, most = self._node_range()
        for name, value, minimum in (
            ("nproc_per_node", self.nproc_per_node, 1),
            ("max_restarts", self.max_restarts, 0),
            ("master_port", self.master_port, 1),
            ("node_rank", self.node_rank, 0),
        ):
            if value is not None and value < minimum:
                raise UserError(f"--{name} {value}: expected {minimum} or more")
        words = [f"--nproc-per-node={self.nproc_per_node}", f"--nnodes={self.nnodes}"]
        words.append(f"--max-restarts={self.max_restarts}")
        numbered = self.master_addr is not None or self.master_port is not None
        if self.rdzv_endpoint:
            if numbered:
                raise UserError("--rdzv_endpoint and --master_addr/--master_port are two ways to meet: choose one")
            backend = self.rdzv_backend or "c10d"
        elif most == 1 and not numbered:
            return [*words, "--standalone"]
        else:
            backend = self._numbered_backend(least, most)
        given = {
            "rdzv-backend": backend,
            "rdzv-endpoint": self.rdzv_endpoint,
            "rdzv-id": self.rdzv_id,
            "master-addr": self.master_addr,
            "master-port": self.master_port,
            "node-rank": self.node_rank,
        }
        return words + [f"--{name}={value}" for name, value in given.items() if value is not None]

    @property
    def total(self) -> int | None:
        """Processes on all machines; None where their number varies."""
        least, most = self._node_range()
        return self.nproc_per_node * most if least == most else None

    @property
    def place(self) -> str:
        """Where machines meet, in words."""
        if self.rdzv_endpoint:
            return self.rdzv_endpoint
        return f"{self.master_addr or 'this machine'}" + (f":{self.master_port}" if self.master_port else "")

    def _node_range(self) -> tuple[int, int]:
        match = re.fullmatch(r"(\d+)(?::(\d+))?", self.nnodes)
        least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 0 < least <= most:
            raise UserError(f"--nnodes {self.nnodes}: expected a number of machines such as 8, or a range such as 4:8")
        return least, most

    def _numbered_backend(self, least: int, most: int) -> str:
        """Machines that are numbered by hand: torchrun calls it static."""
        if self.rdzv_backend not in (None, "static"):
            raise UserError(
                f"--rdzv_backend {self.rdzv_backend} needs --rdzv_endpoint HOST:PORT, alike on all machines"
            )
        if least != most:
            raise UserError(f"--nnodes {self.nnodes}: a varying number needs --rdzv_endpoint HOST:PORT, alike on all")
        if most > 1 and (self.master_addr is None or self.node_rank is None):
            raise UserError(
                f"--nnodes {self.nnodes} does not say where the machines meet: add --rdzv_endpoint HOST:PORT (alike on "
                "all, HOST being one of them), or --master_addr HOST --node_rank K (K being 0 on HOST)"
            )
        if self.node_rank is not None and self.node_rank >= most:
            raise UserError(f"--node_rank {self.node_rank}: machines are counted from 0, and there are {most}")
        return "static"


def check_gpus(device: str, processes: int) -> None:
    """Whether every process gets a GPU, where they compute on GPUs.

    Raises:
        UserError: there are fewer, or the device is unknown.
    """
    gpus = torch.cuda.device_count()
    if select_device(device).type == "cuda" and processes > gpus:
        raise UserError(f"--nproc_per_node {processes}: this machine has {gpus} GPU{'s'[: gpus > 1]}, one a process")


def launch(command: list[str], processes: Processes) -> int:
    """Run a Python program in several processes and wait for them.

    SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on as SIGTERM; the processes have `SECONDS_TO_SAVE` to end.

    Args:
        command: the program's file and its arguments.
        processes: how many, and where.

    Returns:
        0; 128 plus the signal's number where this process was asked to end; else the exit status of the process that
        failed first, 2 where it was a user's error.

    Raises:
        UserError: the machines do not find each other, or lose each other; or `Processes.words` says no.
    """
    words = processes.words()
    stop = _Stop(processes.nproc_per_node)
    with tempfile.TemporaryDirectory(prefix="stark_") as folder, _environment(_variables(folder, processes)), _quiet():
        args = torchrun.parse_args([*words, f"--log-dir={folder}", *command])
        try:
            with stop.watching():
                torchrun.run(args)
        except SignalException as error:
            failed = _first_report(Path(folder))
            if failed is not None:  # asked to end, and could not save
                _say(f"error: {failed['message']}")
                return 2
            return stop.status(error.sigval)
        except ChildFailedError as error:
            return _explain(error.failures, Path(folder), processes)
        except (RendezvousError, DistError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"the machines did not meet at {processes.place}, or lost each other ({reason}): the one there must be "
                "running, with its port free and open to the others, and all need the same options"
            ) from error
    return 0


class _Stop:
    """Turns the first signal into the exception by which torchrun ends its processes.

    torchrun's own handlers would pass a SIGHUP on, for which no process saves; take a second signal, which schedulers
    and impatient fingers send, for a reason to leave without waiting; and undo `nohup`.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.signal: signal.Signals | None = None
        self.time = 0.0

    def watching(self) -> AbstractContextManager[None]:
        """Handle the signals in the body."""
        return heeding(STOPPING, self._note)

    def status(self, caught: signal.Signals) -> int:
        """The exit status after a signal; says so where processes had to be killed."""
        if self.signal is not None and time.monotonic() - self.time >= SECONDS_TO_SAVE:
            _say(
                f"some processes did not end within {SECONDS_TO_SAVE} s and were killed; earlier checkpoints are intact"
            )
        return 128 + (self.signal or caught)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self.time = signal.Signals(number), time.monotonic()
            _say(
                f"{self.signal.name}: {self.processes} processes are asked to save and end, within {SECONDS_TO_SAVE} s"
            )
            raise SignalException(self.signal.name, signal.SIGTERM)


def _variables(folder: str, processes: Processes) -> dict[str, str]:
    """Environment variables of torchrun and of the processes that it starts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // processes.nproc_per_node))
    return {
        REPORTS: folder,
        LAUNCHER: str(os.getpid()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SECONDS_TO_SAVE),
        # Handlers that torchrun installs by itself; the rest are ours.
        "PET_SIGNALS_TO_HANDLE": "SIGUSR2",
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables in the body."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torchrun logs of its own work, unless its variable LOGLEVEL asks for it."""
    before = logging.root.manager.disable
    logging.disable(before if "LOGLEVEL" in os.environ else logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _explain(failures: Mapping[int, ProcessFailure], folder: Path, processes: Processes) -> int:
    """Say which process's failure came first, and why; gives its exit status."""
    reports = {rank: _read_report(folder / f"{rank}.json") for rank in failures}

    def order(rank: int) -> tuple[int, float]:
        report, failure = reports[rank], failures[rank]
        if report is not None:
            return int(report["lost"]), report["time"]
        # When others failed, torchrun asked this one to end. Its clock has whole seconds.
        return int(failure.exitcode in (-signal.SIGTERM, 128 + signal.SIGTERM)), failure.timestamp + 1

    first = min(failures, key=order)
    status = failures[first].exitcode
    if reports[first] is not None:
        _say(f"error: {reports[first]['message']}")
        status = 2  # even where torchrun was faster to end it
    who = f"rank {first}" + (f" (of {processes.total})" if processes.total else "")
    if status < 0:
        number, status = signal.Signals(-status), 128 - status
        memory = ", which the system does when memory runs out" if number == signal.SIGKILL else ""
        _say(f"training ended: {who} was killed by {number.name}{memory}")
    elif status - 128 in list(signal.Signals):
        _say(f"training ended: {who} was stopped by {signal.Signals(status - 128).name}")
    else:
        _say(f"training ended: {who} failed with exit status {status}")
    return status


def _first_report(folder: Path) -> dict | None:
    """The earliest error of a process that did not merely lose another one; None where there is none."""
    reports = [_read_report(path) for path in folder.glob("*.json")]
    return min((report for report in reports if not report["lost"]), key=lambda report: report["time"], default=None)


def _read_report(path: Path) -> dict | None:
    """What `run_command` left in a process."""
    return json.loads(path.read_text()) if path.is_file() else None


def _say(line: str) -> None:
    """Write a line to stderr, past Python's buffers, which a signal's handler must not enter."""
    os.write(2, f"{line}\n".encode())


# The launcher's process id.
LAUNCHER = "STARK_LAUNCHER"

_PR_SET_PDEATHSIG = 1


def is_launched() -> bool:
    """Whether torchrun started this process, by our launcher or by hand."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def end_with_launcher() -> None:
    """Have the system ask this process to end (SIGTERM) when its launcher is killed, so that none is left behind.

    Does nothing where no launcher of ours started it, or on another system than Linux.
    """
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(launcher):  # it ended before the line above
        raise SystemExit(128 + signal.SIGTERM)
