"""One annotated video: paths of its frames and annotations, which are read when they are asked for."""

import logging
from collections import abc
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..utils.errors import UserError
from .box_files import box_doubt, parse_boxes, parse_flags
from .images import ImageReadError, Picture, image_names, missing_numbers
from .storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sequence:
    """A video with its annotation. Boxes are xywh in pixels."""

    name: str  # unique in its data set; also the name of its result file
    dataset: str  # name of the test set (`otb`, `folder`, …); chooses scoring rule and update interval
    frames_dir: Path
    annotation: Path  # text file of boxes; only the first line where a server keeps the rest
    storage: Storage = Storage("")  # of all these paths; the file system, by default
    subfolder: str = ""  # folder of its results under `<tracker>/<config>`; "" for none
    frame_range: tuple[str, ...] | None = None  # names of the frames; None: all images of the folder, in natural order
    skip_first: int = 0  # frames and boxes to leave out at the start
    object_class: str = ""  # "" where unknown
    absence_files: tuple[Path, ...] = ()  # a flag a frame, not 0 where the object is not visible
    cover_file: Path | None = None  # GOT-10k's visible share of the object, 0 where it is not visible
    flags_may_lack: bool = True  # a flag file that is missing says nothing; otherwise it is an error
    more_files: tuple[Path, ...] = ()  # for packing
    parse_annotation: Callable[[str, str], np.ndarray] = parse_boxes  # of the file's text and its name for messages
    read_attributes: Callable[[], tuple[str, ...]] = tuple  # names of the sequence's attributes

    @property
    def text_files(self) -> tuple[Path, ...]:
        """Every file of the sequence but its frames; some may be missing."""
        return tuple(filter(None, (self.annotation, *self.absence_files, self.cover_file, *self.more_files)))

    @cached_property
    def frames(self) -> list[Path]:
        """Paths of the frames in order, at least one; a `UserError` where the folder is missing or has no images."""
        place = self.storage.locate(self.frames_dir)
        if not self.storage.exists(self.frames_dir):
            raise UserError(f"{self.name}: folder of frames not found: {place}")
        names = list(self.frame_range or image_names(self.storage.names(self.frames_dir)))
        if len(names) <= self.skip_first:
            raise UserError(f"{self.name}: no images in {place}")
        if (gaps := missing_numbers(names)) and len(self.truth) == 1:
            log.warning("%s: frames %s are missing in %s: there is no box for them", self.name, some(gaps), place)
        return [self.frames_dir / name for name in names[self.skip_first :]]

    def __len__(self) -> int:
        """Number of frames; lists the folder at the first call."""
        return len(self.frames)

    def __bool__(self) -> bool:
        """True without listing the folder."""
        return True

    def read_frame(self, index: int) -> np.ndarray:
        """A frame (H, W, 3) uint8 RGB; raises an `ImageReadError` where it is missing or damaged."""
        return self.storage.image(self.frames[index])

    def picture(self, index: int) -> Picture:
        """The same frame, decoded in parts where the format allows it; errors as of `read_frame`, perhaps later."""
        try:
            return self.storage.picture(self.frames[index])
        except ImageReadError:  # of a file that is cut off, OpenCV gives what there is
            return Picture(self.read_frame(index))

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Names of the sequence's attributes in the set's own files; a file may be malformed."""
        return self.read_attributes()

    @cached_property
    def truth(self) -> np.ndarray:
        """Ground truth (N, 4) xywh, nan or without area where the object is absent; N is 1 if a server has the rest."""
        where = self.storage.locate(self.annotation)
        boxes = self.parse_annotation(self.storage.text(self.annotation), where)
        if len(boxes) <= self.skip_first:
            raise UserError(f"{where} has {len(boxes)} boxes, but the first {self.skip_first} are skipped")
        return boxes[self.skip_first :]

    @cached_property
    def visible(self) -> np.ndarray | None:
        """(N,) bool from the flag files, False where the object is not visible; None without flag files."""
        masks = [flags == 0 for path in self.absence_files if (flags := self.flags(path)) is not None]
        masks += [] if self.covered is None else [self.covered]
        return np.logical_and.reduce(masks) if masks else None

    @cached_property
    def covered(self) -> np.ndarray | None:
        """(N,) bool, False where GOT-10k's `cover.label` is 0; None without that file."""
        cover = self.flags(self.cover_file) if self.cover_file else None
        return None if cover is None else cover > 0

    @property
    def init_bbox(self) -> list[float]:
        """The first box, xywh; raises a `UserError` where it is nan or has no area."""
        box = self.truth[0]
        if not (np.isfinite(box).all() and (box[2:] > 0).all()):
            where = self.storage.locate(self.annotation)
            raise UserError(f"{where}, line {self.skip_first + 1}: the first box {box.tolist()} has no area")
        return box.tolist()

    def check_lengths(self) -> None:
        """Raise a `UserError` unless there is a box for every frame of the folder, where it exists, or one box."""
        if self.frame_range is None and len(self.truth) > 1 and self.storage.exists(self.frames_dir):
            self.check_frames([path.name for path in self.frames])

    def check_frames(self, names: list[str]) -> None:
        """Raise a `UserError` unless there is a box for each of the frames' `names`."""
        if len(names) != len(self.truth):
            where, place = self.storage.locate(self.annotation), self.storage.locate(self.frames_dir)
            missing = f"; frames {some(gaps)} are missing" if (gaps := missing_numbers(names)) else ""
            raise UserError(f"{where} has {len(self.truth)} boxes for {len(names)} frames in {place}{missing}")

    def flags(self, path: Path) -> np.ndarray | None:
        """The whole numbers (N,) of a flag file, one for each box of `truth`; None where it may be missing, and is."""
        if self.flags_may_lack and not self.storage.exists(path):
            return None
        where = self.storage.locate(path)
        flags = parse_flags(self.storage.text(path), where)[self.skip_first :]
        if len(flags) != len(self.truth):
            raise UserError(f"{where} has {len(flags)} flags for {len(self.truth)} boxes")
        return flags


