"""The output of a run: text and JSON lines, TensorBoard curves and pictures of samples, a progress bar."""

import contextlib
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch
import yaml
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lib.train.loader import Batch
from lib.train.losses import Outcome
from lib.utils.boxes import box_iou, sort_corners, xywh_to_xyxy
from lib.utils.errors import UserError
from lib.utils.files import write_text
from lib.utils.safe_unpickle import to_plain

# Seconds between two states of the progress bar if stderr is a file, which keeps them all.
BAR_INTERVAL_IN_FILES = 30.0
MIB = 2**20

Colour = tuple[int, int, int]
TRUTH, PREDICTION, WHITE, GROUND = (64, 220, 64), (255, 64, 64), (255, 255, 255), (24, 24, 24)
# Pixels: regions are enlarged to this height at least, so that a box of a few pixels and the text can be seen.
LEAST_HEIGHT = 320
CAPTION_HEIGHT, GAP = 28, 4
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.55

log = logging.getLogger(__name__)


@dataclass
class Meters:
    """Running means of scalars, by name."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def update(self, values: Mapping[str, float | Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items()}


class RunLog:
    """Writes on rank 0; elsewhere everything here does nothing.

    This program's messages go to `<folder>/logs/<name>.log` and the console; numbers also to `logs/<name>.jsonl` and
    TensorBoard's `<events>/<name>/`. Everything is on disk when a call returns.
    """

    def __init__(self, folder: Path, name: str, active: bool = True, events: Path | None = None) -> None:
        self.active = active
        self.handlers: list[logging.Handler] = []
        self.writer: SummaryWriter | None = None
        if not active:
            return
        self.numbers, self.events = folder / "logs" / f"{name}.jsonl", (events or folder / "tensorboard") / name
        try:
            self.numbers.parent.mkdir(parents=True, exist_ok=True)
            self.events.mkdir(parents=True, exist_ok=True)
            text = logging.FileHandler(self.numbers.with_suffix(".log"), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            place = error.filename or folder
            raise UserError(f"cannot write the log {place}: {error.strerror}; choose another --save_dir") from error
        logging.getLogger("lib").setLevel(logging.INFO)
        for handler, style in ((text, "%(asctime)s %(message)s"), (_AboveBar(), "%(message)s")):
            handler.setFormatter(logging.Formatter(style, "%Y-%m-%d %H:%M:%S"))
            logging.getLogger("lib").addHandler(handler)
            self.handlers.append(handler)

    def configuration(self, cfg: Mapping, made_by: Mapping[str, str]) -> None:
        """Keep the effective configuration in `logs/<name>.yaml`, for `--config`, and above it what made the run."""
        if not self.active:
            return
        text = yaml.safe_dump(to_plain(dict(cfg)), sort_keys=False)
        comment = "".join(f"# {name}: {value}\n" for name, value in made_by.items() if value)
        write_text(self.numbers.with_suffix(".yaml"), comment + text)
        log.info("configuration: %s; command: %s", self.numbers.with_suffix(".yaml"), made_by["command"])

    def bar(self, steps: int, start: int, title: str) -> tqdm:
        """A progress bar over the steps of an epoch, on stderr."""
        interval = 0.1 if sys.stderr.isatty() else BAR_INTERVAL_IN_FILES
        how = {"unit": "batch", "leave": False, "mininterval": interval, "maxinterval": interval}
        return tqdm(total=steps, initial=start, desc=title, disable=not self.active, **how)

    def interval(
        self, loader: str, epoch: int, step: int, steps: int, values: Mapping[str, float | Mapping[str, float]]
    ) -> None:
        """The numbers since the last interval: the published text line, a JSON line, TensorBoard curves by step.

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
        """Points of TensorBoard curves."""
        if self.active:
            for name, value in values.items():
                self._board().add_scalar(f"{title}/{name}", value, step)
            self._board().flush()

    def pictures(self, title: str, epoch: int, batch: Batch, outcome: Outcome, limit: int = 4) -> None:
        """The first samples of a batch in TensorBoard, with truth and prediction; see `sample_pictures`."""
        if self.active:
            for number, picture in enumerate(sample_pictures(batch, outcome, limit), start=1):
                self._board().add_image(f"{title}/sample {number}", picture, epoch, dataformats="HWC")
            self._board().flush()

    def rewind(self, epoch: int, step: int, steps: int) -> None:
        """Remove the numbers that a resumed run writes again: all after `step` of the `steps` of `epoch`.

        The text log keeps its lines. Call it before any numbers are written.
        """
        if not self.active:
            return
        self._board(purge_step=(epoch - 1) * steps + step + 1)
        if self.numbers.is_file():
            lines = self.numbers.read_text(encoding="utf-8", errors="replace").splitlines()
            write_text(self.numbers, "".join(f"{line}\n" for line in lines if _is_before(line, epoch, step)))

    def close(self) -> None:
        """Write no longer."""
        logging.getLogger("lib").setLevel(logging.NOTSET)
        for handler in self.handlers:
            logging.getLogger("lib").removeHandler(handler)
            handler.close()
        if self.writer is not None:
            self.writer.close()

    def _board(self, purge_step: int | None = None) -> SummaryWriter:
        """TensorBoard's writer; it drops points of earlier runs from `purge_step` on."""
        if self.writer is None:
            self.writer = SummaryWriter(self.events, purge_step=purge_step)
        return self.writer


