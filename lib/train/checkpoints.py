"""The checkpoints of one run: which are written, which one a run goes on from."""

import logging
import re
from pathlib import Path
from typing import Any

from easydict import EasyDict

from lib.config import option
from lib.train.options import RunOptions, net_type
from lib.utils.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lib.utils.checkpoint_files import epoch_name, rolling_names

log = logging.getLogger(__name__)


class CheckpointFolder:
    """`checkpoints/train/<script>/<config>/` of one network.

    Files are whole or absent: each is written under a temporary name, flushed and renamed.
    The rolling `<NetClass>_latest.pth.tar` becomes `<NetClass>_previous.pth.tar` when the next is there.

    Args:
        folder: where they lie.
        net_type: the network's class name.
        last_epoch: of the run.
        every: epochs between checkpoints `<NetClass>_ep0100.pth.tar` that stay.
        last: so many epochs at the end of the run all stay.
        keep: of those that stay only so many are kept, the newest; 0: all.
    """

    def __init__(
        self, folder: Path, net_type: str, last_epoch: int, every: int = 100, last: int = 10, keep: int = 0
    ) -> None:
        self.folder, self.net_type, self.last_epoch = folder, net_type, last_epoch
        self.every, self.last, self.keep = every, last, keep
        self.latest, self.previous = (folder / name for name in rolling_names(net_type))
        self.latest_is_damaged = False

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Write the rolling checkpoint.

        Raises:
            CheckpointError: the disk is full or the folder not writable; older files are intact.
        """
        fresh = self.folder / f".{self.net_type}_fresh.pth.tar"
        save_checkpoint(fresh, checkpoint)
        # Only now that the next is whole; a damaged latest never takes the place of a good one before it.
        if self.latest.is_file() and not self.latest_is_damaged:
            self.latest.replace(self.previous)
        fresh.replace(self.latest)
        self.latest_is_damaged = False

    def save_epoch(self, checkpoint: dict[str, Any], epoch: int) -> None:
        """Write the rolling checkpoint, and the finished epoch's own where it is one that stays; see `save`."""
        self.save(checkpoint)
        self.keep_epoch(checkpoint, epoch)

    def keep_epoch(self, checkpoint: dict[str, Any], epoch: int) -> None:
        """Write a finished epoch's own checkpoint where it is one that stays, and drop those there are too many of."""
        if self.stays(epoch):
            save_checkpoint(self.folder / epoch_name(self.net_type, epoch), checkpoint)
            for path in self.kept()[: -self.keep or 0]:
                path.unlink(missing_ok=True)

    def keep_missing(self, checkpoint: dict[str, Any], epoch: int) -> None:
        """Do what `keep_epoch` did not come to before the run was killed."""
        if self.folder / epoch_name(self.net_type, epoch) not in self.kept():
            self.keep_epoch(checkpoint, epoch)

    def stays(self, epoch: int) -> bool:
        """Whether an epoch's checkpoint is one that stays."""
        return epoch % self.every == 0 or epoch > self.last_epoch - self.last

    def kept(self) -> list[Path]:
        """The checkpoints of single epochs, oldest first."""
        paths = self.folder.glob(f"{self.net_type}_ep*.pth.tar")
        own = [path for path in paths if re.fullmatch(rf"{self.net_type}_ep\d{{4,}}\.pth\.tar", path.name)]
        return sorted(own, key=lambda path: (len(path.name), path.name))

    def clear_unfinished(self) -> None:
        """Remove what runs left that were killed while they wrote; for the process alone that holds the folder."""
        for path in self.folder.glob(f".*{self.net_type}_*"):
            path.unlink()

    def load(self) -> tuple[dict[str, Any], Path] | None:
        """The newest readable rolling checkpoint and its path, or None where the run has not begun.

        Raises:
            CheckpointError: there are rolling checkpoints, but none can be gone on from; or there are only
                checkpoints that another run or somebody else left, which this one would overwrite.
        """
        errors = []
        for path in (self.latest, self.previous):
            if not path.is_file():
                continue
            try:
                return _resumable(path), path
            except CheckpointError as error:
                errors.append(str(error))
                self.latest_is_damaged |= path == self.latest
                log.warning("%s; trying the checkpoint before it", error)
        if errors:
            raise CheckpointError(f"nothing to go on from: {'; '.join(errors)}; to start anew move the files away")
        foreign = self.kept()
        if foreign:
            raise CheckpointError(
                f"{self.folder} holds {foreign[-1].name}, but not {self.latest.name} to go on from, and training "
                "would overwrite what is there: choose another --save_dir, or move the files away"
            )
        return None


def run_checkpoints(options: RunOptions, cfg: EasyDict) -> CheckpointFolder:
    """The checkpoints of the run that the options name, kept as its configuration says."""
    keep = [option(cfg, f"TRAIN.KEEP_{what}") for what in ("EVERY", "LAST", "CHECKPOINTS")]
    return CheckpointFolder(options.folder, net_type(options.script), cfg.TRAIN.EPOCH, *keep)


def _resumable(path: Path) -> dict[str, Any]:
    """A checkpoint with all that a run needs to go on."""
    checkpoint = load_checkpoint(path)
    missing = [key for key in ("epoch", "stats", "optimizer") if key not in checkpoint]
    if missing:
        raise CheckpointError(f"{path} is not a checkpoint of a run here: it lacks {', '.join(missing)}")
    fits = {
        "epoch": _is_count(checkpoint["epoch"]),
        "stats": isinstance(checkpoint["stats"], dict),
        "optimizer": _is_optimizer(checkpoint["optimizer"]),
        "scaler": isinstance(checkpoint.get("scaler", {}), dict),
        "progress": "progress" not in checkpoint or _is_progress(checkpoint["progress"]),
    }
    wrong = [name for name, fit in fits.items() if not fit]
    if wrong:
        raise CheckpointError(f"{path} is damaged, or of another program: {', '.join(wrong)} cannot be gone on from")
    return checkpoint


def _is_optimizer(state: object) -> bool:
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        return False
    groups = state.get("param_groups")
    return isinstance(groups, list) and all(isinstance(g, dict) and isinstance(g.get("params"), list) for g in groups)


def _is_progress(progress: object) -> bool:
    """Whether it is what the trainer keeps of an epoch that is not finished."""
    if not isinstance(progress, dict) or not isinstance(progress.get("meters"), dict):
        return False
    sums, counts = (progress["meters"].get(name) for name in ("sums", "counts"))
    return (
        _is_count(progress.get("samples"))
        and isinstance(sums, dict)
        and isinstance(counts, dict)
        and sums.keys() == counts.keys()
        and all(isinstance(total, int | float) for total in sums.values())
        and all(map(_is_count, counts.values()))
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
