"""One test sequence: where its frames and annotations lie, read when they are asked for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lib.utils.box_files import read_boxes, read_flags
from lib.utils.errors import UserError
from lib.utils.image import list_images


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
    """A video with its annotation. Building one reads nothing but `annotation`'s path.

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

    @cached_property
    def frames(self) -> list[Path]:
        """Paths of the frames in order; at least one.

        Raises:
            UserError: the folder is missing or has no images.
        """
        if not self.frames_dir.is_dir():
            raise UserError(f"{self.name}: folder of frames not found: {self.frames_dir}")
        if self.frame_range:
            paths = [self.frames_dir / name for name in self.frame_range.names()]
        else:
            paths = list_images(self.frames_dir)
        if len(paths) <= self.skip_first:
            raise UserError(f"{self.name}: no images in {self.frames_dir}")
        return paths[self.skip_first :]

    @cached_property
    def truth(self) -> np.ndarray:
        """Annotated boxes (N, 4) xywh, nan or without size where there is none.

        N is 1 where only the first frame is annotated.
        """
        boxes = read_boxes(self.annotation)
        if len(boxes) <= self.skip_first:
            raise UserError(f"{self.annotation} has {len(boxes)} boxes, but the first {self.skip_first} are skipped")
        return boxes[self.skip_first :]

    @cached_property
    def visible(self) -> np.ndarray | None:
        """(N,) bool, False where the object cannot be seen; None where the set does not say.

        Raises:
            UserError: a flag file is missing or malformed, or does not have one flag a box.
        """
        masks = [(path, read_flags(path) == 0) for path in self.hidden_files]
        if self.cover_file:
            masks.append((self.cover_file, read_flags(self.cover_file) > 0))
        visible = None
        for path, mask in masks:
            mask = mask[self.skip_first :]
            if len(mask) != len(self.truth):
                raise UserError(f"{path} has {len(mask)} flags, but there are {len(self.truth)} ground-truth boxes")
            visible = mask if visible is None else visible & mask
        return visible

    @property
    def init_bbox(self) -> list[float]:
        """The given box, xywh, of the first frame.

        Raises:
            UserError: it is nan or has no area.
        """
        box = self.truth[0]
        if not (np.isfinite(box).all() and (box[2:] > 0).all()):
            raise UserError(f"{self.annotation}, line {self.skip_first + 1}: the first box {box.tolist()} has no area")
        return box.tolist()

    def check_lengths(self) -> None:
        """Where a folder tells the frames, ground truth must cover every one of them, or the first alone.

        Raises:
            UserError: it has another number of boxes.
        """
        if self.frame_range is None and len(self.truth) not in (1, len(self.frames)):
            raise UserError(f"{self.annotation} has {len(self.truth)} boxes for {len(self.frames)} frames")
