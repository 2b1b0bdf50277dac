"""Where a run writes: what is there, whether more can be written, and whether it has room."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from easydict import EasyDict
from torch import nn

from lib.train.checkpoints import run_checkpoints
from lib.train.checks.report import Finding, named, note, ok, problem
from lib.train.checks.weights import fit
from lib.train.optimiser import parameter_groups
from lib.train.options import RunOptions
from lib.utils.checkpoint import CheckpointError

SUBJECT = "output folder"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epoch: finished ones.
        begun: there is a checkpoint to go on from.
        findings: what was seen.
    """

    epoch: int
    begun: bool
    findings: list[Finding]


def find_progress(options: RunOptions, cfg: EasyDict, net: nn.Module | None) -> Progress:
    """Look for a run to go on from.

    Args:
        options, cfg: the run.
        net: its outline, which the checkpoint has to fit; None where it cannot be built.
    """
    unwritable = list(_check_writable(options))
    if unwritable:
        return Progress(0, False, unwritable)
    checkpoints = run_checkpoints(options, cfg)
    try:
        found = checkpoints.load()
    except CheckpointError as error:
        return Progress(0, False, [problem(SUBJECT, str(error))])
    if found is None:
        return Progress(0, False, [_what_else(options.folder)])
    checkpoint, path = found
    epoch, findings = checkpoint["epoch"], []
    if net is not None:
        try:
            fit(net, checkpoint, path)
        except CheckpointError as error:
            remedy = "give the options that the run began with, or choose another --save_dir"
            findings.append(problem(SUBJECT, str(error), remedy))
    if checkpoints.latest_is_damaged:
        findings.append(note(SUBJECT, f"{checkpoints.latest} is damaged; the checkpoint before it serves"))
    if epoch >= cfg.TRAIN.EPOCH:
        findings.append(note(SUBJECT, f"{path}: epoch {epoch} was the last, there is nothing to train"))
    else:
        findings.append(ok(SUBJECT, f"{path}: goes on after epoch {epoch} of {cfg.TRAIN.EPOCH}"))
    return Progress(epoch, True, findings)


def check_space(options: RunOptions, cfg: EasyDict, net: nn.Module, progress: Progress) -> Iterator[Finding]:
    """Whether the disk takes the checkpoints to come."""
    if progress.epoch >= cfg.TRAIN.EPOCH:
        return
    checkpoints = run_checkpoints(options, cfg)
    size = checkpoint_size(net, cfg)
    rolling = 3 - checkpoints.latest.is_file() - checkpoints.previous.is_file()  # the third while it is written
    ahead = range(progress.epoch + 1, cfg.TRAIN.EPOCH + 1)
    coming = sum(map(checkpoints.stays, ahead))
    if checkpoints.keep:
        # The newest is written before the oldest goes.
        coming = min(coming, max(checkpoints.keep + 1 - len(checkpoints.kept()), 1))
    free, needed = shutil.disk_usage(_existing(options.folder)).free, (rolling + coming) * size
    detail = f"{_size(free)} free; {rolling + coming} checkpoints of {_size(size)} need {_size(needed)}"
    if free < rolling * size:
        remedy = "make room, or choose another --save_dir"
        yield problem(SUBJECT, f"{detail}, and not even the first {rolling} fit", remedy)
    elif free < needed:
        remedy = "make room before the end, or keep fewer with --opts TRAIN.KEEP_CHECKPOINTS=3"
        yield note(SUBJECT, f"{detail}, which is more than there is", remedy)
    else:
        yield ok(SUBJECT, detail)


def checkpoint_size(net: nn.Module, cfg: EasyDict) -> int:
    """About how many bytes a checkpoint has: the weights, and the optimiser's two means for those that learn."""
    learning = sum(p.numel() for group in parameter_groups(net, cfg) for p in group["params"])
    return 4 * sum(value.numel() for value in net.state_dict().values()) + 8 * learning


def _check_writable(options: RunOptions) -> Iterator[Finding]:
    """Try to write where checkpoints, and logs, will be."""
    for folder in dict.fromkeys(map(_existing, (options.folder, options.save_dir))):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = "it is not a folder" if isinstance(error, NotADirectoryError) else error.strerror
            yield problem(SUBJECT, f"cannot write to {folder}: {reason}", "choose another --save_dir")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))


def _what_else(folder: Path) -> Finding:
    """What a new run finds in its folder."""
    files = sorted(path.name for path in folder.glob("[!.]*"))
    if files:
        return note(SUBJECT, f"{folder}: a new run; other files are there and stay ({named(len(files), files)})")
    return ok(SUBJECT, f"{folder}: a new run")


def _size(count: float) -> str:
    """Bytes in a unit that suits them."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"