def memory_use(device: torch.device) -> dict[str, float]:
    """MiB of memory that this process holds, and on CUDA the most that its tensors took since the start."""
    use = {"memory_mib": psutil.Process().memory_info().rss / MIB}
    if device.type == "cuda":
        use["gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / MIB
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


def _is_before(line: str, epoch: int, step: int) -> bool:
    """Whether a line of `interval` is of an earlier step; a validation follows the last step of its epoch."""
    try:
        entry = json.loads(line)
        return entry["epoch"] < epoch or (entry["loader"], entry["epoch"]) == ("train", epoch) and entry["step"] <= step
    except (KeyError, TypeError, ValueError):
        return False  # a killed run did not finish it


@torch.no_grad()
def sample_pictures(batch: Batch, outcome: Outcome, limit: int = 4) -> np.ndarray:
    """Strips (N, H, W, 3) uint8 RGB of template(s) and search region of the first samples; captions above; N <= limit.

    They are as the network sees them, with their brightness. The true box is green, the predicted one red, a predicted
    mask reddish with the true one's outline in green. Where only the score head is trained, the caption has its score
    and whether the object is there; the stand-in box of an absent object is not drawn.
    """
    count = min(len(batch.search), limit)
    height = max(LEAST_HEIGHT, batch.search.shape[1])
    truth = xywh_to_xyxy(batch.boxes[:count].float()).clamp(0, 1)
    predicted = None if outcome.boxes is None else sort_corners(outcome.boxes[:count].float().cpu())
    strips = []
    for i in range(count):
        regions = zip((*batch.templates[:, i], batch.search[i]), batch.brightness[:, i], strict=True)
        crops = [_seen(crop, factor, height) for crop, factor in regions]
        captions = [[("dynamic template" if t else "template", WHITE)] for t in range(len(batch.templates))]
        search, caption = crops[-1], [("search", WHITE)]
        if outcome.masks is not None:
            _tint(search, outcome.masks[i], batch.object_masks[i])
        if batch.labels[i] > 0.5:
            _draw(search, truth[i], TRUTH)
            caption.append(("present" if predicted is None else "truth", TRUTH))
        else:
            caption.append(("absent", TRUTH))
        if predicted is not None:
            _draw(search, predicted[i], PREDICTION)
            caption += [("prediction", PREDICTION), (f"IoU {box_iou(predicted[i], truth[i])[0]:.2f}", WHITE)]
        if outcome.scores is not None:
            caption.append((f"score {outcome.scores[i]:.2f}", PREDICTION))
        strips.append(np.concatenate(list(map(_captioned, crops, [*captions, caption])), axis=1)[:, :-GAP])
    return np.stack(strips)


def _seen(crop: Tensor, brightness: Tensor, height: int) -> np.ndarray:
    """A crop (H, W, 3) uint8 with its brightness, `height` high."""
    pixels = (crop.float() * brightness).clamp(max=255).round().byte().numpy()
    width = round(pixels.shape[1] * height / pixels.shape[0])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)


def _tint(picture: np.ndarray, mask: Tensor, truth: Tensor) -> None:
    """Redden a picture where a mask (S, S) is likely, and draw the true mask's outline."""
    size = picture.shape[1::-1]
    likely = cv2.resize(mask.float().cpu().numpy(), size)[..., None]
    picture[:] = (picture * (1 - 0.5 * likely) + np.array(PREDICTION) * 0.5 * likely).round()
    shown = cv2.resize(truth.numpy().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    cv2.drawContours(picture, cv2.findContours(shown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0], -1, TRUTH, 1)


def _draw(picture: np.ndarray, box: Tensor, colour: Colour) -> None:
    """A box, xyxy in fractions of the picture, with a dark rim; parts outside are drawn along its border."""
    height, width = picture.shape[:2]
    corners = (box.numpy() * (width, height, width, height)).round().clip(1, (width - 2, height - 2) * 2)
    x1, y1, x2, y2 = map(int, corners)
    for line, thickness in ((GROUND, 3), (colour, 2)):
        cv2.rectangle(picture, (x1, y1), (x2, y2), line, thickness, cv2.LINE_AA)


def _captioned(picture: np.ndarray, words: list[tuple[str, Colour]]) -> np.ndarray:
    """A picture with a gap on its right, below a line of coloured words."""
    caption = np.full((CAPTION_HEIGHT, picture.shape[1], 3), GROUND, np.uint8)
    x = 6
    for text, colour in words:
        cv2.putText(caption, text, (x, CAPTION_HEIGHT - 9), FONT, FONT_SCALE, colour, 1, cv2.LINE_AA)
        x += cv2.getTextSize(text, FONT, FONT_SCALE, 1)[0][0] + 12
    return cv2.copyMakeBorder(np.concatenate((caption, picture)), 0, 0, 0, GAP, cv2.BORDER_CONSTANT, value=GROUND)
