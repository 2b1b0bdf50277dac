"""Checkpoints as files: their names, and which one is meant. Without PyTorch, which is slow to load and large."""

import os
import re
from pathlib import Path

from lib.utils.errors import UserError


class CheckpointError(UserError):
    """A checkpoint that cannot be read, is refused, does not fit or cannot be written.

    Messages quote names out of untrusted files, so anything that could steer a terminal is replaced.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(character if character.isprintable() else "?" for character in message))


def epoch_name(net_type: str, epoch: int) -> str:
    """The published file name of one epoch's checkpoint."""
    return f"{net_type}_ep{epoch:04d}.pth.tar"


def latest_name(net_type: str) -> str:
    """The file name of the rolling checkpoint that a run goes on from."""
    return f"{net_type}_latest.pth.tar"


def previous_name(net_type: str) -> str:
    """The file name of the rolling checkpoint before the latest."""
    return f"{net_type}_previous.pth.tar"


def find_checkpoint(folder: str | os.PathLike, net_type: str, epoch: int | None = None) -> Path:
    """The file `<net_type>_ep<epoch>.pth.tar` of a folder; without an epoch the newest, whole epoch or not.

    Raises:
        CheckpointError: there is none; the message lists what is there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {folder}: train first, or give a checkpoint file")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    pattern = re.compile(rf"{re.escape(net_type)}_ep(\d{{4,}})\.pth\.tar")
    epochs = {int(match[1]): match[0] for match in map(pattern.fullmatch, names) if match}
    for rolling in (latest_name(net_type), previous_name(net_type)):
        if epoch is None and rolling in names:
            return folder / rolling
    if epoch is None and epochs:
        return folder / epochs[max(epochs)]
    if epoch in epochs:
        return folder / epochs[epoch]
    wanted = f"{net_type}_ep*.pth.tar" if epoch is None else epoch_name(net_type, epoch)
    raise CheckpointError(f"no checkpoint {wanted} in {folder}; there: {few(names[::-1], 5)}")


def few(names: list[str], count: int = 3) -> str:
    """The first names, each shortened, and how many more there are."""
    more = f", and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(f"{name:.150}" for name in names[:count]) or "nothing") + more
