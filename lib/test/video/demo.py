"""Tracking objects in a user's own video."""

import itertools
import math
import re
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ...config import experiment_name
from ...data.box_files import box_doubt, line_numbers
from ...data.registry import SAMPLE_PREFIX, find_sample
from ...utils.errors import UserError
from ...utils.files import read_text
from ...utils.progress import progress_bar
from ...utils.workspace import workspace
from ..tracker import Tracker, create_tracker, explains, learned_score
from ..tracker.refiner import with_masks
from . import attention
from . import output as video
from .attention import AttentionWriter, attention_writer
from .source import FrameSource, NewestFrames, open_source

MOST_OBJECTS = 64  # more lines are a sequence's boxes, not objects
DEFAULT_TRACKER = ("stark_lightning_X_trt", "mini")


def video_demo(
    tracker: str,
    config: str,
    source: str,
    init_bbox: Sequence[float] | Sequence[Sequence[float]] | None = None,
    save_results: bool = False,
    output: Path | None = None,
    overwrite: bool = False,
    no_window: bool = False,
    debug: bool = False,
    newest: bool = False,
    show: str | None = None,
    names: Sequence[str] = (),
    box_color: video.Colour | None = None,
    built: Tracker | None = None,
    **how: Any,
) -> int:
    """Track objects in a video, a folder of images or a camera's picture, write the result, and count the frames.

    The arguments are the options of `stark track`, but for these.

    Args:
        tracker, config, how: as `build_tracker` takes them.
        source: as `open_source` takes it, or `sample:NAME` of `lib.data.registry`.
        init_bbox: the object in the first frame, xywh in pixels, or those of several; by default a sample's own, or
            drawn by the user.
        output: folder of the results; a new `output/<source>_<tracker>_<config>` by default.
        built: a tracker, of `build_tracker`, to use in place of a new one.

    Raises UserError where source, box, tracker or folder is unusable, or there is nowhere to draw a box.
    """
    layer = _layer_of(show)
    obstacle = "--no_window is given" if no_window else video.missing_display()
    frames, first, boxes = _begin(source, init_bbox, newest, obstacle)
    built = built or build_tracker(tracker, config, **how)
    with closing(video.Window()) if obstacle is None else nullcontext() as window:
        if not boxes and (drawn := window.select_box(first)):
            boxes = [drawn]
        if not boxes:
            raise UserError("no box was drawn: draw one around the object, or give --init_bbox x y w h")
        objects = Objects(built, boxes, names, box_color)
        _warm_up(built, first, boxes[0], show, layer)
        name = f"{frames.name}_{tracker}_{experiment_name(config)}"
        folder = video.result_folder(workspace("test").save_dir / "output" / name, output, overwrite)
        with (
            attention_writer(folder, frames.fps, layer) if show else nullcontext() as explain,
            video.result_writer(folder, frames.fps, save_results, objects.names) as write,
        ):
            count, stopped = run_demo(objects, first, frames, write, window, debug, explain)
    if frames.total and not stopped and count != frames.total:
        print(f"note: {count} frames were read, but {source} says that it holds {frames.total}; its end may be damaged")
    if isinstance(frames.frames, NewestFrames):
        frames.frames.close()
        print(f"{frames.frames.dropped} frames came while others were tracked, and were dropped")
    looked = [attention.VIDEO] if show and count > 1 else []
    for name in (video.VIDEO, *looked, *(video.box_files(len(boxes)) if save_results else ())):
        print(f"wrote {folder / name}")
    return count


def _begin(source: str, init_bbox: Any, newest: bool, obstacle: str | None) -> tuple[FrameSource, np.ndarray, list]:
    """The frames, the first of them, and the boxes in it; none where the user will draw them."""
    if source.startswith(SAMPLE_PREFIX):
        path, sample = find_sample(source)
        source, init_bbox = str(path), sample.box if init_bbox is None else init_bbox
    if init_bbox is None and obstacle:
        raise UserError(f"give the object as --init_bbox x y w h; it cannot be drawn: {obstacle}")
    frames = open_source(source, newest)
    first = next(frames.frames)
    boxes = [] if init_bbox is None else np.atleast_2d(np.asarray(init_bbox, np.float64)).tolist()
    for each in boxes:
        check_box(each, first)
    return frames, first, boxes


