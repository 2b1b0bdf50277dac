"""One test sequence: where its frames and annotations lie, read when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lib.data.box_files import parse_boxes, parse_flags
from lib.data.images import image_names
from lib.data.storage import FolderStorage, Storage
from lib.utils.errors import UserError


@dataclass(frozen=True)
class FrameRange:
    """Numbered file names: frames `first` to `last` (both included), `digits` wide, with `extension`."""

    first: int
    last: int
    digits: int
    extension: str

    def names(self) -> list[str]:
        """File names in order."""
        return [f"{number:0{self.digits}d}.{self.extension}" for number in range(self.first, self.last + 1)]


@dataclass(frozen=True)
class Sequence:
    """A video with its annotation. Frames and boxes are read when they are asked for.

    Attributes:
        name: unique in its test set; also the name of its result file.
        dataset: name of the test set (`otb`, `got10k_val`, `folder`, …); chooses scoring rule and update interval.
        frames_dir: folder of the frames.
        annotation: text file of xywh boxes; only the first line where the rest is kept by a server.
        subfolder: where its results lie under `<tracker>/<config>`; "" for directly there.
        frame_range: the frames that count; all images of the folder in natural order where it is None.
        skip_first: frames and boxes to leave out at the start.
        object_class: what the object is, "" where unknown.
        hidden_files: flag files, non-zero on frames where the object cannot be seen.
        cover_file: GOT-10k's visible share of the object, 0 on frames where it cannot be seen.
        parse_annotation: reads the boxes (N, 4) xywh from the annotation's bytes and its name for messages.
        read_attributes: reads the names of the sequence's attributes; None where the set's files carry none.
        storage: where all these paths lie; the LMDB that they are keys of, or the file system.
    """

    name: str
    dataset: str
    frames_dir: Path
    annotation: Path
    subfolder: str = ""
    frame_range: FrameRange | None = None
    skip_first: int = 0
    object_class: str = ""
    hidden_files: tuple[Path, ...] = ()
    cover_file: Path | None = None
    parse_annotation: Callable[[bytes, str], np.ndarray] = parse_boxes
    read_attributes: Callable[[], tuple[str, ...]] | None = None
    storage: Storage = FolderStorage("")

    @cached_property
    def frames(self) -> list[Path]:
        """Paths of the frames in order, keys where they lie in an LMDB; at least one.

        Raises:
            UserError: the folder is missing or has no images.
        """
        place = self._locate(self.frames_dir)
        if not self.storage.exists(str(self.frames_dir)):
            raise UserError(f"{self.name}: folder of frames not found: {place}")
        if self.frame_range:
            names = self.frame_range.names()
        else:
            names = image_names(self.storage.names(str(self.frames_dir)))
        if len(names) <= self.skip_first:
            raise UserError(f"{self.name}: no images in {place}")
        return [self.frames_dir / name for name in names[self.skip_first :]]

    def __len__(self) -> int:
        """Number of frames; lists the folder when first asked."""
        return len(self.frames)

    def __bool__(self) -> bool:
        """A sequence is one, whatever its length: asking must not list a folder."""
        return True

    def frame_name(self, index: int) -> str:
        """A frame as a user knows it, for messages: the path of its file."""
        return self._locate(self.frames[index])

    def read_frame(self, index: int) -> np.ndarray:
        """A frame (H, W, 3) uint8 RGB.

        Raises:
            UserError: it is missing, empty or not an image.
        """
        return self.storage.image(str(self.frames[index]))

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes that the set's own files give it; () where there are none.

        Raises:
            UserError: a file of attributes is malformed.
        """
        return self.read_attributes() if self.read_attributes else ()

    @cached_property
    def truth(self) -> np.ndarray:
        """Annotated boxes (N, 4) xywh, nan or without size where there is none.

        N is 1 where only the first frame is annotated.
        """
        where = self._locate(self.annotation)
        boxes = self.parse_annotation(self.storage.read_bytes(str(self.annotation)), where)
        if len(boxes) <= self.skip_first:
            raise UserError(f"{where} has {len(boxes)} boxes, but the first {self.skip_first} are skipped")
        return boxes[self.skip_first :]

    @cached_property
    def visible(self) -> np.ndarray | None:
        """(N,) bool, False where the object cannot be seen; None where the set does not say.

        Raises:
            UserError: a flag file is missing or malformed, or does not have one flag a box.
        """
        masks = [self._flags(path) == 0 for path in self.hidden_files]
        if self.covered is not None:
            masks.append(self.covered)
        return np.logical_and.reduce(masks) if masks else None

    @cached_property
    def covered(self) -> np.ndarray | None:
        """(N,) bool, False where GOT-10k's `cover.label` says that nothing of the object is seen; None without one.

        Raises:
            UserError: as for `visible`.
        """
        return None if self.cover_file is None else self._flags(self.cover_file) > 0

    @property
    def init_bbox(self) -> list[float]:
        """The given box, xywh, of the first frame.

        Raises:
            UserError: it is nan or has no area.
        """
        box = self.truth[0]
        if not (np.isfinite(box).all() and (box[2:] > 0).all()):
            where = self._locate(self.annotation)
            raise UserError(f"{where}, line {self.skip_first + 1}: the first box {box.tolist()} has no area")
        return box.tolist()

    def check_lengths(self) -> None:
        """Where a folder tells the frames, ground truth must cover every one of them, or the first alone.

        Raises:
            UserError: it has another number of boxes.
        """
        if self.frame_range is None and len(self.truth) not in (1, len(self.frames)):
            where = self._locate(self.annotation)
            raise UserError(f"{where} has {len(self.truth)} boxes for {len(self.frames)} frames")

    def _locate(self, path: Path) -> str:
        """A path of the sequence as a user knows it."""
        return self.storage.locate(str(path))

    def _flags(self, path: Path) -> np.ndarray:
        """Whole numbers of a label file (N,), one a box."""
        where = self._locate(path)
        flags = parse_flags(self.storage.read_bytes(str(path)), where)[self.skip_first :]
        if len(flags) != len(self.truth):
            raise UserError(f"{where} has {len(flags)} flags, but there are {len(self.truth)} ground-truth boxes")
        return flags
