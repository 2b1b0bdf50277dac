"""Frames with boxes drawn in, and where they go: a window, or a folder with a video and the boxes as text."""

import errno
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

try:
    import av
except ModuleNotFoundError:  # a third of what tracking alone takes on the disk
    av = None

from ...data.images import encode_jpeg
from ...utils.errors import UserError
from ...utils.files import atomic_path, write_text
from .source import opencv_path

VIDEO, BOXES, TABLE = "video.mp4", "boxes.txt", "boxes.csv"
RESULTS = (VIDEO, "boxes*.txt", TABLE, "attention.mp4", "attention/*.jpg")  # patterns

Colour = tuple[int, int, int]  # RGB
COLOURS = {"red": "e6194b", "orange": "ff8c00", "yellow": "ffe119", "green": "50ff50", "cyan": "42d4f4"}
COLOURS |= {"blue": "4363d8", "magenta": "f032e6", "white": "ffffff"}
# A box xywh in pixels of the tracked frame, and its confidence.
Scored = tuple[Sequence[float], float | None]
# Takes a frame of a video (H, W, 3) uint8 RGB, and what was found of each object.
FrameWriter = Callable[[np.ndarray, Sequence[Scored]], None]
SURE, UNSURE, TRUTH = (80, 255, 80), (255, 140, 0), (255, 255, 255)
# Of several objects: the colours of the project's pages on a dark ground, but for the last.
_CODES = ("3fa0e0", "f5813a", "22c493", "e79ac4", "f2b63c", "9bd7fb", "1e1e1e")
DISTINCT = [tuple(bytes.fromhex(code)) for code in _CODES]
_DARK = (16, 16, 16)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# H.264 plays everywhere, in browsers, too; a build without its encoder has MPEG-4.
_CODECS = ("libx264", "libopenh264", "mpeg4")
_LARGEST_SIDE = 4096  # pixels; far larger frames exceed what the codec and most players take
_TITLE = "STARK"
# Not all errors of FFmpeg are errors of the system: an encoder may refuse a size or a rate.
WRITE_ERRORS = (OSError, av.error.FFmpegError) if av else (OSError,)


