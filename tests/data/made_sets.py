"""Small test sets made for a test, and trackers that behave in a known way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lib.data.sequence import Sequence
from lib.test.analysis.scores import TrackerScores, score_source
from lib.test.analysis.selection import parse_tracker
from lib.test.evaluation.result_files import write_result

SIZE = (96, 128)


def moving_boxes(count: int, step: float = 3.0) -> np.ndarray:
    """Boxes (count, 4) xywh of a 20x16 object that moves right and shrinks a little."""
    index = np.arange(count, dtype=np.float64)
    return np.stack((10 + step * index, 30 + index, 20 - 0.1 * index, np.full(count, 16.0)), axis=1)


def write_boxes(path: Path, boxes: np.ndarray, separator: str = ",", end: str = "\n") -> None:
    """An annotation file with two decimals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (separator.join(f"{value:.2f}" for value in box) + end for box in boxes)
    path.write_bytes("".join(lines).encode())


def write_frames(folder: Path, names: list[str]) -> None:
    """Frames whose grey level is their index times 8, so that a tracker can tell which it was given."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.fromarray(np.full((*SIZE, 3), 8 * index, dtype=np.uint8)).save(folder / name, quality=95)


def write_sequence(root: Path, name: str, count: int = 6, boxes: np.ndarray | None = None) -> np.ndarray:
    """One sequence in GOT-10k layout; gives its boxes."""
    boxes = moving_boxes(count) if boxes is None else boxes
    write_frames(root / name, [f"{i + 1:08d}.jpg" for i in range(count)])
    write_boxes(root / name / "groundtruth.txt", boxes)
    return boxes


def write_results(folder: Path, sequences: list[Sequence], shift: float = 0.0, seconds: float = 0.1) -> None:
    """Results that are off to the right by `shift` pixels after the first frame."""
    for sequence in sequences:
        boxes = sequence.truth.copy()
        boxes[1:, 0] += shift
        write_result(folder, sequence, boxes, np.array([5.0] + [seconds] * (len(boxes) - 1)))


def score_tracker(results: Path, tracker: str, config: str, sequences: list[Sequence]) -> TrackerScores:
    """Scores of the results of `tracker:config`."""
    (source,) = parse_tracker(f"{tracker}:{config}", results)
    return score_source(source, {sequence.name: sequence for sequence in sequences})


class ScriptedTracker:
    """Follows the ground truth of the sequence it finds by its first box, changed by `move`.

    `move` maps a frame index (told by the frame's grey level) and the true box to the reported one.
    """

    def __init__(self, sequences: list[Sequence], move: Callable[[int, np.ndarray], object] = lambda _, box: box):
        self.truths, self.move = [sequence.truth for sequence in sequences], move
        self.frames: list[int] = []

    def initialize(self, image: np.ndarray, info: dict) -> None:
        self.truth = next(truth for truth in self.truths if truth[0].tolist() == info["init_bbox"])
        self.frames.append(frame_index(image))

    def track(self, image: np.ndarray) -> dict:
        self.frames.append(frame_index(image))
        return {"target_bbox": self.move(self.frames[-1], self.truth[self.frames[-1]])}


def frame_index(image: np.ndarray) -> int:
    """Which frame of its sequence an image of `write_frames` is."""
    assert image.shape == (*SIZE, 3)
    assert image.dtype == np.uint8
    return round(float(image.mean()) / 8)
