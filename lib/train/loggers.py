"""Where a run's curves go: TensorBoard, and by their own packages wandb and mlflow, which are optional.

A logger is made from a `RunInfo` and, where a run goes on, the step from which on its points come again. TensorBoard
drops the earlier ones; the others add them once more, at the same step or epoch.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from ..config import leaves
from ..utils.files import read_text, write_text

REMEDIES = {  # for errors of a logger's package
    "wandb": "run `wandb login`, or set WANDB_MODE=offline",
    "mlflow": "set MLFLOW_TRACKING_URI to a server that runs, or pip install mlflow",
}
_MAX_PARAMETER = 500  # characters of a value that every MLflow server takes


@dataclass(frozen=True)
class RunInfo:
    """The run as loggers know it."""

    name: str
    folder: Path  # of logs; `<name>.<logger>` keeps the run's id at the logger, by which it goes on
    events: Path  # TensorBoard's folder
    config: dict[str, Any] = field(default_factory=dict)
    text: str = ""  # the configuration for people

    def id_file(self, logger: str) -> Path:
        return self.folder / f"{self.name}.{logger}"

    def known_id(self, logger: str, purge_step: int | None) -> str | None:
        """The id of the run that goes on; None for a new one."""
        path = self.id_file(logger)
        return read_text(path).strip() if purge_step is not None and path.is_file() else None


class TensorBoard:
    """Curves and pictures as TensorBoard's event files."""

    def __init__(self, run: RunInfo, purge_step: int | None = None) -> None:
        self.writer = SummaryWriter(run.events, purge_step=purge_step)
        self.writer.add_text("configuration", run.text)

    def close(self, failed: bool) -> None:
        self.writer.close()

    def curves(self, title: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve `<title>/<name>` of each value."""
        for name, value in values.items():
            self.writer.add_scalar(f"{title}/{name}", value, step)
        self.writer.flush()

    def picture(self, title: str, epoch: int, figure: Figure) -> None:
        self.writer.add_figure(title, figure, epoch)
        self.writer.flush()


class Wandb:
    """Curves at Weights & Biases: those of `train_steps` by `step`, others by `epoch`."""

    def __init__(self, run: RunInfo, purge_step: int | None = None) -> None:
        import wandb

        place = {"project": os.environ.get("WANDB_PROJECT", "stark"), "dir": os.environ.get("WANDB_DIR", run.folder)}
        known = run.known_id("wandb", purge_step)
        self.run = wandb.init(name=run.name, id=known, resume="allow", config=run.config, **place)
        write_text(run.id_file("wandb"), self.run.id)
        for title, axis in (("train_steps", "step"), ("train", "epoch"), ("val", "epoch")):
            self.run.define_metric(f"{title}/*", step_metric=axis)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))

    def curves(self, title: str, step: int, values: Mapping[str, float]) -> None:
        axis = "step" if title == "train_steps" else "epoch"
        self.run.log({axis: step} | {f"{title}/{name}": value for name, value in values.items()})


class Mlflow:
    """Curves at MLflow.

    Without MLFLOW_TRACKING_URI, which mlflow-skinny needs, runs are kept in `mlflow.db` beside the logs' folder.
    """

    def __init__(self, run: RunInfo, purge_step: int | None = None) -> None:
        import mlflow

        known = run.known_id("mlflow", purge_step)
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri(f"sqlite:///{run.folder.parent.absolute() / 'mlflow.db'}")
        started = mlflow.start_run(run_id=known, run_name=None if known else run.name)
        if not known:  # the parameters of a run cannot change
            mlflow.log_params({key: str(value)[:_MAX_PARAMETER] for key, value in leaves(run.config)})
        write_text(run.id_file("mlflow"), started.info.run_id)
        self.mlflow = mlflow

    def close(self, failed: bool) -> None:
        self.mlflow.end_run("FAILED" if failed else "FINISHED")

    def curves(self, title: str, step: int, values: Mapping[str, float]) -> None:
        self.mlflow.log_metrics({f"{title}/{name}": value for name, value in values.items()}, step=step)


Logger = TensorBoard | Wandb | Mlflow
LOGGERS = {"tensorboard": TensorBoard, "wandb": Wandb, "mlflow": Mlflow}