def draw_overlay(
    image: np.ndarray,
    size: tuple[int, int],
    caption: str,
    boxes: Sequence[tuple[Sequence[float], Colour] | tuple[Sequence[float], Colour, str]],
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """A frame of a video: the image scaled into `size` (the rest is black), with boxes and a caption.

    Args:
        image: (H, W, 3) uint8 RGB; not changed. `mask` (H, W) bool has the object's pixels in it.
        size: width and height of the result.
        caption: one line of ASCII text.
        boxes: xywh in pixels of `image`, each with its colour, and perhaps ASCII text; one that is nan is not drawn.
    """
    image, (width, height) = image.copy(), size
    if mask is not None:  # tinted, with a dark line outside its outline
        image[mask] = ((image[mask].astype(np.uint16) + SURE) // 2).astype(np.uint8)
        line = max(1, round(min(image.shape[:2]) / 360))
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for thickness, paint in ((3 * line, _DARK), (line, SURE)):
            cv2.drawContours(image, outlines, -1, paint, thickness)
    for box, colour, *label in boxes:
        if np.isfinite(box).all():
            draw_box(image, box, colour)
            if label and label[0]:
                draw_caption(image, label[0], box, colour)
    if (image.shape[1], image.shape[0]) != size:
        scale = min(width / image.shape[1], height / image.shape[0])
        inner = [max(1, round(side * scale)) for side in (image.shape[1], image.shape[0])]
        image = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        below, right = height - image.shape[0], width - image.shape[1]
        borders = below // 2, below - below // 2, right // 2, right - right // 2
        image = cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT)
    draw_caption(image, caption)
    return image


def parse_colour(text: str) -> Colour:
    """A colour by its name in `COLOURS`, or as six hexadecimal digits, `ff8c00`; raises UserError for another text."""
    code = COLOURS.get(text.lower(), text.removeprefix("#"))
    if not re.fullmatch("[0-9a-fA-F]{6}", code):
        raise UserError(f"'{text}' is not a colour: give RRGGBB such as ff8c00, or {', '.join(COLOURS)}")
    return tuple(bytes.fromhex(code))


def box_colour(score: float | None) -> Colour:
    """Green, or orange where the confidence in [0, 1] is below that from which STARK-ST counts the object as seen."""
    return UNSURE if score is not None and score < 0.5 else SURE


def draw_box(image: np.ndarray, box: Sequence[float], colour: Colour) -> None:
    """Draw an xywh box into an image (H, W, 3), with a dark line on both sides so that it shows on any ground."""
    height, width = image.shape[:2]
    line = max(1, round(min(height, width) / 240))
    # OpenCV draws with 32-bit coordinates: far outside, a box is cut where it cannot be seen.
    x1, x2 = np.clip([box[0], box[0] + box[2]], -width, 2 * width).round().astype(int).tolist()
    y1, y2 = np.clip([box[1], box[1] + box[3]], -height, 2 * height).round().astype(int).tolist()
    for thickness, paint in ((line + 2 * max(1, line // 2), _DARK), (line, colour)):
        cv2.rectangle(image, (x1, y1), (x2, y2), paint, thickness)


def draw_caption(
    image: np.ndarray, text: str, box: Sequence[float] | None = None, colour: Colour = (255, 255, 255)
) -> None:
    """Write a line of ASCII text on a dark plate, smaller where the image is narrow.

    It stands in the top left corner, or on a box xywh, and where there is no room above, in it.
    """
    height, width = image.shape[:2]
    scale = min(max(min(height, width) / 720, 0.4), 3.0)
    (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    scale *= min(1.0, 0.94 * width / max(text_width, 1))
    thickness = max(1, round(scale * 1.4))
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    pad = max(2, text_height // 2)
    x, y, tall, wide = 0, 0, text_height + below + 2 * pad, text_width + 2 * pad
    if box is not None:
        x = round(np.clip(box[0], 0, max(0, width - wide)))
        y = round(np.clip(box[1] - tall if box[1] >= tall else box[1], 0, max(0, height - tall)))
    plate = image[y : y + tall, x : x + wide]
    plate //= 4
    colour = colour if max(colour) > 96 else (255, 255, 255)  # on the dark plate
    cv2.putText(image, text, (x + pad, y + pad + text_height), _FONT, scale, colour, thickness, cv2.LINE_AA)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8 RGB as a JPEG file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_jpeg(image))


def missing_display() -> str | None:
    """Why no window can be opened here, in a few words; None if one can."""
    if re.search(r"^\s*GUI:\s*NONE", cv2.getBuildInformation(), re.MULTILINE | re.IGNORECASE):
        packages = "pip uninstall opencv-contrib-python-headless; pip install opencv-contrib-python"
        return f"this OpenCV has no windows ({packages})"
    # Without a display Qt ends the whole process, so it has to be known before.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (DISPLAY is not set)"
    return None


class Window:
    """A window of OpenCV's, for (H, W, 3) uint8 RGB frames; call only where `missing_display()` is None."""

    def __init__(self) -> None:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(_TITLE, 1280, 720)

    def select_box(self, image: np.ndarray) -> list[float] | None:
        """Let the user draw a box: xywh in pixels, None where they draw none (c)."""
        image = image.copy()
        draw_caption(image, "draw a box around the object, then press Enter (c: cancel)")
        box = cv2.selectROI(_TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), True, False, False)
        return [float(value) for value in box] if box[2] > 0 and box[3] > 0 else None

    def show(self, image: np.ndarray) -> str:
        """Show a frame and give the key that was pressed, "" for none; closing the window counts as q."""
        cv2.imshow(_TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        code = cv2.waitKey(1)
        if cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return "q"
        return chr(code & 0xFF) if code != -1 else ""

    def close(self) -> None:
        cv2.destroyAllWindows()


def result_folder(default: Path, output: Path | None, overwrite: bool) -> Path:
    """Make the folder of a run's results: `output`, else `default`, or `<default>_2`, `_3`, … where that one exists.

    Raises UserError where it holds results already and may not be overwritten.
    """
    folder = output or default
    if output is None and not overwrite:
        numbers = itertools.count(2)
        while folder.exists():
            folder = default.with_name(f"{default.name}_{next(numbers)}")
    found = [path for pattern in RESULTS for path in sorted(folder.glob(pattern))]
    if found and not overwrite:
        names = ", ".join(path.name for path in found[:3])
        raise UserError(f"{folder} already holds {names}: give another --output, or --overwrite")
    for path in found:
        if path.name != VIDEO:  # it is replaced; what the new run does not write would stay beside it
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def video_size(image: np.ndarray) -> tuple[int, int]:
    """Width and height of the video that a first frame starts: even, as codecs want, and not beyond their limit."""
    height, width = image.shape[:2]
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    width, height = (max(2, round(side * scale)) for side in (width, height))
    return width + width % 2, height + height % 2


class VideoFile:
    """An H.264 video in MP4 that grows by a frame at a time; it starts to play before all of it is loaded.

    `size` is from `video_size`; `close` makes the file whole. All raise one of WRITE_ERRORS where the file cannot be
    written. Then it is of no use.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        codec = next(name for name in _CODECS if name in av.codecs_available)
        self.container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self.stream = self.container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        self.failed, (self.stream.width, self.stream.height) = False, size
        self.stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            self.stream.options = {"preset": "veryfast", "crf": "20"}

    def add(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB."""
        self._write(av.VideoFrame.from_ndarray(image, format="rgb24"))

    def close(self) -> None:
        """Write what is left and the file's index, unless a frame could not be written."""
        with self.container:
            if not self.failed:
                self._write(None)

    def _write(self, frame: "av.VideoFrame | None") -> None:
        try:
            self.container.mux(self.stream.encode(frame))
        except WRITE_ERRORS:
            self.failed = True  # FFmpeg would end the process at the next packet
            raise


class PlainVideoFile:
    """The same without PyAV: MPEG-4 by OpenCV, which browsers do not play. Arguments and errors as of `VideoFile`."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        print("note: the video is MPEG-4, which browsers do not play: for H.264 install PyAV (pip install av)")
        # Two decimals: MPEG-4 holds the time of a frame as a fraction with a denominator of 16 bits.
        self.video = cv2.VideoWriter(opencv_path(path), cv2.VideoWriter_fourcc(*"mp4v"), max(round(fps, 2), 1.0), size)
        if not self.video.isOpened():
            raise OSError(errno.EIO, f"OpenCV cannot write a video of {size[0]}x{size[1]}")

    def add(self, image: np.ndarray) -> None:
        self.video.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self.video.release()


@contextmanager
def video_writer(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Give the function that adds a frame (H, W, 3) uint8 RGB to a video; all get the size of the first.

    An error or Ctrl-C keeps the frames so far as a whole video; without a frame there is none. Raises UserError where
    it cannot be written; then nothing of it stays. Other errors of the body pass as they are.
    """
    temporary, video, size, count = path.with_name(f".{path.name}"), None, None, 0
    failure, stopped = None, True

    def add(image: np.ndarray) -> None:
        nonlocal video, size, count, failure
        try:
            if video is None:
                size = video_size(image)
                video = (VideoFile if av else PlainVideoFile)(temporary, size, fps)
            video.add(image if size == image.shape[1::-1] else cv2.resize(image, size))
        except WRITE_ERRORS as error:
            failure = error
            raise unwritten(path.parent, error) from error
        count += 1

    try:
        yield add
        stopped = False
    finally:
        try:
            if video is not None:
                video.close()
                if not failure:
                    temporary.replace(path)
        except WRITE_ERRORS as error:
            failure = failure or error
        temporary.unlink(missing_ok=True)  # which makes room for the boxes
        if stopped and count and not failure:
            print(f"stopped early; the {count} frames so far are kept in {path}", file=sys.stderr)
    if failure:
        raise unwritten(path.parent, failure)


def unwritten(folder: Path, error: Exception) -> UserError:
    """The line for a video or picture that cannot be written into a folder."""
    why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
    return UserError(f"the video cannot be written into {folder}: {why}; make room, or choose another --output")


@contextmanager
def result_writer(folder: Path, fps: float, boxes: bool, names: Sequence[str] = ()) -> Iterator[FrameWriter]:
    """Give the function that adds a frame to the video of a run, and with `boxes` to its texts; else as `video_writer`.

    The texts of several objects have their `names`. Without a frame not even the folder is left.
    """
    rows: list[Sequence[Scored]] = []
    try:
        with video_writer(folder / VIDEO, fps) as add:

            def write(canvas: np.ndarray, found: Sequence[Scored]) -> None:
                rows.append(found)
                add(canvas)

            yield write
    finally:
        if rows and boxes:
            _write_boxes(folder, rows, names)
        with suppress(OSError):  # it holds files
            folder.rmdir()


def box_files(count: int) -> list[str]:
    """The texts of some objects: one of boxes for each, and a table."""
    return [*([BOXES] if count == 1 else [f"boxes_{number}.txt" for number in range(1, count + 1)]), TABLE]


def _write_boxes(folder: Path, rows: Sequence[Sequence[Scored]], names: Sequence[str]) -> None:
    """Text in the form of result files (whole pixels), and a table with fractions and confidence."""
    several = len(rows[0]) > 1
    table = ("object," if several else "") + "frame,x,y,w,h,confidence\n"
    *texts, _ = box_files(len(rows[0]))
    for index, (text, found) in enumerate(zip(texts, zip(*rows, strict=True), strict=True)):
        write_text(folder / text, "".join("\t".join(str(int(value)) for value in box) + "\n" for box, _ in found))
        begin = '"{}",'.format(names[index].replace('"', '""')) if several else ""
        for number, (box, score) in enumerate(found, start=1):
            values = ",".join(f"{value:.2f}" for value in box)
            table += f"{begin}{number},{values},{'' if score is None else f'{score:.4f}'}\n"
    write_text(folder / TABLE, table)
