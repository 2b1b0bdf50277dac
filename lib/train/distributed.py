"""One process or many: what the rest of the training code needs to know of the others.

torchrun starts the processes and sets RANK, WORLD_SIZE and LOCAL_RANK; without torchrun there is one process.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import FrameType

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lib.utils.device import select_device
from lib.utils.errors import UserError

# One process may index a large data set, or save a large network, while the others wait.
PATIENCE = timedelta(hours=2)
# How gloo and the store say that a process at the other end ended.
LOST = ("closed by peer", "reset by peer", "Broken pipe", "remote process exited", "imed out")
# Set by torchrun, or by a scheduler in its place, for each of several processes.
JOINED = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
# torchrun needs less than this to see which process failed first, and to end the others.
SECONDS_FOR_TORCHRUN = 30


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[torch.device]:
    """Join the other processes, if there are any, and give this one's device; leave them afterwards.

    NCCL joins GPUs; gloo joins processes on CPUs, and carries small values that are not on a GPU.

    Raises:
        UserError: the device is missing, or another process ended before this one.
    """
    target = select_device(device)
    if not os.environ.keys() >= JOINED:
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
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"process {rank()} lost another process, which reports why it ended ({reason}); "
            "the same command goes on from the last checkpoint"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def rank() -> int:
    """This process's number; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for all processes."""
    maximum(0)


def maximum(value: int) -> int:
    """The greatest of all processes' values; every process waits here for all others."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared)


def agree(value: int) -> bool:
    """Whether all processes have the same value."""
    return maximum(value) == -maximum(-value)


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
    """The mean of a bucket's gradients, summed in the order of ranks.

    The order of the usual sum changes after the first step, so a resumed run would differ from an uninterrupted one.
    """
    own = bucket.buffer()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    gathered = dist.all_gather(parts, own, async_op=True).get_future()
    return gathered.then(lambda _: torch.stack(parts).mean(0))


def without_exchange(net: nn.Module, active: bool) -> contextlib.AbstractContextManager:
    """If `active`, gradients stay on their process: for all but the last of several accumulated batches."""
    return net.no_sync() if active and isinstance(net, DistributedDataParallel) else contextlib.nullcontext()


def mean_over_ranks(values: Mapping[str, float | torch.Tensor]) -> dict[str, float]:
    """The mean of each scalar over all processes, which must name them in the same order."""
    if not dist.is_initialized() or not values:
        return {name: float(value) for name, value in values.items()}
    shared = torch.tensor([float(value) for value in values.values()], dtype=torch.float64)
    dist.all_reduce(shared)
    return dict(zip(values, (shared / dist.get_world_size()).tolist(), strict=True))


@contextlib.contextmanager
def handle_signals(signals: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals in the body; ignored ones, such as SIGHUP under `nohup`, stay ignored."""
    handled = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class StopRequest:
    """Remembers that this process was asked to stop, so that the training loop ends between two steps.

    Attributes:
        signal: number of the first SIGTERM, SIGINT or SIGHUP while `watching`; 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """Catch the signals in the body."""
        return handle_signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._note)

    def _note(self, number: int, _: object) -> None:
        # A scheduler may repeat its signal while the state is saved; a second Ctrl-C ends the process at once.
        if self.signal and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = self.signal or number
