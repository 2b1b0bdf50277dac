"""Tracking one object in a user's own video."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.config.loader import experiment_name
from lib.data.samples import PREFIX, find_sample
from lib.test.evaluation.running import Tracker
from lib.test.video.output import ResultWriter, fit_frame, result_folder, video_size
from lib.test.video.overlay import SURE, UNSURE, draw_box, draw_caption, draw_mask
from lib.test.video.source import FrameSource, open_source
from lib.test.video.window import Window, missing_display
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

DEFAULT_TRACKER = ("stark_lightning_X_trt", "mini")
_SURE_FROM = 0.5  # the confidence from which STARK-ST counts the object as seen


@dataclass
class DemoReport:
    """What a run did.

    Attributes:
        frames: frames in the result, the first included.
        tracked: frames that `track` was called for.
        track_seconds: time inside `track`.
        loop_seconds: time of the whole loop: reading, tracking, drawing, writing.
        stopped: whether the user ended it before the last frame.
    """

    frames: int = 0
    tracked: int = 0
    track_seconds: float = 0.0
    loop_seconds: float = 0.0
    stopped: bool = False

    def summary(self) -> str:
        """One line for the user."""
        line = f"{self.frames} frames"
        if self.tracked:
            tracker = self.tracked / max(self.track_seconds, 1e-9)
            line += f"; {tracker:.1f} FPS in the tracker, {self.frames / self.loop_seconds:.1f} FPS with all else"
        return line


def video_demo(
    tracker: str,
    config: str,
    source: str,
    init_bbox: Sequence[float] | None = None,
    save_results: bool = False,
    output: Path | None = None,
    overwrite: bool = False,
    checkpoint: str | None = None,
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
    no_window: bool = False,
    debug: bool = False,
    refine: str | None = None,
    refine_checkpoint: str | None = None,
    refine_precision: str | None = None,
) -> DemoReport:
    """Track an object in a video, a folder of images or a camera's picture, and write what was found.

    Args:
        tracker, config, checkpoint, device, engine, precision: as `lib.test.tracker.create_tracker` takes them.
        source: as `open_source` takes it, or `sample:NAME` of `lib.data.samples`.
        init_bbox: the object in the first frame, xywh in pixels; drawn by the user if None, but for a sample, which
            has one.
        save_results: write the boxes as text, too.
        output: folder of the results; `output/<source>_<tracker>_<config>` by default.
        overwrite: replace results of an earlier run.
        no_window: open no window even where there is a display.
        debug: print every frame's box.
        refine: draw masks, too, of a network as configured in `experiments/alpha_refine/`.
        refine_checkpoint: its weights; see `lib.test.tracker.refiner.refiner_weights`.
        refine_precision: of masks; `precision` by default.

    Raises:
        UserError: the source, the box, the tracker or the folder is unusable, or there is nowhere to draw a box.
    """
    obstacle = "--no_window is given" if no_window else missing_display()
    if source.startswith(PREFIX):
        path, sample = find_sample(source)
        source, init_bbox = str(path), sample.box if init_bbox is None else init_bbox
    if init_bbox is None and obstacle:
        raise UserError(f"give the object as --init_bbox x y w h; it cannot be drawn: {obstacle}")
    frames = open_source(source)
    first = next(frames.frames)
    if init_bbox is not None:
        check_box(init_bbox, first)
    # Imported here since the networks take a while to load, and the checks above do without.
    from lib.test.tracker import create_tracker

    built = create_tracker(tracker, config, checkpoint=checkpoint, device=device, engine=engine, precision=precision)
    if refine is not None:
        built = _refined(built, refine, refine_checkpoint, device, engine, refine_precision or precision)
    with ExitStack() as stack:
        window = None
        if obstacle is None:
            window = Window()
            stack.callback(window.close)
        box = init_bbox or window.select_box(first)
        if box is None:
            raise UserError("no box was drawn: draw one around the object, or give --init_bbox x y w h")
        name = f"{frames.name}_{tracker}_{experiment_name(config)}"
        folder = result_folder(workspace("test").save_dir / "output" / name, output, overwrite)
        writer = stack.enter_context(ResultWriter(folder, video_size(first), frames.fps, save_results))
        report = run_demo(built, first, frames, box, writer, window, debug)
    _say(report, source, frames.total, writer.written())
    return report


def _say(report: DemoReport, source: str, total: int | None, written: list[Path]) -> None:
    """Print how it went, of a source that said how many frames it has, and where the results are."""
    print(report.summary())
    if total and not report.stopped and report.frames < 0.9 * total:
        print(f"note: {source} says that it holds {total} frames; the end may be damaged")
    for path in written:
        print(f"wrote {path}")


def run_demo(
    tracker: Tracker,
    first: np.ndarray,
    source: FrameSource,
    box: Sequence[float],
    writer: ResultWriter,
    window: Window | None = None,
    debug: bool = False,
) -> DemoReport:
    """Track through all frames; in the window r draws the box anew and q ends.

    Args:
        tracker: `initialize` and `track` as in `lib.test.tracker`.
        first: the first frame, (H, W, 3) uint8 RGB.
        source: the frames after it.
        box: the object in the first frame, xywh in pixels.
        writer: takes the frames with the result drawn in, and the boxes.
        window: shows them; None without a display.
        debug: print every frame's box.

    Raises:
        UserError: a frame cannot be read, or the tracker gives no box.
    """
    report = DemoReport()
    start = time.perf_counter()
    box = [float(value) for value in box]
    tracker.initialize(first, {"init_bbox": box})
    image, score, mask = first, None, None
    with tqdm(total=source.total, desc=source.name, unit="frame") as bar:
        for image in _then(first, source.frames):
            if report.frames:
                box, score, mask = _track(tracker, image, report)
            fps = report.tracked / report.track_seconds if report.tracked else None
            canvas = annotate(image, writer.size, box, report.frames + 1, score, fps, mask)
            key = window.show(canvas) if window else ""
            if key == "r":
                drawn = window.select_box(image)
                if drawn is not None:
                    box, score = drawn, None
                    tracker.initialize(image, {"init_bbox": box})
                    canvas = annotate(image, writer.size, box, report.frames + 1, score, fps)
            writer.write(canvas, box, score)
            report.frames += 1
            bar.update()
            if debug:
                _print_box(bar, report.frames, box, score)
            if key == "q":
                report.stopped = True
                break
    report.loop_seconds = time.perf_counter() - start
    return report


def annotate(
    image: np.ndarray,
    size: tuple[int, int],
    box: Sequence[float],
    number: int,
    score: float | None,
    fps: float | None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """A frame of the result: the image fitted to `size`, with box, frame number, confidence and speed.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        size: width and height of the result.
        box: xywh in pixels of `image`.
        number: of the frame, from 1.
        score: confidence in [0, 1], where the tracker gives one; below 0.5 the box is orange.
        fps: the tracker's speed, where known.
        mask: (H, W) bool, the object's pixels in `image`, where they are known.
    """
    if mask is not None:
        image = image.copy()
        draw_mask(image, mask)
    canvas, scale, (left, top) = fit_frame(image, size)
    x, y, w, h = (value * scale for value in box)
    draw_box(canvas, [x + left, y + top, w, h], UNSURE if score is not None and score < _SURE_FROM else SURE)
    parts = [f"frame {number}"]
    if score is not None:
        parts.append(f"confidence {score:.2f}")
    if fps is not None:
        parts.append(f"{fps:.0f} FPS")
    draw_caption(canvas, "   ".join(parts))
    return canvas


def check_box(box: Sequence[float], image: np.ndarray) -> None:
    """Refuse a first box that shows nothing of the image.

    Args:
        box: xywh in pixels; it may reach outside the image.
        image: (H, W, 3), the first frame.

    Raises:
        UserError: not four finite numbers, no area, or wholly outside the image.
    """
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise UserError(f"the box must be four numbers x y w h in pixels, not {_plain(box)}")
    x, y, w, h = box
    if w <= 0 or h <= 0:
        raise UserError(f"the box {_plain(box)} (x y w h) is empty: width and height must be above 0")
    height, width = image.shape[:2]
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise UserError(f"the box {_plain(box)} (x y w h) lies outside the first frame, which is {width}x{height}")


def _track(
    tracker: Tracker, image: np.ndarray, report: DemoReport
) -> tuple[list[float], float | None, np.ndarray | None]:
    """One step, timed: box xywh, confidence and mask."""
    start = time.perf_counter()
    result = tracker.track(image)
    report.track_seconds += time.perf_counter() - start
    report.tracked += 1
    box = [float(value) for value in result["target_bbox"]]
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise UserError(f"the tracker gave {box} for frame {report.frames + 1}: its weights may be damaged")
    score = result.get("conf_score")
    return box, None if score is None else float(score), result.get("mask")


def _refined(tracker: Tracker, config: str, checkpoint: str | None, *how: str) -> Tracker:
    """A tracker that also gives masks; `how` is device, engine and precision."""
    from lib.test.tracker.masks import with_masks

    return with_masks(tracker, config, checkpoint, *how)


def _then(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _print_box(bar: tqdm, number: int, box: Sequence[float], score: float | None) -> None:
    confidence = "" if score is None else f"  confidence {score:.3f}"
    bar.write(f"frame {number}: {' '.join(f'{value:.1f}' for value in box)}{confidence}")


def _plain(box: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in box)
