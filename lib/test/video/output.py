"""What a demo leaves: an annotated video, and the boxes as text."""

import itertools
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from lib.test.evaluation.result_files import to_integers
from lib.utils.errors import UserError
from lib.utils.files import atomic_path, write_text

VIDEO, BOXES, TABLE = "video.mp4", "boxes.txt", "boxes.csv"

# MPEG-4 Part 2: the one mp4 codec that every build of OpenCV can write.
_CODEC = "mp4v"
_LARGEST_SIDE = 4096  # pixels; far larger frames exceed what the codec and most players take


def result_folder(default: Path, output: Path | None, overwrite: bool) -> Path:
    """Choose and make the folder of one run's results.

    Args:
        default: where they go if the user names no folder; `<default>_2`, `_3`, … where results are already.
        output: the folder that the user named.
        overwrite: whether results that are there may be replaced.

    Raises:
        UserError: the user's folder holds results already, or cannot be made.
    """
    try:
        if output is not None or overwrite:
            folder = output or default
            found = [name for name in (VIDEO, BOXES, TABLE) if (folder / name).exists()]
            if found and not overwrite:
                raise UserError(f"{folder} already holds {', '.join(found)}: give another --output, or --overwrite")
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        default.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            folder = default if number == 1 else default.with_name(f"{default.name}_{number}")
            try:
                folder.mkdir()  # one step, so that two runs at once get two folders
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise UserError(f"cannot make the folder {error.filename}: {error.strerror}") from error


def fit_frame(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float, tuple[int, int]]:
    """Scale an image into a canvas of another size, keeping its proportions; the rest is black.

    Args:
        image: (H, W, 3) uint8.
        size: width and height of the canvas.

    Returns:
        The canvas, a copy; the factor of the scaling; the place (x, y) of the image's corner in it.
    """
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    if (image.shape[1], image.shape[0]) != size:
        inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    x, y = (width - image.shape[1]) // 2, (height - image.shape[0]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas, scale, (x, y)


def video_size(image: np.ndarray) -> tuple[int, int]:
    """Width and height of the video that a first frame starts: even, as codecs want, and not beyond their limit."""
    height, width = image.shape[:2]
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    width, height = (max(2, round(side * scale)) for side in (width, height))
    return width + width % 2, height + height % 2


class ResultWriter:
    """Writes the video frame by frame and the boxes at the end; a context manager.

    Leaving the context finishes the files under their final names. An error or Ctrl-C inside keeps
    the frames so far as a whole video; without any frame, nothing is left.

    Args:
        folder: where the files go; it exists.
        size: width and height of the video, even.
        fps: frames a second.
        boxes: whether to write the boxes, too.

    Raises:
        UserError: the video cannot be written there (on entering), or was not written whole (on leaving).
    """

    def __init__(self, folder: Path, size: tuple[int, int], fps: float, boxes: bool) -> None:
        self.folder, self.size, self.with_boxes = folder, size, boxes
        # Two decimals: MPEG-4 holds the time of a frame as a fraction with a denominator of 16 bits.
        self.fps = max(round(fps, 2), 1.0)
        self._rows: list[tuple[list[float], float | None]] = []
        self._files = ExitStack()

    def __enter__(self) -> "ResultWriter":
        try:
            self._temporary = self._files.enter_context(atomic_path(self.folder / VIDEO))
        except OSError as error:
            raise UserError(f"cannot write into {self.folder}: {error.strerror}") from error
        self._video = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter_fourcc(*_CODEC), self.fps, self.size)
        if not self._video.isOpened():
            error = UserError(f"OpenCV cannot write an mp4 video of {self.size[0]}x{self.size[1]} here")
            self._discard_video(error)
            raise error
        return self

    def write(self, canvas: np.ndarray, box: list[float], score: float | None) -> None:
        """Add one frame.

        Args:
            canvas: what the video shows, (H, W, 3) uint8 RGB of the video's size.
            box: xywh in pixels of the frame itself.
            score: the tracker's confidence in [0, 1], None where it gave none.
        """
        # The video first: Ctrl-C in between leaves a frame without its box, never a box that looks like a lost frame.
        self._video.write(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
        self._rows.append((box, score))

    def written(self) -> list[Path]:
        """The files that this run leaves."""
        return [self.folder / name for name in (VIDEO, BOXES, TABLE)[: 3 if self.with_boxes else 1]]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._video.release()
        if not self._rows:
            self._discard_video(error or UserError("no frame"))
            with suppress(OSError):  # it may hold other files, and then stays
                self.folder.rmdir()
            return
        try:
            try:
                self._finish_video()
            finally:
                if self.with_boxes:
                    self._write_boxes()
        except OSError as failure:
            raise UserError(f"cannot write into {self.folder}: {failure.strerror}") from failure
        if kind is not None:
            print(f"stopped early; the {len(self._rows)} frames so far are kept in {self.folder}", file=sys.stderr)

    def _finish_video(self) -> None:
        """Give the video its name, if it is whole: OpenCV does not report a failed write."""
        found = _frame_count(self._temporary)
        if found < len(self._rows):
            damaged = UserError(
                f"{self.folder / VIDEO} could not be written whole ({found} of {len(self._rows)} frames): "
                "is the disk full?"
            )
            self._discard_video(damaged)  # makes room for the boxes, too
            raise damaged
        self._files.close()

    def _discard_video(self, reason: BaseException) -> None:
        self._files.__exit__(type(reason), reason, reason.__traceback__)

    def _write_boxes(self) -> None:
        """Text in the form of result files (whole pixels), and a table with fractions and confidence."""
        lines = ("\t".join(map(str, box)) + "\n" for box in to_integers(np.array([box for box, _ in self._rows])))
        write_text(self.folder / BOXES, "".join(lines))
        rows = ["frame,x,y,w,h,confidence\n"]
        for number, (box, score) in enumerate(self._rows, start=1):
            values = ",".join(f"{value:.2f}" for value in box)
            rows.append(f"{number},{values},{'' if score is None else f'{score:.4f}'}\n")
        write_text(self.folder / TABLE, "".join(rows))


def _frame_count(path: Path) -> int:
    """Frames of a video by its header; 0 where it is not a whole video."""
    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()
