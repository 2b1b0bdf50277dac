"""One process or many: what the rest of the training code needs to know of the others.

`torchrun` starts the processes and sets RANK, WORLD_SIZE and LOCAL_RANK; without it there is one.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lib.utils.device import select_device


def setup(device: str = "auto") -> torch.device:
    """Join the other processes, where there are any, and choose this one's device.

    NCCL joins GPUs, gloo joins processes on CPUs.
    """
    if "RANK" not in os.environ:
        return select_device(device)
    local = int(os.environ.get("LOCAL_RANK", 0))
    target = select_device(device)
    if target.type == "cuda":
        target = select_device(f"cuda:{local}")
        torch.cuda.set_device(target)
    dist.init_process_group("nccl" if target.type == "cuda" else "gloo")
    return target


def teardown() -> None:
    """Leave the other processes."""
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
    if dist.is_initialized():
        dist.barrier()


def wrap(net: nn.Module, device: torch.device) -> nn.Module:
    """The network with its gradients averaged over all processes; as it is where there is one."""
    if not dist.is_initialized():
        return net
    return DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes."""
    if not dist.is_initialized():
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()
