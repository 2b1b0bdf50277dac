"""Overlap over time of every sequence, and frames of the worst moments of the hardest ones, for the page."""

import base64
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf

import cv2
import numpy as np

from ...data.images import encode_jpeg
from ...data.sequence import Sequence
from ...utils.errors import UserError
from .scores import TrackerScores, compare_result
from .tables import sequence_aucs

# The page stays one small file: so many bytes a picture, and points of all plots together.
_LARGEST, _BYTES, _POINTS = (360, 270), 16_000, 120_000
_LOST = 0.2  # mean overlap of the trackers
_MOMENTS = 3  # a sequence, besides its start


def sequence_views(
    trackers: SequenceOf[TrackerScores], sequences: Mapping[str, Sequence], pictured: int = 0
) -> list[dict]:
    """What the page shows of each sequence, lowest mean AUC first; `sequences` has all by their names in the scores.

    Each is its `name`, the `aucs` of all trackers in percent (nan without a result), its number of `frames`, and for
    its plot, which has so many `columns`, the `paths` of the trackers (SVG, overlap 1 at the top, 0 at 100), the path
    where the object is `absent`, and `marks`: columns of the pictures. The first `pictured` sequences have `pictures`
    of their worst moments, or a `problem`, the reason where there are none.
    """
    table = sequence_aucs(trackers)
    most = int(np.clip(_POINTS / table.size, 20, 200))
    views = []
    for name, *aucs in table.itertuples():
        boxes, overlaps, valid = _compare(trackers, sequences[name], name)
        frames, columns = len(valid), min(most, len(valid))
        moments, pictures, problem = worst_moments(overlaps, valid) if len(views) < pictured else {}, [], ""
        try:
            pictures = [
                {"caption": f"frame {frame + 1}, {why}"} | _picture(sequences[name], frame, boxes)
                for frame, why in moments.items()
            ]
        except UserError as error:  # scores need no frames, so the frames may be missing
            problem = str(error)
        plot = {
            "paths": [_path(binned(each, columns)) for each in overlaps],
            "absent": _absent(binned(np.where(valid, 1.0, np.nan), columns)),
            "marks": [frame * columns // frames for frame in moments],
        }
        numbers = {"name": name, "aucs": aucs, "frames": frames, "columns": columns}
        views.append(numbers | plot | {"pictures": pictures, "problem": problem})
    return views


def _compare(
    trackers: SequenceOf[TrackerScores], sequence: Sequence, name: str
) -> tuple[list[tuple[int, np.ndarray]], np.ndarray, np.ndarray]:
    """The boxes (M, 4) of each run with the tracker's index, overlaps (T, N) of trackers, and frames (N,) that count.

    Overlaps are means over a tracker's runs, and nan without a result or where no box is true.
    """
    valid = np.ones(len(sequence.truth), bool)
    boxes, overlaps = [], np.full((len(trackers), len(valid)), np.nan)
    for index, tracker in enumerate(trackers):
        if name in tracker.table.index:
            predicted, errors, _ = zip(*(compare_result(source, sequence) for source in tracker.sources), strict=True)
            boxes += [(index, each) for each in predicted]
            valid = errors[0].valid
            overlaps[index] = np.where(valid, np.mean([each.overlap for each in errors], axis=0), np.nan)
    return boxes, overlaps, valid


def worst_moments(overlaps: np.ndarray, valid: np.ndarray) -> dict[int, str]:
    """Frames to show with captions, in their order: the start, the longest losses, else the lowest mean overlaps.

    `overlaps` (T, N) is of trackers, nan without a result; frames count that are `valid` (N,). A loss begins where the
    mean overlap falls below 0.2, and lasts until it does not. Moments are at least a twentieth of the sequence apart.
    """
    frames = np.flatnonzero(valid)
    if not frames.size:
        return {0: "start"}
    known = overlaps[~np.isnan(overlaps).all(axis=1)]
    mean = known[:, frames].mean(axis=0)
    lost = np.concatenate(([False], mean < _LOST, [False]))
    begins, ends = np.flatnonzero(lost[1:] & ~lost[:-1]), np.flatnonzero(lost[:-1] & ~lost[1:])
    longest = np.argsort(begins - ends, kind="stable")
    captions, apart = {0: "start"}, max(1, len(valid) // 20)
    reasons = {int(begins[i]): f"lost for {ends[i] - begins[i]} frames" for i in longest}
    for place in [*reasons, *np.argsort(mean, kind="stable").tolist()]:
        frame = int(frames[place])
        if len(captions) <= _MOMENTS and min(abs(frame - other) for other in captions) >= apart:
            captions[frame] = reasons.get(place, f"mean overlap {mean[place]:.2f}")
    return dict(sorted(captions.items()))


def binned(values: np.ndarray, columns: int) -> np.ndarray:
    """Means (columns,) of values (N,) without nan; nan where all are."""
    starts = np.arange(columns) * len(values) // columns
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(int), starts)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.divide(sums, counts, out=np.full(columns, np.nan), where=counts > 0)


def _path(overlaps: np.ndarray) -> str:
    """The curve as a path; it breaks at nan. Steps are relative, which is shortest."""
    path, before = "", None
    for column, overlap in enumerate(overlaps):
        if np.isnan(overlap):
            before = None
            continue
        y = 100 - round(100 * overlap)
        path += f"M{column} {y}l0 0" if before is None else f" 1{' ' if y >= before else ''}{y - before}"
        before = y
    return path


def _absent(known: np.ndarray) -> str:
    """Full-height bars over the columns that are nan, as a path."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], np.isnan(known), [False])).astype(int))).tolist()
    return "".join(f"M{a - 0.5} 0H{b - 0.5}V100H{a - 0.5}Z" for a, b in zip(edges[::2], edges[1::2], strict=True))


def _picture(sequence: Sequence, frame: int, predicted: list[tuple[int, np.ndarray]]) -> dict:
    """One frame, made small, as a `data:` address, and in its pixels each tracker's box by its index, and the truth.

    A box that is nan, far away or without area is left out; in the first frame also all but the true one.
    """
    image = sequence.read_frame(frame)
    scale = min(_LARGEST[0] / image.shape[1], _LARGEST[1] / image.shape[0], 1.0)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for quality in (80, 65, 50, 35, 20):
        data = encode_jpeg(image, quality)
        if len(data) <= _BYTES:
            break
    boxes = []
    for index, each in [*(predicted if frame else ()), ("truth", sequence.truth)]:
        if frame < len(each) and (each[frame, 2:] > 0).all() and np.abs(each[frame]).max() < 1e6:
            boxes.append((index, *(each[frame] * scale).round(1).tolist()))
    address = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return {"address": address, "height": image.shape[0], "width": image.shape[1], "boxes": boxes}
