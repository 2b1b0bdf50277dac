"""How well predicted boxes match the ground truth: success, precision and normalised precision.

The conventions are the field's, since published numbers follow them (Wu et al., OTB, TPAMI 2015;
Mueller et al., TrackingNet, ECCV 2018; Fan et al., LaSOT, CVPR 2019). Boxes are xywh in pixels.

Test sets differ in what they do with a frame that has no valid box (a side of zero, or nan).
Such a frame always has no overlap, so it lowers the success curve unless it is excluded; its
centre distance counts as a miss, except on UAV123, where it counts as a hit, and its normalised
distance counts as a hit everywhere. LaSOT takes frames marked invisible as misses in all three, and
does not accept a result that is shorter than the ground truth.
"""

from dataclasses import dataclass

import numpy as np

from ...utils.errors import UserError

OVERLAP_THRESHOLDS = np.arange(21) / 20
DISTANCE_THRESHOLDS = np.arange(51.0)
NORM_DISTANCE_THRESHOLDS = np.arange(51) / 100

_HIT, _MISS = -1.0, np.inf


@dataclass(frozen=True)
class ScoringRule:
    """The scoring conventions of a family of test sets."""

    invalid_distance: float = _MISS  # centre distance given to a frame without a valid box
    strict: bool = False  # frames marked invisible are misses, and a short result is an error, not filled up


_LASOT = ScoringRule(strict=True)
_RULES = {"uav": ScoringRule(invalid_distance=_HIT)} | dict.fromkeys(("lasot", "lasot_lmdb", "lasot_ext"), _LASOT)


def scoring_rule(dataset: str) -> ScoringRule:
    """The rule of a test set: LaSOT's, UAV123's, or the standard one (OTB, GOT-10k and all others)."""
    return _RULES.get(dataset, ScoringRule())


@dataclass(frozen=True)
class FrameErrors:
    """Per-frame comparison of N predicted boxes with N true ones; each array is (N,)."""

    overlap: np.ndarray  # IoU in [0, 1], -1 without a valid true box
    distance: np.ndarray  # pixels between the centres
    norm_distance: np.ndarray  # the same with x and y divided by the true box's width and height
    valid: np.ndarray  # the frame has a true box that counts


def sequence_scores(
    prediction: np.ndarray,
    truth: np.ndarray,
    dataset: str,
    visible: np.ndarray | None = None,
    exclude_invalid: bool = False,
) -> dict[str, np.ndarray | float]:
    """Score one sequence.

    Args:
        prediction: (M, 4) xywh, finite, no negative sides. The first box is replaced by the true one.
        truth: (N, 4) xywh; nan or a side of zero where the frame has no box.
        dataset: name of the test set; see `scoring_rule`.
        visible: (N,) bool, where frames are marked invisible; only LaSOT's rule uses it.
        exclude_invalid: leave frames without a valid box out of the curves.

    Returns:
        `success_curve` (21,), `precision_curve` (51,), `norm_precision_curve` (51,) as fractions of
        frames; `auc`, `op50`, `op75`, `precision` (at 20 pixels), `norm_precision` (at 0.20) in percent;
        `mean_overlap_valid` in [0, 1] over valid frames, nan where there is none.

    Raises:
        UserError: an invalid prediction, or a short result on LaSOT.
    """
    return score_errors(frame_errors(prediction, truth, scoring_rule(dataset), visible), exclude_invalid)


def score_errors(errors: FrameErrors, exclude_invalid: bool = False) -> dict[str, np.ndarray | float]:
    """Curves and scores of one sequence from its frames; see `sequence_scores`."""
    counted = errors.valid if exclude_invalid else np.ones_like(errors.valid)
    success = _curve(errors.overlap[counted], np.greater, OVERLAP_THRESHOLDS)
    precision = _curve(errors.distance[counted], np.less_equal, DISTANCE_THRESHOLDS)
    norm_precision = _curve(errors.norm_distance[counted], np.less_equal, NORM_DISTANCE_THRESHOLDS)
    overlaps = errors.overlap[errors.valid]
    return {
        "success_curve": success,
        "precision_curve": precision,
        "norm_precision_curve": norm_precision,
        "auc": 100 * float(success.mean()),
        "op50": 100 * float(success[10]),
        "op75": 100 * float(success[15]),
        "precision": 100 * float(precision[20]),
        "norm_precision": 100 * float(norm_precision[20]),
        "mean_overlap_valid": float(overlaps.mean()) if overlaps.size else np.nan,
    }


def frame_errors(
    prediction: np.ndarray, truth: np.ndarray, rule: ScoringRule, visible: np.ndarray | None = None
) -> FrameErrors:
    """Compare the boxes of one sequence frame by frame; arguments and errors as in `sequence_scores`."""
    prediction, truth = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    bad = ~np.isfinite(prediction).all(axis=1) | (prediction[:, 2:] < 0).any(axis=1)
    if bad.any():
        first = int(bad.argmax())
        raise UserError(f"line {first + 1}: {prediction[first].tolist()} is no box; sizes must be 0 or more and finite")
    missing = max(0, len(truth) - len(prediction))
    if missing and rule.strict:
        count = f"{len(prediction)} boxes and the ground truth {len(truth)}"
        raise UserError(f"the result has {count}; run the sequence again")
    prediction = prediction[: len(truth)]
    # A box without area is replaced by the one before, where the frame has ground truth.
    empty = (prediction[:, 2:] == 0).any(axis=1) & ~np.isnan(truth[: len(prediction)]).any(axis=1)
    source = np.maximum.accumulate(np.where(empty, 0, np.arange(len(prediction))))
    prediction = np.concatenate((prediction[source], np.zeros((missing, 4))))
    prediction[0] = truth[0]
    shown = np.asarray(visible, bool) if rule.strict and visible is not None else np.ones(len(truth), bool)
    has_box = np.all(truth[:, 2:] > 0, axis=1) & np.isfinite(truth).all(axis=1)

    overlap, distance, norm_distance = (np.full(len(truth), fill) for fill in (-1.0, rule.invalid_distance, _HIT))
    overlap[has_box] = box_overlap(prediction[has_box], truth[has_box])
    # Centres of boxes that count inclusive pixels.
    found, true = (boxes[has_box, :2] + 0.5 * (boxes[has_box, 2:] - 1) for boxes in (prediction, truth))
    offset = found - true
    distance[has_box] = np.linalg.norm(offset, axis=1)
    norm_distance[has_box] = np.linalg.norm(offset / truth[has_box, 2:], axis=1)

    overlap[~shown] = -1.0
    distance[~shown] = norm_distance[~shown] = _MISS
    return FrameErrors(overlap, distance, norm_distance, has_box & shown)


def box_overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of xywh boxes pair by pair: (N, 4) each, to (N,). Two boxes without an area have none."""
    top_left = np.maximum(a[:, :2], b[:, :2])
    bottom_right = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    intersection = (bottom_right - top_left).clip(min=0).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - intersection
    ratio = intersection / np.maximum(union, np.finfo(float).tiny)
    return ratio.clip(max=1)  # equal boxes can round to a little more


def _curve(values: np.ndarray, reaches: np.ufunc, thresholds: np.ndarray) -> np.ndarray:
    """Fraction of frames that reach each threshold; zeros where no frame counts."""
    if not values.size:
        return np.zeros(len(thresholds))
    return reaches(values[:, None], thresholds[None, :]).mean(axis=0)