def _warm_up(built: Tracker, first: np.ndarray, box: Sequence[float], show: str | None, layer: int | None) -> None:
    """Track a frame off the clock, since engines may compile; a UserError where there is nothing of it to `show`."""
    if show and not explains(built):
        raise UserError(f"--show {show} needs a STARK network on --engine torch")
    built.initialize(first, {"init_bbox": box})
    built.track(first)
    if show:
        attention.draw_explanation(built.explain(), layer)


def build_tracker(
    tracker: str,
    config: str,
    refine: str | None = None,
    refine_checkpoint: str | None = None,
    refine_precision: str | None = None,
    **how: Any,
) -> Tracker:
    """A tracker, which also gives masks where `refine` is a configuration of Alpha-Refine.

    `how` is as `lib.test.tracker.create_tracker` takes it. Masks have the tracker's precision by default.
    """
    built = create_tracker(tracker, config, **how)
    if refine is None:
        return built
    how |= {"precision": refine_precision} if refine_precision else {}
    same = {name: how[name] for name in ("device", "engine", "precision") if name in how}
    return with_masks(built, refine, refine_checkpoint, **same)


class Objects:
    """The objects of a video, each with a tracker of its own on the same network.

    `boxes` are xywh in pixels of the first frame. Raises UserError where there are other numbers of boxes and of names.
    """

    def __init__(
        self,
        tracker: Any,
        boxes: Sequence[Sequence[float]],
        names: Sequence[str] = (),
        colour: video.Colour | None = None,
    ) -> None:
        self.trackers = [tracker, *(tracker.spawn() for _ in boxes[1:])]
        self.names = [*names] if names or len(boxes) == 1 else [str(number) for number in range(1, len(boxes) + 1)]
        if len(self.names) not in (0, len(boxes)):
            raise UserError(f"there are {len(boxes)} boxes and {len(names)} names: give a name for each, or none")
        self.colour = colour
        self.found: list[dict[str, Any]] = [{"target_bbox": list(map(float, box))} for box in boxes]

    def start(self, image: np.ndarray) -> None:
        """Start all on a frame, at the boxes that they have."""
        for tracker, found in zip(self.trackers, self.found, strict=True):
            tracker.initialize(image, {"init_bbox": found["target_bbox"]})

    def track(self, image: np.ndarray, number: int) -> None:
        """Find all in the next frame, of that number; raises UserError for a box that is not finite."""
        self.found = [tracker.track(image) for tracker in self.trackers]
        for found in self.found:
            if not all(map(math.isfinite, found["target_bbox"])):
                box = list(map(float, found["target_bbox"]))
                raise UserError(f"the tracker gave {box} for frame {number}: its weights may be damaged")

    @property
    def scored(self) -> list[video.Scored]:
        """Box and confidence of each."""
        return [(each["target_bbox"], each.get("conf_score")) for each in self.found]

    def draw(self, image: np.ndarray, size: tuple[int, int], caption: Sequence[str]) -> np.ndarray:
        """The frame of the video, with a caption of some parts; one object without a name has its score in it."""
        words, boxes, several = list(caption), [], len(self.found) > 1
        for index, found in enumerate(self.found):
            score, label = found.get("conf_score"), ""
            if self.names:
                name = self.names[index].encode("ascii", "replace").decode()  # what OpenCV can write
                label = name if score is None else f"{name} {score:.2f}"
            elif score is not None:
                kind = found.get("conf_kind", "score").replace("score", "confidence")
                words.insert(1, f"{kind} {score:.2f}")
            distinct = video.DISTINCT[index % (len(video.DISTINCT) - 1)]
            colour = self.colour or (distinct if several else video.box_colour(learned_score(found)))
            boxes.append((found["target_bbox"], colour, label))
        masks = [found["mask"] for found in self.found if "mask" in found]
        return video.draw_overlay(image, size, "   ".join(words), boxes, np.any(masks, axis=0) if masks else None)


