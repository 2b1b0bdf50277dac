"""Pictures of the sequences that trackers find hardest, with the true and the predicted boxes drawn."""

import base64
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import cv2
import numpy as np

from lib.data.sequence import Sequence
from lib.test.analysis.metrics import frame_errors, scoring_rule
from lib.test.analysis.results import TrackerScores
from lib.test.analysis.tables import sequence_aucs
from lib.test.evaluation.result_files import read_result
from lib.test.video.overlay import DISTINCT
from lib.utils.errors import UserError

_TRUTH_COLOUR, _EDGE = (255, 255, 255), (16, 16, 16)

_LARGEST = (400, 300)  # width, height
_LOST = 0.2  # mean overlap of the trackers


@dataclass(frozen=True)
class Thumbnail:
    """One frame: a caption for readers, and the picture as a `data:` address."""

    caption: str
    address: str


@dataclass(frozen=True)
class HardSequence:
    """A sequence with its AUC in percent of every tracker (nan without a result) and its pictures.

    `problem` says why there are none.
    """

    name: str
    aucs: list[float]
    thumbnails: list[Thumbnail]
    problem: str = ""


def hardest_sequences(
    trackers: SequenceOf[TrackerScores], sequences: Mapping[str, Sequence], count: int
) -> list[HardSequence]:
    """The `count` sequences of the lowest mean AUC, hardest first.

    Args:
        trackers: scores; their result files are read again.
        sequences: every scored sequence by the name it has in the scores.
        count: how many.
    """
    hard = []
    for name, aucs in sequence_aucs(trackers)[:count]:
        try:
            hard.append(HardSequence(name, aucs, _thumbnails(trackers, sequences[name], name)))
        except UserError as error:  # scores need no frames, which may lie elsewhere
            hard.append(HardSequence(name, aucs, [], str(error)))
    return hard


def _thumbnails(trackers: SequenceOf[TrackerScores], sequence: Sequence, name: str) -> list[Thumbnail]:
    """The start, the first loss where there is one, and later frames."""
    drawn: list[tuple[int, np.ndarray]] = []  # a tracker's index and the boxes of one of its runs
    overlaps = []
    for index, tracker in enumerate(trackers):
        for path in next((result.files for result in tracker.sequences if result.name == name), ()):
            boxes = read_result(path)
            drawn.append((index, boxes))
            errors = frame_errors(boxes, sequence.truth, scoring_rule(sequence.dataset), sequence.visible)
            overlaps.append(errors.overlap)
    moments = _moments(np.mean(overlaps, axis=0), errors.valid)
    return [
        Thumbnail(f"frame {moment + 1}, {caption}", _picture(sequence, moment, drawn))
        for moment, caption in moments.items()
    ]


def _moments(overlap: np.ndarray, valid: np.ndarray) -> dict[int, str]:
    """Frames to show with captions, from the mean overlap (N,) and the frames that have a true box (N,)."""
    frames = np.flatnonzero(valid)
    frames = frames if frames.size else np.arange(len(valid))
    lost = frames[overlap[frames] < _LOST]
    moments = {0: "start"}
    if lost.size:
        moments.setdefault(int(lost[0]), f"first loss: mean overlap {max(float(overlap[lost[0]]), 0):.2f}")
        frames = lost[0] + np.flatnonzero(valid[lost[0] :])
    for share in (1 / 2, 1) if lost.size else (1 / 3, 2 / 3, 1):
        frame = int(frames[round(share * (len(frames) - 1))])
        moments.setdefault(frame, f"mean overlap {max(float(overlap[frame]), 0):.2f}")
    return moments


def _picture(sequence: Sequence, frame: int, drawn: list[tuple[int, np.ndarray]]) -> str:
    """One frame, made small, with each tracker's box in its colour and the true one in white on top."""
    image = sequence.read_frame(frame)
    height, width = image.shape[:2]
    scale = min(_LARGEST[0] / width, _LARGEST[1] / height, 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for index, result in drawn:
        if 0 < frame < len(result):  # the first box is given
            _draw(image, result[frame] * scale, DISTINCT[index % len(DISTINCT)])
    if frame < len(sequence.truth):
        _draw(image, sequence.truth[frame] * scale, _TRUTH_COLOUR)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        raise UserError(f"{sequence.name}: cannot encode the picture of {sequence.frame_name(frame)}")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _draw(image: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw an xywh box with a thin dark edge into an image; one that is nan or has no area is left out."""
    if not (np.isfinite(box).all() and (box[2:] > 0).all()):
        return
    # Several boxes often lie on each other here, so their edges must be thinner than those of `draw_box`.
    height, width = image.shape[:2]
    x1, x2 = np.clip([box[0], box[0] + box[2]], -width, 2 * width).round().astype(int).tolist()
    y1, y2 = np.clip([box[1], box[1] + box[3]], -height, 2 * height).round().astype(int).tolist()
    cv2.rectangle(image, (x1 - 2, y1 - 2), (x2 + 1, y2 + 1), _EDGE, 1)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2)
