"""Seeing what a tracker does on a test set: its boxes drawn into the frames."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.data.sequence import Sequence
from lib.test.evaluation.result_files import remove_temporaries
from lib.test.video.output import VIDEO, ResultWriter, fit_frame, video_size
from lib.test.video.overlay import SURE, UNSURE, draw_box, draw_caption
from lib.test.video.window import Window, missing_display
from lib.utils.errors import UserError
from lib.utils.files import atomic_path

DEBUG_LEVELS = (0, 1, 2)
FOLDER = "debug"
TRUTH = (255, 255, 255)

_FPS = 30.0
_SURE_FROM = 0.5  # the confidence from which STARK-ST counts the object as seen

# Takes a frame's index, the frame (H, W, 3) uint8 RGB, the tracker's box xywh and its confidence where it gives one.
DrawFrame = Callable[[int, np.ndarray, list[float], float | None], None]


@dataclass(frozen=True)
class Overlays:
    """Where the frames with boxes go: into a window, or into `<output_dir>/debug/[<subfolder>/]<sequence>/`.

    Attributes:
        output_dir: `<results>/<tracker>/<config>`.
        pictures: keep every frame as a JPEG, too, beside the video of the sequence.
        window: shows the frames instead, in this process.
    """

    output_dir: Path
    pictures: bool = False
    window: Window | None = None

    def folder(self, sequence: Sequence) -> Path:
        """Where a sequence's files go."""
        return self.output_dir / FOLDER / sequence.subfolder / sequence.name

    def are_drawn(self, sequence: Sequence) -> bool:
        """Whether an earlier run has left all files of a sequence; what a window shows is never done."""
        if self.window is not None:
            return False
        files = [VIDEO, _picture_name(0)] if self.pictures else [VIDEO]
        return all((self.folder(sequence) / name).is_file() for name in files)

    @contextmanager
    def drawing(self, sequence: Sequence) -> Iterator[DrawFrame]:
        """Give the function that draws one frame after the other; q in the window ends the whole run.

        Raises:
            UserError: a frame cannot be read, or the files cannot be written.
        """
        size = video_size(sequence.read_frame(0))
        truth = sequence.truth if len(sequence.truth) == len(sequence) else np.full((len(sequence), 4), np.nan)
        with self._target(sequence, size) as take:

            def draw(index: int, image: np.ndarray, box: list[float], score: float | None) -> None:
                caption = f"{sequence.name}   frame {index + 1} of {len(sequence)}"
                take(index, draw_overlay(image, size, caption, box, score, truth[index].tolist()), box, score)

            yield draw

    @contextmanager
    def _target(self, sequence: Sequence, size: tuple[int, int]) -> Iterator[DrawFrame]:
        """What takes the drawn frames of a sequence: the window, or the files."""
        if self.window is not None:
            yield self._show
            return
        folder = self.folder(sequence)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / VIDEO).unlink(missing_ok=True)  # it comes last, and says that all is there
        except OSError as error:
            raise UserError(f"cannot write into {folder}: {error.strerror}") from error
        for name in (VIDEO, "*.jpg"):
            remove_temporaries(folder / name)
        with ResultWriter(folder, size, _FPS, boxes=False) as writer:

            def keep(index: int, canvas: np.ndarray, box: list[float], score: float | None) -> None:
                writer.write(canvas, box, score)
                if self.pictures:
                    _save_picture(folder / _picture_name(index), canvas)

            yield keep

    def _show(self, _index: int, canvas: np.ndarray, *_: object) -> None:
        if self.window.show(canvas) == "q":
            raise KeyboardInterrupt


@contextmanager
def overlays_for(debug: int, output_dir: Path, alone: bool) -> Iterator[Overlays | None]:
    """Overlays of a debug level, None without; `alone` where one process tracks, which may open a window.

    Raises:
        UserError: an unknown level.
    """
    if debug not in DEBUG_LEVELS:
        raise UserError(f"--debug {debug}: expected one of {', '.join(map(str, DEBUG_LEVELS))}")
    obstacle = missing_display() if alone else "several processes track"
    if debug == 0:
        yield None
    elif debug == 1 and obstacle is None:
        window = Window()
        try:
            yield Overlays(output_dir, window=window)
        finally:
            window.close()
    else:
        why = f"no window: {obstacle}; " if debug == 1 else ""
        print(f"{why}overlays go to {output_dir / FOLDER}")
        yield Overlays(output_dir, pictures=debug > 1)


def draw_overlay(
    image: np.ndarray,
    size: tuple[int, int],
    caption: str,
    box: list[float],
    score: float | None = None,
    truth: list[float] | None = None,
) -> np.ndarray:
    """A frame fitted to `size`, with the true box in white and the tracker's in green, orange where it is unsure.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        size: width and height of the overlay.
        caption: a line for the corner, without the confidence.
        box: the tracker's, xywh in pixels of `image`.
        score: its confidence in [0, 1].
        truth: xywh; nan or None where it is not known.
    """
    canvas, scale, (left, top) = fit_frame(image, size)

    def fitted(box: list[float]) -> list[float]:
        return [box[0] * scale + left, box[1] * scale + top, box[2] * scale, box[3] * scale]

    if truth is not None and np.isfinite(truth).all():
        draw_box(canvas, fitted(truth), TRUTH)
    draw_box(canvas, fitted(box), UNSURE if score is not None and score < _SURE_FROM else SURE)
    draw_caption(canvas, caption if score is None else f"{caption}   confidence {score:.2f}")
    return canvas


def _picture_name(index: int) -> str:
    return f"{index + 1:08d}.jpg"


def _save_picture(path: Path, canvas: np.ndarray) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(cv2.imencode(".jpg", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))[1].tobytes())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
