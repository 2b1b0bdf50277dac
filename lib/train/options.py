"""Options of a training run, the networks that can be trained, and the places of a run's files."""

from dataclasses import dataclass
from pathlib import Path

from easydict import EasyDict
from torch import nn

from lib import models
from lib.config.loader import experiment_name
from lib.models.alpha_refine import SCRIPT as MASK_SCRIPT
from lib.models.alpha_refine import AlphaRefine
from lib.utils.checkpoint_files import find_checkpoint

NETWORKS: dict[str, type[nn.Module]] = {**models.NETWORKS, MASK_SCRIPT: AlphaRefine}


def build_network(script: str, cfg: EasyDict, pretrained: bool = False) -> nn.Module:
    """Build the network of a script; arguments and errors as of `lib.models.build_model`."""
    return AlphaRefine(cfg, pretrained) if script == MASK_SCRIPT else models.build_model(script, cfg, pretrained)


@dataclass(frozen=True)
class Stage:
    """Weights of another run: by its experiment, or as a file.

    Attributes:
        script, config: the experiment.
        checkpoint: the weights as a file, in place of the newest of the experiment.
    """

    script: str
    config: str = "baseline"
    checkpoint: Path | None = None

    def find(self, save_dir: Path) -> Path:
        """The file with the weights.

        Raises:
            CheckpointError: the file is missing; the message names the place.
        """
        if self.checkpoint is not None:
            return self.checkpoint
        return find_checkpoint(checkpoint_folder(save_dir, self.script, self.config), net_type(self.script))


@dataclass(frozen=True)
class RunOptions:
    """The options of the command line.

    Attributes:
        script, config: the experiment.
        save_dir: checkpoints, logs and TensorBoard files lie under it.
        previous: the stage whose weights this one starts from.
        teacher: the trained network that guides this one (`--distill`).
        use_lmdb: read data sets from LMDB.
        device: `auto`, `cpu`, `cuda`, `mps`.
        overrides: `KEY.PATH=value` texts.
    """

    script: str
    config: str
    save_dir: Path
    previous: Stage | None = None
    teacher: Stage | None = None
    use_lmdb: bool = False
    device: str = "auto"
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The configuration's name, which names its files."""
        return experiment_name(self.config)

    @property
    def folder(self) -> Path:
        """Where the run's checkpoints lie."""
        return checkpoint_folder(self.save_dir, self.script, self.config)

    @property
    def cache(self) -> Path:
        """The cache of the data sets' annotations."""
        return self.save_dir / "cache"

    @property
    def validation_may_be_missing(self) -> bool:
        """Whether missing validation sets are left out with a notice.

        A user who trains on other sets than the configuration's did not ask for its validation sets.
        """
        keys = {text.partition("=")[0].strip() for text in self.overrides}
        return "DATA.TRAIN.DATASETS_NAME" in keys and "DATA.VAL.DATASETS_NAME" not in keys


def checkpoint_folder(save_dir: Path, script: str, config: str) -> Path:
    """`checkpoints/train/<script>/<config>/` under a save directory."""
    return save_dir / "checkpoints" / "train" / script / experiment_name(config)


def net_type(script: str) -> str:
    """The class name that a script's checkpoints carry."""
    return NETWORKS[script].__name__
