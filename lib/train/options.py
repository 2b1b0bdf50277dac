"""Options of a training run, the networks that can be trained, and the places of a run's files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easydict import EasyDict
from torch import nn

from ..config import experiment_name, leaves, load_config, trained_config
from ..config.options import OPTIONS
from ..utils.checkpoint import load_checkpoint, load_state
from ..utils.checkpoint_files import NET_TYPES, CheckpointError, find_checkpoint, saved_config
from ..utils.errors import UserError

# Options that a resumed run may change: they decide neither samples nor the loss. With the cosine schedule TRAIN.EPOCH
# changes later learning rates; users lengthen runs on purpose.
_FREE = (
    *("DATA.VAL.", "TEST.", "TRAIN.EPOCH", "TRAIN.NUM_WORKER", "TRAIN.PRINT_INTERVAL", "TRAIN.VAL_EPOCH_INTERVAL"),
    *("TRAIN.KEEP_", "TRAIN.SAVE_EVERY_STEPS", "TRAIN.COMPILE", "LOG."),
)


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
        """The configuration of the trained network; that of the YAML file as long as there are no weights."""
        try:
            path = self.path(save_dir)
        except CheckpointError:  # which `load` reports
            return load_config(self.script, self.config)
        return trained_config(self.script, self.config, path)[0]

    def load(self, net: nn.Module | None, save_dir: Path) -> tuple[dict[str, Any], Path]:
        """Load the weights into a network, if there is one; a score head may be missing. The checkpoint and its path.

        A CheckpointError if the file is missing or damaged, or does not fit.
        """
        path = self.path(save_dir)
        checkpoint = load_checkpoint(path)
        if net is not None:
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
        """The configuration's name."""
        return experiment_name(self.config)

    @property
    def folder(self) -> Path:
        """The folder of the run's checkpoints."""
        return checkpoint_folder(self.save_dir, self.script, self.config)

    @property
    def validation_may_be_missing(self) -> bool:
        """Whether missing validation sets are left out: where the user named other training sets, but none of these."""
        keys = {text.partition("=")[0].strip() for text in self.overrides}
        return "DATA.TRAIN.DATASETS_NAME" in keys and "DATA.VAL.DATASETS_NAME" not in keys


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