class Sequences(list[Sequence]):
    """The sequences of a data set that are used; `left_out` has the names of others by the reason why they are not."""

    def __init__(self, sequences: Iterable[Sequence], left_out: dict[str, list[str]]) -> None:
        super().__init__(sequences)
        self.left_out = left_out

    @property
    def report(self) -> str:
        """How many sequences are used, and how many are not and why; "" where all are."""
        reasons = [f"{len(names)} {reason} ({some(names)})" for reason, names in self.left_out.items() if names]
        return f"{len(self)} sequences are used; left out: {', '.join(reasons)}" if reasons else ""


def with_frames(sequences: abc.Sequence[Sequence]) -> Sequences:
    """The sequences that can be tracked: those with a folder of frames; all where none has one, and each says so."""
    present = [each for each in sequences if each.storage.exists(each.frames_dir)]
    found = {each.name for each in present or sequences}
    return Sequences(present or sequences, {"without frames": [s.name for s in sequences if s.name not in found]})


def doubt_boxes(sequences: abc.Sequence[Sequence]) -> str:
    """Why the boxes of most sequences are hardly xywh in pixels, from five of them; "" where nothing speaks for it."""
    doubts = []
    for sequence in sequences[:: -(-len(sequences) // 5)]:
        with suppress(UserError):
            height, width = sequence.read_frame(0).shape[:2]
            doubts.append(box_doubt(sequence.truth, width, height))
    return max(doubts) if sum(map(bool, doubts)) * 2 > len(doubts) else ""


def some(names: abc.Sequence[object]) -> str:
    """The first of some names or numbers, for messages."""
    return ", ".join(map(str, names[:3])) + (", …" if len(names) > 3 else "")
