"""The checkpoints of one run: which are written, which one a run goes on from."""

import logging
from pathlib import Path
from typing import Any

from easydict import EasyDict

from ..config import option
from ..utils.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..utils.checkpoint_files import NET_TYPES, checkpoint_name, epoch_checkpoints
from .options import RunOptions

log = logging.getLogger(__name__)


class CheckpointFolder:
    """`checkpoints/train/<script>/<config>/` of one network. Files are whole or absent.

    The rolling `<NetClass>_latest.pth.tar` becomes `<NetClass>_previous.pth.tar` when the next is whole.
    A checkpoint `<NetClass>_ep0100.pth.tar` stays `every` so many epochs, and of each of the `last` epochs of the run;
    of these only the `keep` newest stay, or all for 0. `<NetClass>_best.pth.tar` is of the best validation.
    """

    def __init__(
        self, folder: Path, net_type: str, last_epoch: int, every: int = 100, last: int = 10, keep: int = 0
    ) -> None:
        self.folder, self.net_type, self.last_epoch = folder, net_type, last_epoch
        self.every, self.last, self.keep = every, last, keep
        names = (checkpoint_name(net_type, which) for which in ("latest", "previous", "best"))
        self.latest, self.previous, self.best = (folder / name for name in names)
        self.latest_is_damaged = False

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Write the rolling checkpoint; after a CheckpointError, such as a full disk, older files are intact."""
        fresh = self.folder / f".{self.net_type}_fresh.pth.tar"
        save_checkpoint(fresh, checkpoint)
        # A damaged latest never takes the place of a good one before it.
        if self.latest.is_file() and not self.latest_is_damaged:
            self.latest.replace(self.previous)
        fresh.replace(self.latest)
        self.latest_is_damaged = False

    def keep_epoch(self, checkpoint: dict[str, Any], epoch: int) -> None:
        """Write a finished epoch's own checkpoint, if it stays and is missing, and delete those beyond `keep`."""
        path = self.folder / checkpoint_name(self.net_type, epoch)
        if not path.is_file() and (epoch % self.every == 0 or epoch > self.last_epoch - self.last):
            save_checkpoint(path, checkpoint)
            for old in self.kept()[: -self.keep or 0]:
                old.unlink(missing_ok=True)

    def kept(self) -> list[Path]:
        """The checkpoints of single epochs, oldest first."""
        return epoch_checkpoints(self.folder, self.net_type)

    def clear_unfinished(self) -> None:
        """Remove files of runs that were killed while they wrote; for the process alone that holds the folder."""
        for path in self.folder.glob(f".*{self.net_type}_*"):
            path.unlink()

    def load(self) -> tuple[dict[str, Any], Path] | None:
        """The newest readable rolling checkpoint and its path, or None where the run has not begun.

        A CheckpointError if both are damaged, or there are only others, which this run would overwrite.
        """
        errors = []
        for path in (self.latest, self.previous):
            if path.is_file():
                try:
                    checkpoint = load_checkpoint(path)
                    parts = {"stats": None, "optimizer": None, "progress": {}}
                    whole = all(isinstance(checkpoint.get(key, usual), dict) for key, usual in parts.items())
                    if type(checkpoint.get("epoch")) is not int or not whole:
                        raise CheckpointError(f"{path} is not a checkpoint that a run here can go on from")
                    return checkpoint, path
                except CheckpointError as error:
                    errors.append(str(error))
                    self.latest_is_damaged |= path == self.latest
                    log.warning("%s; trying the checkpoint before it", error)
        if errors:
            raise CheckpointError(f"nothing to go on from: {'; '.join(errors)}; to start anew move the files away")
        if foreign := [*self.kept(), *[self.best] * self.best.is_file()]:
            fault = f"{self.folder} holds {foreign[-1].name}, which training would overwrite, and no {self.latest.name}"
            raise CheckpointError(f"{fault} to go on from: choose another --save_dir, or move the files away")
        return None


def run_checkpoints(options: RunOptions, cfg: EasyDict) -> CheckpointFolder:
    """The checkpoints of the run that the options name, kept as its configuration says."""
    keep = [option(cfg, f"TRAIN.KEEP_{what}") for what in ("EVERY", "LAST", "CHECKPOINTS")]
    return CheckpointFolder(options.folder, NET_TYPES[options.script], cfg.TRAIN.EPOCH, *keep)
