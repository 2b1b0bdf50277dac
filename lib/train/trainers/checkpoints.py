"""The checkpoints of one run: which are written, which one a run goes on from."""

import logging
from pathlib import Path
from typing import Any

from lib.utils.checkpoint import CheckpointError, epoch_name, latest_name, load_checkpoint, save_checkpoint

EVERY = 100  # epochs between checkpoints that stay
LAST = 10  # epochs at the end of a run that all stay

log = logging.getLogger(__name__)


class CheckpointFolder:
    """`checkpoints/train/<script>/<config>/` of one network.

    Files are whole or absent: each is written under a temporary name, flushed and renamed.
    The rolling `<NetClass>_latest.pth.tar` becomes `<NetClass>_previous.pth.tar` when the next is there.
    """

    def __init__(self, folder: Path, net_type: str, last_epoch: int) -> None:
        self.folder, self.net_type, self.last_epoch = folder, net_type, last_epoch
        self.latest = folder / latest_name(net_type)
        self.previous = folder / f"{net_type}_previous.pth.tar"

    def save(self, checkpoint: dict[str, Any], epoch: int) -> None:
        """Write the rolling checkpoint, and the epoch's own where it is one that stays.

        Raises:
            CheckpointError: the disk is full or the folder not writable; older files are intact.
        """
        if self.latest.is_file():
            self.latest.replace(self.previous)
        save_checkpoint(self.latest, checkpoint)
        if epoch % EVERY == 0 or epoch > self.last_epoch - LAST:
            save_checkpoint(self.folder / epoch_name(self.net_type, epoch), checkpoint)

    def load(self) -> dict[str, Any] | None:
        """The newest readable rolling checkpoint, or None where the run has not begun.

        Raises:
            CheckpointError: there are rolling checkpoints, but none can be read.
        """
        errors = []
        for path in (self.latest, self.previous):
            if not path.is_file():
                continue
            try:
                return load_checkpoint(path)
            except CheckpointError as error:
                errors.append(str(error))
                log.warning("%s; trying the checkpoint before it", error)
        if errors:
            raise CheckpointError(f"no readable checkpoint to go on from: {'; '.join(errors)}; move the files away")
        return None
