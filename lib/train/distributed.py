"""One process or many: torchrun starts them, they join, and they exchange gradients and numbers.

torchrun sets RANK, WORLD_SIZE and LOCAL_RANK for each process; without torchrun there is one process.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..utils.device import available_cpus, select_device
from ..utils.errors import UserError

# One process may index a large data set, or save a large network, while the others wait.
PATIENCE = timedelta(hours=2)
# In the errors of gloo and the store where a process at the other end ended.
LOST = ("closed by peer", "reset by peer", "Broken pipe", "remote process exited", "imed out")
# torchrun needs less than this to see which process failed first, and to end the others.
SECONDS_FOR_TORCHRUN = 30
# A training process saves its state when it is asked to end; torchrun kills it after this time.
SECONDS_TO_SAVE = 60
# A run that is asked to end while it waits for a batch waits this long; less than schedulers give.
SECONDS_FOR_BATCH = 15
# `python -m torch.distributed.run` without the traceback of its own code, which hides its report.
TORCHRUN = """import sys; from torch.distributed.run import main
sys.excepthook = lambda _, error, __: print(error, file=sys.stderr)
main()"""


def is_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def torchrun_options(given: Mapping[str, str | int | None]) -> list[str]:
    """Options for torchrun's command line from its own names and values; None where not given."""
    given = {name: value for name, value in given.items() if value is not None}
    options = [f"--{name}={value}" for name, value in given.items()]
    if "rdzv_endpoint" in given:
        return options if "rdzv_backend" in given else [*options, "--rdzv_backend=c10d"]
    if given.keys() & {"master_addr", "master_port", "node_rank"}:
        return options
    if str(given.get("nnodes", 1)) != "1":
        remedy = "add --rdzv_endpoint HOST:PORT (HOST is one of them), or --master_addr HOST --node_rank K (0 on HOST)"
        raise UserError(f"--nnodes {given['nnodes']} does not say where the machines meet: {remedy}")
    return [*options, "--standalone"]


def launch(command: Sequence[str], options: Mapping[str, str | int | None]) -> int:
    """Run a Python program, a file and its arguments, in several processes by torchrun; gives the exit status.

    torchrun runs in a session of its own, so the first SIGTERM, SIGINT or SIGHUP is passed on, as SIGTERM; the
    processes have `SECONDS_TO_SAVE` to end, and the status is 128 plus the signal's number. It is 2 if the first
    process that failed recorded an error, else torchrun's.
    """
    words, stop = torchrun_options(options), StopRequest()
    processes = str(options.get("nproc_per_node"))  # or a word that torchrun knows, such as "gpu"
    threads = max(1, available_cpus() // max(1, int(processes))) if processes.isdecimal() else 1
    defaults = {"OMP_NUM_THREADS": str(threads), "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SECONDS_TO_SAVE)}
    with tempfile.TemporaryDirectory(prefix="stark_") as folder, stop.watching():
        report = Path(folder) / "error.json"  # torchrun copies the error here that the first failed process recorded
        torchrun = subprocess.Popen(
            [sys.executable, "-c", TORCHRUN, *words, f"--log_dir={folder}", *command],
            env={**defaults, **os.environ, "TORCHELASTIC_ERROR_FILE": str(report)},
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        while not stop.signal and torchrun.poll() is None:
            time.sleep(0.1)
        if stop.signal:
            torchrun.terminate()
        status = torchrun.wait()
        recorded = json.loads(report.read_text())["message"] if report.is_file() else ""
    if stop.signal:
        return 128 + stop.signal
    if not status:
        return 0
    lost = "a training process was killed (as when memory runs out) or failed: torchrun's report above names it"
    lost += "; the same command goes on from the last checkpoint"
    text = recorded["message"] if isinstance(recorded, dict) else recorded or lost
    print("error:", re.sub(r"^\w+: ", "", text), file=sys.stderr)  # without the name of the error's class
    return 2 if recorded else 128 - status if status < 0 else status


def end_with_parent() -> None:
    """Have Linux send this process SIGTERM when its parent ends, also by SIGKILL, so that no process is left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[torch.device]:
    """Join the other processes, if there are any, and give this one's device: NCCL for GPUs, gloo for all else."""
    target = select_device(device)
    if not os.environ.keys() >= {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}:  # by torchrun or a scheduler
        yield target
        return
    if target.type == "cuda":
        target = select_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(target)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if target.type == "cuda" else "gloo", timeout=PATIENCE)
        yield target
    except RuntimeError as error:
        if not any(text in str(error) for text in LOST):
            raise
        # The other process is the one to report, so torchrun must see it first.
        time.sleep(SECONDS_FOR_TORCHRUN)
        fault = f"process {rank()} lost another process, which says why it ended ({' '.join(str(error).split())[:200]})"
        raise UserError(f"{fault}; the same command goes on from the last checkpoint") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def rank() -> int:
    """This process's number; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gathered(value: Any) -> list[Any]:
    """The values of all processes by rank; every process waits here for all others."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def maximum(value: int) -> int:
    """The greatest of all processes' values, as cheaply as each step needs it."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared)


def mean_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The mean of each scalar over all processes."""
    everyone = gathered(dict(values))
    return {name: sum(each[name] for each in everyone) / len(everyone) for name in values}


def wrap(net: nn.Module, device: torch.device) -> nn.Module:
    """The network with its gradients averaged over all processes; unchanged if there is one process."""
    if not dist.is_initialized():
        return net
    if device.type == "cuda":
        return DistributedDataParallel(net, device_ids=[device.index], gradient_as_bucket_view=True)
    wrapped = DistributedDataParallel(net, gradient_as_bucket_view=True)
    wrapped.register_comm_hook(None, _mean_in_order)
    return wrapped


def _mean_in_order(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """The mean of a bucket's gradients in the order of ranks. The usual order varies: a resumed run would differ."""
    own = bucket.buffer()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    gathered = dist.all_gather(parts, own, async_op=True).get_future()
    return gathered.then(lambda _: torch.stack(parts).mean(0))


def without_exchange(net: nn.Module, active: bool) -> contextlib.AbstractContextManager:
    """If `active`, gradients stay on their process: for all but the last of several accumulated batches."""
    return net.no_sync() if active and isinstance(net, DistributedDataParallel) else contextlib.nullcontext()


class NoBatchError(Exception):
    """The processes that make samples hang, and the run was asked to stop."""


class StopRequest:
    """Remembers the first signal that asked this process to stop, so that it ends where it can go on later."""

    signal = 0
    waiting = False  # for a batch

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Catch the signals in the body; ignored ones, such as SIGHUP under `nohup`, stay ignored."""
        numbers = [n for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in numbers}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._give_up)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, old in before.items():
                signal.signal(number, old)

    def _note(self, number: int, _: object) -> None:
        # A scheduler may repeat its signal while the state is saved; a second Ctrl-C ends the process at once.
        if self.signal and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = self.signal or number
        signal.setitimer(signal.ITIMER_REAL, SECONDS_FOR_BATCH, SECONDS_FOR_BATCH)

    def _give_up(self, *_: object) -> None:
        if self.waiting:
            raise NoBatchError

    def next_of(self, batches: Iterator[Any]) -> Any:
        """The next batch; a NoBatchError where none has come SECONDS_FOR_BATCH after a signal."""
        self.waiting = True
        try:
            return next(batches)
        finally:
            self.waiting = False
