"""Tracking one object in a user's own video."""

import itertools
import math
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ...config.loader import experiment_name
from ...data.box_files import box_doubt
from ...data.registry import SAMPLE_PREFIX, find_sample
from ...utils.errors import UserError
from ...utils.progress import progress_bar
from ...utils.workspace import workspace
from ..tracker import Tracker, create_tracker, learned_score
from ..tracker.refiner import with_masks
from . import output as video
from .source import FrameSource, NewestFrames, open_source

DEFAULT_TRACKER = ("stark_lightning_X_trt", "mini")


def video_demo(
    tracker: str,
    config: str,
    source: str,
    init_bbox: Sequence[float] | None = None,
    save_results: bool = False,
    output: Path | None = None,
    overwrite: bool = False,
    no_window: bool = False,
    debug: bool = False,
    refine: str | None = None,
    refine_checkpoint: str | None = None,
    refine_precision: str | None = None,
    newest: bool = False,
    built: Tracker | None = None,
    **how: Any,
) -> int:
    """Track an object in a video, a folder of images or a camera's picture, write the result, and count the frames.

    Args:
        tracker, config, how: as `lib.test.tracker.create_tracker` takes them.
        source: as `open_source` takes it, or `sample:NAME` of `lib.data.registry`.
        init_bbox: the object in the first frame, xywh in pixels; by default a sample's own, or drawn by the user.
        output: folder of the results; a new `output/<source>_<tracker>_<config>` by default.
        refine: draw masks, too, of a network as configured in `experiments/alpha_refine/`.
        refine_checkpoint: its weights; see `lib.test.tracker.find_weights`.
        refine_precision: of masks; that of the tracker by default.
        newest: of a camera or stream take the newest frame, and count those that are dropped.
        built: a tracker, of `build_tracker`, to use in place of a new one.

    Raises:
        UserError: the source, the box, the tracker or the folder is unusable, or there is nowhere to draw a box.
    """
    obstacle = "--no_window is given" if no_window else video.missing_display()
    if source.startswith(SAMPLE_PREFIX):
        path, sample = find_sample(source)
        source, init_bbox = str(path), sample.box if init_bbox is None else init_bbox
    if init_bbox is None and obstacle:
        raise UserError(f"give the object as --init_bbox x y w h; it cannot be drawn: {obstacle}")
    frames = open_source(source, newest)
    first = next(frames.frames)
    if init_bbox is not None:
        check_box(init_bbox, first)
    built = built or build_tracker(tracker, config, refine, refine_checkpoint, refine_precision, **how)
    with closing(video.Window()) if obstacle is None else nullcontext() as window:
        box = init_bbox or window.select_box(first)
        if box is None:
            raise UserError("no box was drawn: draw one around the object, or give --init_bbox x y w h")
        name = f"{frames.name}_{tracker}_{experiment_name(config)}"
        folder = video.result_folder(workspace("test").save_dir / "output" / name, output, overwrite)
        with video.result_writer(folder, video.video_size(first), frames.fps, save_results) as write:
            count, stopped = run_demo(built, first, frames, box, write, window, debug)
    if frames.total and not stopped and count != frames.total:
        print(f"note: {count} frames were read, but {source} says that it holds {frames.total}; its end may be damaged")
    if isinstance(frames.frames, NewestFrames):
        frames.frames.close()
        print(f"{frames.frames.dropped} frames came while others were tracked, and were dropped")
    for name in (video.VIDEO, video.BOXES, video.TABLE) if save_results else (video.VIDEO,):
        print(f"wrote {folder / name}")
    return count


def build_tracker(
    tracker: str,
    config: str,
    refine: str | None = None,
    refine_checkpoint: str | None = None,
    refine_precision: str | None = None,
    **how: Any,
) -> Tracker:
    """The tracker of `video_demo`, whose arguments these are."""
    built = create_tracker(tracker, config, **how)
    if refine is None:
        return built
    how |= {"precision": refine_precision} if refine_precision else {}
    same = {name: how[name] for name in ("device", "engine", "precision") if name in how}
    return with_masks(built, refine, refine_checkpoint, **same)


def run_demo(
    tracker: Any,
    first: np.ndarray,
    source: FrameSource,
    box: Sequence[float],
    write: video.FrameWriter,
    window: video.Window | None = None,
    debug: bool = False,
) -> tuple[int, bool]:
    """Track through all frames and print the speed; in the window r draws the box anew and q ends.

    Args:
        tracker: as `lib.test.tracker.create_tracker` gives it.
        first: the first frame, (H, W, 3) uint8 RGB; `source` gives those after it.
        box: the object in the first frame, xywh in pixels.

    Returns:
        The number of frames, and whether the user ended it.
    """
    start, seconds, size = time.perf_counter(), 0.0, video.video_size(first)
    found: dict[str, Any] = {"target_bbox": list(map(float, box))}
    tracker.initialize(first, {"init_bbox": found["target_bbox"]})

    def annotated() -> np.ndarray:
        words, score = [f"frame {number}"], found.get("conf_score")
        if score is not None:
            kind = found.get("conf_kind", "score")
            words.append(f"{'confidence' if kind == 'score' else kind} {score:.2f}")
        if seconds:
            words.append(f"{(number - 1) / seconds:.0f} FPS")
        boxes = [(found["target_bbox"], video.box_colour(learned_score(found)))]
        return video.draw_overlay(image, size, "   ".join(words), boxes, found.get("mask"))

    with progress_bar(source.name, "frames", total=source.total) as bar:
        for number, image in enumerate(itertools.chain([first], source.frames), start=1):
            if number > 1:
                before = time.perf_counter()
                found = tracker.track(image)
                seconds += time.perf_counter() - before
                if not all(map(math.isfinite, found["target_bbox"])):
                    box = list(map(float, found["target_bbox"]))
                    raise UserError(f"the tracker gave {box} for frame {number}: its weights may be damaged")
            canvas = annotated()
            key = window.show(canvas) if window else ""
            if key == "r" and (drawn := window.select_box(image)) is not None:
                found = {"target_bbox": drawn}
                tracker.initialize(image, {"init_bbox": drawn})
                canvas = annotated()
            box, score = found["target_bbox"], found.get("conf_score")
            write(canvas, box, score)
            bar.update()
            if debug:
                confidence = "" if score is None else f"  confidence {score:.3f}"
                bar.write(f"frame {number}: {' '.join(f'{value:.1f}' for value in box)}{confidence}")
            if key == "q":
                break
    whole = number / (time.perf_counter() - start)
    speed = f"; {(number - 1) / seconds:.1f} FPS in the tracker, {whole:.1f} FPS with all else" if seconds else ""
    print(f"{number} frames{speed}")
    return number, key == "q"


def check_box(box: Sequence[float], image: np.ndarray) -> None:
    """Raise a UserError for a box xywh that has no area, or lies outside the image (H, W, 3)."""
    plain, (height, width) = " ".join(f"{value:g}" for value in box), image.shape[:2]
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        raise UserError(f"the box must be four numbers x y w h in pixels, with w and h above 0, not {plain}")
    if box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
        raise UserError(f"the box {plain} (x y w h) lies outside the first frame, which is {width}x{height}")
    if doubt := box_doubt(np.array([box], np.float64), width, height):
        print(f"note: {doubt}")
