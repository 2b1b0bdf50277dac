"""The output of a run: text and JSON lines, numbers for the loggers, pictures of samples, a progress bar."""

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import torch
import yaml
from torch import Tensor
from torchvision.transforms.functional import resize
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks, make_grid
from tqdm import tqdm

from ..utils.checkpoint import to_plain
from ..utils.files import write_text
from ..utils.progress import progress_bar
from ..utils.tensors import box_iou, sort_corners, xywh_to_xyxy
from .loader import Batch
from .loggers import LOGGERS, Logger, RunInfo, TensorBoard
from .losses import Outcome

PACKAGE = __package__.partition(".")[0]  # the name of the logger of all modules
PANEL = 16  # samples that a validation shows: its first ones, so always the same
TRUTH, PREDICTION = "lime", "red"

log = logging.getLogger(__name__)


@dataclass
class Meters:
    """Running means of scalars, by name."""

    sums: dict[str, float | Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def update(self, values: Mapping[str, Tensor]) -> None:
        """Add scalars. They stay on their device, for which nothing waits here."""
        for name, value in values.items():
            value = value.float() if value.device.type == "mps" else value.double()  # MPS has no double
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def totals(self) -> dict[str, float]:
        return {name: float(total) for name, total in self.sums.items()}

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.totals().items()}


class RunLog:
    """Writes on rank 0; elsewhere everything here does nothing.

    This program's messages go to `<folder>/logs/<name>.log` and the console; numbers also to `logs/<name>.jsonl` and
    the loggers of LOG.TO (`to`): TensorBoard's `<events>/<name>/`, wandb, mlflow. Everything is on disk when a call
    returns.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        active: bool = True,
        events: Path | None = None,
        to: Sequence[str] = ("tensorboard",),
    ) -> None:
        self.active, self.to = active, to
        self.handlers: list[logging.Handler] = []
        self.loggers: list[Logger] | None = None if active else []  # None until the first numbers
        if not active:
            return
        self.numbers = folder / "logs" / f"{name}.jsonl"
        self.run = RunInfo(name, self.numbers.parent, (events or folder / "tensorboard") / name)
        self.numbers.parent.mkdir(parents=True, exist_ok=True)
        text = logging.FileHandler(self.numbers.with_suffix(".log"), encoding="utf-8", errors="backslashreplace")
        logging.getLogger(PACKAGE).setLevel(logging.INFO)
        for handler, style in ((text, "%(asctime)s %(message)s"), (_AboveBar(), "%(message)s")):
            handler.setFormatter(logging.Formatter(style, "%Y-%m-%d %H:%M:%S"))
            logging.getLogger(PACKAGE).addHandler(handler)
            self.handlers.append(handler)

    def configuration(self, cfg: Mapping, made_by: Mapping[str, str]) -> None:
        """Keep the configuration and what made the run in the loggers and `logs/<name>.yaml`, for `--config`."""
        if not self.active:
            return
        plain = to_plain(dict(cfg))
        text = yaml.safe_dump(plain, sort_keys=False)
        comment = "".join(f"# {name}: {value}\n" for name, value in made_by.items() if value)
        write_text(self.numbers.with_suffix(".yaml"), comment + text)
        log.info("configuration: %s; command: %s", self.numbers.with_suffix(".yaml"), made_by["command"])
        self.run = replace(self.run, config=plain, text=f"```\n{comment}{text}```")

    def bar(self, steps: int, start: int, title: str) -> tqdm:
        """A progress bar over the steps of an epoch, on stderr."""
        return progress_bar(title, "batches", total=steps, done=start, leave=False, disable=not self.active)

    def interval(
        self, loader: str, epoch: int, step: int, steps: int, values: Mapping[str, float | Mapping[str, float]]
    ) -> None:
        """The numbers since the last interval: the published text line, a JSON line, curves by step.

        Args:
            loader: `train` or `val`; epochs count from 1, and of their `steps` so many (`step`) are finished.
            values: `samples_per_second` over all processes, means of losses and measures, and for training `lr` by
                parameter group and `data_wait` as a share of the time.
        """
        if not self.active:
            return
        log.info("[%s: %d, %d / %d] %s", loader, epoch, step, steps, " , ".join(map(_text, values, values.values())))
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        entry = {"time": now, "loader": loader, "epoch": epoch, "step": step, "steps": steps, **values}
        with open(self.numbers, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if loader == "train":  # a validation is one interval; `curves` by epoch show it
            rates = {f"lr/{group}": rate for group, rate in values["lr"].items()}
            scalars = {name: value for name, value in values.items() if name != "lr"}
            self.curves("train_steps", (epoch - 1) * steps + step, scalars | rates)

    def curves(self, title: str, step: int, values: Mapping[str, float]) -> None:
        """Points of the loggers' curves; those of `train_steps` are by step, others by epoch."""
        self.begin()
        for logger in self.loggers:
            logger.curves(title, step, values)

    def pictures(self, title: str, epoch: int, shown: Sequence[tuple[Batch, Outcome]]) -> None:
        """Samples in TensorBoard as one picture; see `panel`."""
        self.begin()
        for board in (logger for logger in self.loggers if isinstance(logger, TensorBoard)):
            board.picture(f"{title}/samples", epoch, panel(shown))

    def close(self, failed: bool = False) -> None:
        """Write no longer; loggers note whether the run has `failed` or was stopped."""
        logging.getLogger(PACKAGE).setLevel(logging.NOTSET)
        for handler in self.handlers:
            logging.getLogger(PACKAGE).removeHandler(handler)
            handler.close()
        for logger in self.loggers or ():
            logger.close(failed)

    def begin(self, purge_step: int | None = None) -> None:
        """Open the loggers, unless they are; a run that goes on says from which step on its points come again."""
        if self.loggers is None:
            self.loggers = [LOGGERS[name](self.run, purge_step) for name in self.to]


