"""The frames and overlaps behind AO and SR, as GOT-10k's toolkit takes them (Huang et al., TPAMI 2019)."""

import re
from pathlib import Path

import numpy as np

from lib.data.sequence import Sequence
from lib.test.analysis.metrics import FrameErrors, box_overlap
from lib.utils.errors import UserError

_RESOLUTION = re.compile(r"^\s*resolution\s*[:=]\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)", re.MULTILINE | re.ASCII)


def counted_overlaps(sequence: Sequence, prediction: np.ndarray, errors: FrameErrors) -> np.ndarray:
    """IoU (K,) of the frames that count: those with a visible object, without the first.

    Where there is a `cover.label`, it alone says what is visible, and not `absence.label`, too: so the toolkit counts.
    Where a `meta_info.ini` tells the frames' size, boxes are cut to the frame before, as the toolkit does.

    Args:
        sequence: with its ground truth (N, 4).
        prediction: (M, 4) xywh; frames that it lacks have no overlap.
        errors: of the same boxes, on all N frames.

    Raises:
        UserError: `meta_info.ini` cannot be read.
    """
    visible = sequence.visible if sequence.covered is None else sequence.covered
    counted = errors.valid if visible is None else errors.valid & visible
    counted = np.flatnonzero(counted[1:]) + 1
    size = _frame_size(sequence.annotation.with_name("meta_info.ini"))
    if size is None:
        return errors.overlap[counted]
    missing = max(0, len(sequence.truth) - len(prediction))
    prediction = np.concatenate((prediction, np.zeros((missing, 4))))
    return box_overlap(_cut(prediction[counted], size), _cut(sequence.truth[counted], size))


def _frame_size(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels; None where the file is missing or does not tell them."""
    if not path.is_file():
        return None
    try:
        match = _RESOLUTION.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return (int(match[1]), int(match[2])) if match else None


def _cut(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (K, 4) xywh within a frame. As in the toolkit, one that starts outside is moved in, not made narrower."""
    corner = np.clip(boxes[:, :2], 0, size)
    return np.concatenate((corner, np.clip(boxes[:, 2:], 0, np.array(size) - corner)), axis=1)
