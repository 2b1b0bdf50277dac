"""The options of a training run, the weights that it starts from, and its own checkpoints."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easydict import EasyDict
from torch import nn

from ..config import experiment_name, leaves, option, trained_config
from ..config.options import OPTIONS
from ..utils.checkpoint import load_checkpoint, load_state, save_checkpoint
from ..utils.checkpoint_files import (
    NET_TYPES,
    CheckpointError,
    checkpoint_name,
    epoch_checkpoints,
    find_checkpoint,
    saved_config,
)
from ..utils.errors import UserError

# Options that a resumed run may change: they decide neither samples nor the loss. With the cosine schedule TRAIN.EPOCH
# changes later learning rates; users lengthen runs on purpose.
_FREE = (
    *("DATA.VAL.", "TEST.", "TRAIN.EPOCH", "TRAIN.NUM_WORKER", "TRAIN.PRINT_INTERVAL", "TRAIN.VAL_EPOCH_INTERVAL"),
    *("TRAIN.KEEP_", "TRAIN.SAVE_EVERY_STEPS", "TRAIN.COMPILE", "LOG."),
)

log = logging.getLogger(__name__)


def checkpoint_folder(save_dir: Path, script: str, config: str) -> Path:
    """`checkpoints/train/<script>/<config>/` under a save directory."""
    return save_dir / "checkpoints" / "train" / script / experiment_name(config)


@dataclass(frozen=True)
class Stage:
    """Weights of another run: the newest of its experiment, or `checkpoint`."""

    script: str
    config: str = "baseline"
    checkpoint: Path | None = None

    def path(self, save_dir: Path) -> Path:
        """The file of the weights; a CheckpointError if there is none."""
        folder = checkpoint_folder(save_dir, self.script, self.config)
        return self.checkpoint or find_checkpoint(folder, NET_TYPES[self.script])

    def network_config(self, save_dir: Path) -> EasyDict:
        """The configuration of the trained network; errors as of `path`."""
        return trained_config(self.script, self.config, self.path(save_dir))[0]

    def load(self, net: nn.Module, save_dir: Path) -> tuple[dict[str, Any], Path]:
        """Load the weights into a network; a score head may be missing. The checkpoint and its path.

        A CheckpointError if the file is missing or damaged, or does not fit.
        """
        path = self.path(save_dir)
        checkpoint = load_checkpoint(path)
        load_state(net, checkpoint, path, allow_missing=("cls_head.",))
        return checkpoint, path


@dataclass(frozen=True)
class RunOptions:
    """The options of the command line."""

    script: str
    config: str
    save_dir: Path  # checkpoints, logs, TensorBoard files and `cache/` of the data sets' annotations lie under it
    previous: Stage | None = None  # whose weights this run starts from
    teacher: Stage | None = None  # guides this run (`--distill`)
    use_lmdb: bool = False
    device: str = "auto"  # or `cpu`, `cuda`, `mps`
    overrides: tuple[str, ...] = ()  # `KEY.PATH=value`
    allow_changes: bool = False  # a resumed run may have another configuration than before

    @property
    def name(self) -> str:
        return experiment_name(self.config)

    @property
    def folder(self) -> Path:
        return checkpoint_folder(self.save_dir, self.script, self.config)

    @property
    def validation_may_be_missing(self) -> bool:
        """Whether missing validation sets are left out: where the user named other training sets, but none of these."""
        keys = {text.partition("=")[0].strip() for text in self.overrides}
        return "DATA.TRAIN.DATASETS_NAME" in keys and "DATA.VAL.DATASETS_NAME" not in keys


class CheckpointFolder:
    """The checkpoints of a run, `checkpoints/train/<script>/<config>/`. Files are whole or absent.

    The rolling `<NetClass>_latest.pth.tar` becomes `<NetClass>_previous.pth.tar` when the next is whole.
    A checkpoint `<NetClass>_ep0100.pth.tar` stays `every` so many epochs, and of each of the `last` epochs of the run;
    of these only the `keep` newest stay, or all for 0. `<NetClass>_best.pth.tar` is of the best validation.
    """

    def __init__(self, options: RunOptions, cfg: EasyDict) -> None:
        self.folder, self.net_type, self.last_epoch = options.folder, NET_TYPES[options.script], cfg.TRAIN.EPOCH
        keys = "TRAIN.KEEP_EVERY", "TRAIN.KEEP_LAST", "TRAIN.KEEP_CHECKPOINTS"
        self.every, self.last, self.keep = (option(cfg, key) for key in keys)
        names = (checkpoint_name(self.net_type, which) for which in ("latest", "previous", "best"))
        self.latest, self.previous, self.best = (self.folder / name for name in names)
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
            for old in epoch_checkpoints(self.folder, self.net_type)[: -self.keep or 0]:
                old.unlink(missing_ok=True)

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
                    if type(checkpoint.get("epoch")) is not int:
                        raise CheckpointError(f"{path} is not a checkpoint that a run here can go on from")
                    return checkpoint, path
                except CheckpointError as error:
                    errors.append(str(error))
                    self.latest_is_damaged |= path == self.latest
                    log.warning("%s; trying the checkpoint before it", error)
        if errors:
            raise CheckpointError(f"nothing to go on from: {'; '.join(errors)}; to start anew move the files away")
        if foreign := [*epoch_checkpoints(self.folder, self.net_type), *[self.best] * self.best.is_file()]:
            fault = f"{self.folder} holds {foreign[-1].name}, which training would overwrite, and no {self.latest.name}"
            raise CheckpointError(f"{fault} to go on from: choose another --save_dir, or move the files away")
        return None


def require_unchanged(options: RunOptions, cfg: EasyDict, checkpoint: dict[str, Any], path: Path) -> None:
    """Raise a UserError if an option that decides the result is another than a checkpoint's; older ones keep none."""
    before = saved_config(checkpoint)
    if not before or options.allow_changes:
        return
    then, now = (dict(leaves(tree)) for tree in (before, cfg))
    changed = []
    for key in sorted({*then, *now}):
        default = OPTIONS[key].fallback if key in OPTIONS else None
        old, new = then.get(key, default), now.get(key, default)
        if old != new and not key.startswith(_FREE):
            changed.append(f"{key} was {old}, is {new}")
    if changed:
        remedy = "give the same --opts and YAML file, add --allow_changes, or choose another --save_dir"
        raise UserError(f"{path} is of a run with another configuration ({'; '.join(changed)}): {remedy}")
