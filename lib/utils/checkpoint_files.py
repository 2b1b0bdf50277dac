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


def rolling_names(net_type: str) -> tuple[str, str]:
    """The file names of the checkpoint that a run goes on from, and of the one before it."""
    return f"{net_type}_latest.pth.tar", f"{net_type}_previous.pth.tar"


def find_checkpoint(folder: str | os.PathLike, net_type: str, epoch: int | None = None) -> Path:
    """The file `<net_type>_ep<epoch>.pth.tar` of a folder; without an epoch the newest, whole epoch or not.

    Raises:
        CheckpointError: it is missing; the message lists what is there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {folder}: train first, or give a checkpoint file")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    epochs = [name for name in names if re.fullmatch(rf"{re.escape(net_type)}_ep\d{{4,}}\.pth\.tar", name)]
    newest = sorted(epochs, key=lambda name: (len(name), name))[-1:]
    found = [*rolling_names(net_type), *newest] if epoch is None else [epoch_name(net_type, epoch)]
    for name in found:
        if name in names:
            return folder / name
    wanted = f"{net_type}_ep*.pth.tar" if epoch is None else found[0]
    raise CheckpointError(f"no checkpoint {wanted} in {folder}; there: {few(names[::-1], 5)}")


def few(names: list[str], count: int = 3) -> str:
    """The first names, each shortened, and how many more there are."""
    more = f", and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(f"{name:.150}" for name in names[:count]) or "nothing") + more
