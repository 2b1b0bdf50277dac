"""Where data, checkpoints and results lie. Every path the project uses by default comes from here."""

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Workspace:
    """Folders of one working place.

    Attributes:
        data_dir: data sets, one folder each (`lasot`, `got10k`, `coco`, …).
        save_dir: what runs write: checkpoints, logs, results.
        pretrained_dir: ImageNet weights of backbones.
    """

    data_dir: Path
    save_dir: Path
    pretrained_dir: Path

    @property
    def checkpoint_dir(self) -> Path:
        """`checkpoints/train/<script>/<config>/…` lies under it."""
        return self.save_dir / "checkpoints"

    @property
    def results_dir(self) -> Path:
        """`<tracker>/<config>/<sequence>.txt` lies under it."""
        return self.save_dir / "test" / "tracking_results"

    @property
    def plots_dir(self) -> Path:
        """Plots and tables of evaluations."""
        return self.save_dir / "test" / "result_plots"


def workspace() -> Workspace:
    """The working place: this repository, or where STARK_DATA_DIR, STARK_SAVE_DIR, STARK_PRETRAINED_DIR point."""
    return Workspace(
        data_dir=Path(os.environ.get("STARK_DATA_DIR", REPOSITORY / "data")),
        save_dir=Path(os.environ.get("STARK_SAVE_DIR", REPOSITORY)),
        pretrained_dir=Path(os.environ.get("STARK_PRETRAINED_DIR", REPOSITORY / "pretrained_networks")),
    )