class _AboveBar(logging.Handler):
    """Text lines on stdout, above the progress bar; a closed terminal does not end the run."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            tqdm.write(self.format(record))


def _text(name: str, value: float | Mapping[str, float]) -> str:
    """A number in the text line."""
    if isinstance(value, Mapping):
        return f"{name}: " + " / ".join(f"{each:.1e}" for each in value.values())
    if name == "samples_per_second":
        return f"FPS: {value:.1f}"
    if name == "data_wait":
        return f"data: {value:.0%}"
    return f"{name}: {value:.5f}"


def panel(shown: Sequence[tuple[Batch, Outcome]]) -> Tensor:
    """The first `PANEL` samples of batches, two a row, as one picture (3, H, W) uint8; see `draw_sample`."""
    samples = [(batch, outcome, number) for batch, outcome in shown for number in range(len(batch.search))]
    return make_grid([draw_sample(*each) for each in samples[:PANEL]], nrow=2)


def draw_sample(batch: Batch, outcome: Outcome, number: int) -> Tensor:
    """Template(s) and search region of a batch's sample, side by side, (3, S, W) uint8, with their brightness.

    The true box is green, the predicted one red with its IoU, and a predicted mask reddish. An absent object has no
    box. Where only the score head is trained, the score stands at the corner.
    """
    crops = [*batch.templates[:, number], batch.search[number]]
    lit = [crop.float() * brightness for crop, brightness in zip(crops, batch.brightness[:, number], strict=True)]
    *templates, search = (crop.clamp(max=255).round().byte().permute(2, 0, 1) for crop in lit)
    side = search.shape[-1]
    truth = xywh_to_xyxy(batch.boxes[number].float()).clamp(0, 1)
    if outcome.masks is not None:
        search = draw_segmentation_masks(search, outcome.masks[number].cpu() > 0.5, alpha=0.5, colors=PREDICTION)
    if batch.labels[number] > 0.5:
        search = draw_bounding_boxes(search, side * truth[None], colors=TRUTH, width=2)
    if outcome.boxes is not None:
        predicted = sort_corners(outcome.boxes[number].float().cpu()).clamp(0, 1)
        label = f"IoU {box_iou(predicted, truth)[0]:.2f}"
        search = draw_bounding_boxes(search, side * predicted[None], [label], colors=PREDICTION, width=2)
    if outcome.scores is not None:
        corner = torch.tensor([[0, 0, side, side]])
        search = draw_bounding_boxes(search, corner, [f"score {outcome.scores[number]:.2f}"], colors=PREDICTION)
    return torch.cat([*(resize(template, [side, side]) for template in templates), search], dim=2)
