"""What the command line of a training says, and the places that follow from it."""

from dataclasses import dataclass
from pathlib import Path

from lib.config.loader import experiment_name
from lib.train.networks import NETWORKS
from lib.utils.checkpoint import find_checkpoint


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
            CheckpointError: there is none; the message says where it was looked for.
        """
        if self.checkpoint is not None:
            return self.checkpoint
        return find_checkpoint(checkpoint_folder(save_dir, self.script, self.config), net_type(self.script))


@dataclass(frozen=True)
class RunOptions:
    """What the command line says.

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
        """The configuration's name, under which its files are kept."""
        return experiment_name(self.config)

    @property
    def folder(self) -> Path:
        """Where the run's checkpoints lie."""
        return checkpoint_folder(self.save_dir, self.script, self.config)

    @property
    def cache(self) -> Path:
        """Where the annotations of data sets are kept, once they are read."""
        return self.save_dir / "cache"

    @property
    def validation_may_be_missing(self) -> bool:
        """Whether validation sets that are not there are left out with a notice.

        Who trains on other sets than the configuration's has not asked for its validation sets.
        """
        keys = {text.partition("=")[0].strip() for text in self.overrides}
        return "DATA.TRAIN.DATASETS_NAME" in keys and "DATA.VAL.DATASETS_NAME" not in keys


def checkpoint_folder(save_dir: Path, script: str, config: str) -> Path:
    """`checkpoints/train/<script>/<config>/` under a save directory."""
    return save_dir / "checkpoints" / "train" / script / experiment_name(config)


def net_type(script: str) -> str:
    """The class name that a script's checkpoints carry."""
    return NETWORKS[script].__name__
