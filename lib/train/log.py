"""The output of a run: text and JSON lines, numbers for the loggers, pictures of samples, a progress bar."""

import contextlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import matplotlib
import numpy as np
import psutil
import torch
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
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
WHOLE = (0, 1, 1, 0)  # crops are shown in these coordinates: fractions, y downwards

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
                parameter group, `data_wait` as a share of the time, and `memory_use`.
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
        """Samples in TensorBoard as one picture; see `panel_figure`."""
        self.begin()
        for board in (logger for logger in self.loggers if isinstance(logger, TensorBoard)):
            board.picture(f"{title}/samples", epoch, panel_figure(shown))

    def rewind(self, epoch: int, step: int, steps: int) -> None:
        """Remove the numbers that a resumed run writes again: all after `step` of the `steps` of `epoch`.

        The text log keeps its lines. Call it before any numbers are written.
        """
        self.begin(purge_step=(epoch - 1) * steps + step + 1)
        if self.active and self.numbers.is_file():
            kept, lines = [], self.numbers.read_text(encoding="utf-8", errors="replace").splitlines()
            for line in lines:
                with contextlib.suppress(KeyError, TypeError, ValueError):  # a killed run did not finish its last line
                    entry = json.loads(line)
                    # A validation follows the last step of its epoch.
                    if (entry["epoch"], entry["loader"] == "val", entry["step"]) <= (epoch, False, step):
                        kept.append(f"{line}\n")
            write_text(self.numbers, "".join(kept))

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


def memory_use(device: torch.device) -> dict[str, float]:
    """MiB of memory that this process holds, and on CUDA the most that its tensors took since the start."""
    use = {"memory_mib": psutil.Process().memory_info().rss / 2**20}
    if device.type == "cuda":
        use["gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return use


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
    if name.endswith("_mib"):
        return f"{name.removesuffix('_mib')}: {value / 1024:.1f} GiB"
    return f"{name}: {value:.5f}"


@matplotlib.rc_context({"axes.titlesize": 9})
def panel_figure(shown: Sequence[tuple[Batch, Outcome]]) -> Figure:
    """The first `PANEL` samples of batches, two a row: crops, boxes and score maps; see `draw_sample`."""
    samples = [(batch, outcome, number) for batch, outcome in shown for number in range(len(batch.search))][:PANEL]
    batch, outcome, _ = samples[0]
    width = len(batch.templates) + 1 + (outcome.attention is not None) + (outcome.maps is not None)
    rows, columns = -(-len(samples) // 2), min(len(samples), 2)
    figure = Figure(figsize=(1.9 * width * columns, 2.15 * rows), layout="constrained")
    axes = figure.subplots(rows, width * columns, squeeze=False).reshape(rows * columns, width)
    for row, (batch, outcome, number) in zip(axes, samples, strict=False):
        draw_sample(row, batch, outcome, number)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure


def draw_sample(axes: Sequence[Axes], batch: Batch, outcome: Outcome, number: int) -> None:
    """The template(s) and the search region of a batch's sample as the network sees them, with their brightness.

    The true box is green, the predicted one red and dashed, a predicted mask reddish with the true one's outline in
    green. Where only the score head is trained, the title has its score and whether the object is there; the stand-in
    box of an absent object is not drawn. On the last axes are attention from the centre of the predicted box, and the
    probabilities of the corners or the centre, each map as a part of its highest, over the search region in grey.
    """
    crops, present, pictures = [*batch.templates[:, number], batch.search[number]], batch.labels[number] > 0.5, []
    titles = ["template", *["dynamic template"] * (len(crops) - 2), "search" if present else "search, absent"]
    for axis, crop, brightness, title in zip(axes, crops, batch.brightness[:, number], titles, strict=False):
        pictures.append((crop.float() * brightness).clamp(max=255).round().byte().numpy())
        axis.imshow(pictures[-1], extent=WHOLE)
        axis.set_title(title)
    truth = xywh_to_xyxy(batch.boxes[number].float()).clamp(0, 1)
    boxes = [(truth, TRUTH, "-")] * bool(present)
    if outcome.masks is not None:
        red = np.zeros((*outcome.masks.shape[1:], 4))
        red[..., 0], red[..., 3] = 1, 0.5 * outcome.masks[number].float().cpu()
        axis.imshow(red, extent=WHOLE)
        axis.contour(batch.object_masks[number].numpy(), [0.5], colors=TRUTH, extent=(0, 1, 0, 1))
    if outcome.boxes is not None:
        predicted = sort_corners(outcome.boxes[number].float().cpu())
        boxes.append((predicted.clamp(0, 1), PREDICTION, "--"))
        axis.set_title(f"{title}: IoU {box_iou(predicted, truth)[0]:.2f}")
    if outcome.scores is not None:
        axis.set_title(f"{title}: score {outcome.scores[number]:.2f}")
    for (x, y, right, bottom), colour, style in boxes:
        axis.add_patch(Rectangle((x, y), right - x, bottom - y, fill=False, edgecolor=colour, lw=2, linestyle=style))
    heat = {} if outcome.attention is None else {"attention": outcome.attention[None, number]}
    if outcome.maps is not None:
        kind = "corners" if len(outcome.maps) == 2 else "centre"
        heat[kind] = outcome.maps[:, number].float().cpu().softmax(-1)
    for axis, (title, maps) in zip(reversed(axes), reversed(heat.items()), strict=False):
        maps = (maps / maps.amax(-1, keepdim=True)).amax(0)
        side = math.isqrt(len(maps))
        axis.imshow(pictures[-1].mean(-1), cmap="gray", vmin=0, vmax=255, extent=WHOLE)
        axis.imshow(maps.view(side, side).numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6, extent=WHOLE)
        axis.set_title(title)
