"""Pictures of the sequences that trackers find hardest, with the true and the predicted boxes."""

import base64
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import cv2
import numpy as np

from lib.data.sequence import Sequence
from lib.test.analysis.metrics import frame_errors, scoring_rule
from lib.test.analysis.scores import TrackerScores
from lib.test.analysis.tables import sequence_aucs
from lib.test.evaluation.result_files import read_result
from lib.utils.errors import UserError

# RGB, as the page's colours on dark ground, but for the last.
_COLOURS = (
    (63, 160, 224),
    (245, 129, 58),
    (34, 196, 147),
    (231, 154, 196),
    (242, 182, 60),
    (155, 215, 251),
    (30, 30, 30),
)
_TRUTH_COLOUR, _EDGE = (255, 255, 255), (16, 16, 16)
_LARGEST = (400, 300)  # width, height
_LOST = 0.2  # mean overlap of the trackers


@dataclass(frozen=True)
class HardSequence:
    """A sequence with its AUC in percent of every tracker (nan without a result).

    `pictures` maps captions to JPEG pictures as `data:` addresses; `problem` is the reason where there are none.
    """

    name: str
    aucs: list[float]
    pictures: dict[str, str]
    problem: str = ""


def hardest_sequences(
    trackers: SequenceOf[TrackerScores], sequences: Mapping[str, Sequence], count: int
) -> list[HardSequence]:
    """The `count` sequences of the lowest mean AUC, hardest first; `sequences` has all by their names in the scores."""
    hard = []
    for name, *aucs in sequence_aucs(trackers).head(count).itertuples():
        try:
            hard.append(HardSequence(name, aucs, _pictures(trackers, sequences[name], name)))
        except UserError as error:  # scores need no frames, so the frames may be missing
            hard.append(HardSequence(name, aucs, {}, str(error)))
    return hard


def _pictures(trackers: SequenceOf[TrackerScores], sequence: Sequence, name: str) -> dict[str, str]:
    """The start, the first loss where there is one, and later frames."""
    predicted: list[tuple[int, np.ndarray]] = []  # a tracker's index and the boxes of one of its runs
    overlaps = []
    for index, tracker in enumerate(trackers):
        for path in next((result.files for result in tracker.sequences if result.name == name), ()):
            predicted.append((index, read_result(path)))
            errors = frame_errors(predicted[-1][1], sequence.truth, scoring_rule(sequence.dataset), sequence.visible)
            overlaps.append(errors.overlap)
    captions = _captions(np.mean(overlaps, axis=0).clip(min=0), errors.valid)
    return {
        f"frame {frame + 1}, {caption}": _picture(sequence, frame, predicted) for frame, caption in captions.items()
    }


def _captions(overlap: np.ndarray, valid: np.ndarray) -> dict[int, str]:
    """Frames to show with captions, from the mean overlap (N,) and the frames that have a true box (N,)."""
    frames = np.flatnonzero(valid) if valid.any() else np.arange(len(valid))
    lost = frames[overlap[frames] < _LOST]
    captions = {0: "start"}
    if lost.size:
        captions.setdefault(int(lost[0]), f"first loss: mean overlap {overlap[lost[0]]:.2f}")
        frames = frames[frames >= lost[0]]
    for share in (1 / 2, 1) if lost.size else (1 / 3, 2 / 3, 1):
        frame = int(frames[round(share * (len(frames) - 1))])
        captions.setdefault(frame, f"mean overlap {overlap[frame]:.2f}")
    return captions


def _picture(sequence: Sequence, frame: int, predicted: list[tuple[int, np.ndarray]]) -> str:
    """One frame, made small, with each tracker's box in its colour and the true one in white on top."""
    image = sequence.read_frame(frame)
    height, width = image.shape[:2]
    scale = min(_LARGEST[0] / width, _LARGEST[1] / height, 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for index, boxes in predicted:
        if 0 < frame < len(boxes):  # the first box is given
            _draw(image, boxes[frame] * scale, _COLOURS[index % len(_COLOURS)])
    if frame < len(sequence.truth):
        _draw(image, sequence.truth[frame] * scale, _TRUTH_COLOUR)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _draw(image: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw an xywh box with a thin dark edge into an image; one that is nan or has no area is left out."""
    if not (np.isfinite(box).all() and (box[2:] > 0).all()):
        return
    height, width = image.shape[:2]
    x1, x2 = np.clip([box[0], box[0] + box[2]], -width, 2 * width).round().astype(int).tolist()
    y1, y2 = np.clip([box[1], box[1] + box[3]], -height, 2 * height).round().astype(int).tolist()
    cv2.rectangle(image, (x1 - 2, y1 - 2), (x2 + 1, y2 + 1), _EDGE, 1)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2)