def run_demo(
    objects: Objects,
    first: np.ndarray,
    source: FrameSource,
    write: video.FrameWriter,
    window: video.Window | None = None,
    debug: bool = False,
    explain: AttentionWriter | None = None,
) -> tuple[int, bool]:
    """Track through all frames and print the speed; in the window r draws the box of one object anew and q ends.

    `first` is the first frame, (H, W, 3) uint8 RGB; `source` gives those after it, which `explain` explains. Gives the
    number of frames, and whether the user ended it.
    """
    start, seconds, size = time.perf_counter(), 0.0, video.video_size(first)
    objects.start(first)
    with progress_bar(source.name, "frames", total=source.total) as bar:
        for number, image in enumerate(itertools.chain([first], source.frames), start=1):
            if number > 1:
                before = time.perf_counter()
                objects.track(image, number)
                seconds += time.perf_counter() - before
                if explain:
                    explain(number, *(each.explain() for each in objects.trackers))
            caption = [f"frame {number}", *([f"{(number - 1) / seconds:.0f} FPS"] if seconds else [])]
            canvas = objects.draw(image, size, caption)
            key = window.show(canvas) if window else ""
            if key == "r" and len(objects.found) == 1 and (drawn := window.select_box(image)) is not None:
                objects.found = [{"target_bbox": drawn}]
                objects.start(image)
                canvas = objects.draw(image, size, caption)
            write(canvas, objects.scored)
            bar.update()
            for name, (box, score) in zip(objects.names or [""], objects.scored, strict=True) if debug else ():
                confidence = "" if score is None else f"  confidence {score:.3f}"
                values = " ".join(f"{value:.1f}" for value in box)
                bar.write(f"frame {number}: {name}{': ' if name else ''}{values}{confidence}")
            if key == "q":
                break
    whole = number / (time.perf_counter() - start)
    speed = f"; {(number - 1) / seconds:.1f} FPS in the tracker, {whole:.1f} FPS with all else" if seconds else ""
    print(f"{number} frames{speed}")
    return number, key == "q"


def read_objects(path: Path) -> tuple[list[list[float]], list[str]]:
    """Boxes xywh and names of objects, from a text with one a line: `x,y,w,h` or `x,y,w,h,name`.

    Raises UserError where a line is something else, some objects alone have names, or there are too many.
    """
    boxes, names = [], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        *fields, name = [*re.split(r"[\s,;]+", line.strip(), maxsplit=4), "", "", "", ""][:5]
        values = line_numbers(" ".join(fields))
        if values is None or len(values) != 4:
            raise UserError(
                f"{path}, line {number}: {line.strip()[:60]!r} is not x, y, width, height, and perhaps a name"
            )
        boxes.append(values)
        names.append(name)
    if not 1 <= len(boxes) <= MOST_OBJECTS:
        raise UserError(f"{path} holds {len(boxes)} boxes: give 1 to {MOST_OBJECTS}, one an object, of the first frame")
    if all(names) != any(names):
        raise UserError(f"{path}: some lines have a name after the box and others have none")
    return boxes, [name for name in names if name]


def _layer_of(show: str | None) -> int | None:
    """The layer in `attention:N`, None for all; raises UserError for something else to show."""
    found = re.fullmatch(r"attention(?::([1-9]\d*))?", show or "attention")
    if not found:
        raise UserError(f"--show {show} is unknown: attention, or attention:2 for the second layer")
    return int(found[1]) if found[1] else None


def check_box(box: Sequence[float], image: np.ndarray) -> None:
    """Raise a UserError for a box xywh that has no area, or lies outside the image (H, W, 3)."""
    plain, (height, width) = " ".join(f"{value:g}" for value in box), image.shape[:2]
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        raise UserError(f"the box must be four numbers x y w h in pixels, with w and h above 0, not {plain}")
    if box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
        raise UserError(f"the box {plain} (x y w h) lies outside the first frame, which is {width}x{height}")
    if doubt := box_doubt(np.array([box], np.float64), width, height):
        print(f"note: {doubt}")
