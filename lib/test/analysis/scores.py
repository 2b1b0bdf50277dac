"""Scores of trackers over test sets, from their result files.

Curves are means over sequences. AO, SR0.50 and SR0.75 follow GOT-10k (Huang et al., TPAMI 2019): they are over the
frames of all sequences together, without first frames and frames where the object is invisible.
"""

import re
from collections.abc import Collection, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas

from ...data.box_files import read_boxes, read_meta
from ...data.sequence import Sequence
from ...utils.errors import UserError, few
from ..evaluation.result_files import read_seconds
from . import metrics
from .selection import ResultSource

CURVES = {
    "success_curve": metrics.OVERLAP_THRESHOLDS,
    "precision_curve": metrics.DISTANCE_THRESHOLDS,
    "norm_precision_curve": metrics.NORM_DISTANCE_THRESHOLDS,
}

_RESOLUTION = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)", re.ASCII)
_MISS = [1e9, 1e9, 1, 1]  # a box that is too far off for a hit in any score


@dataclass(frozen=True)
class TrackerScores:
    """One tracker, or the mean of its runs, over test sets.

    `table` has a row for each sequence with a result. Its columns are pairs: (key of `CURVES`, threshold) with
    fractions of frames, ("score", key) with the numbers of `lib.test.analysis.metrics.sequence_scores`, and
    ("sum", key) with the sums behind AO, SR0.50, SR0.75 and FPS.
    """

    label: str  # in tables and plots
    # Result files with their boxes (M, 4) and how these compare with the ground truth, by sequences; one for each run.
    runs: tuple[tuple[ResultSource, dict[str, tuple[np.ndarray, metrics.FrameErrors]]], ...]
    table: pandas.DataFrame
    missing: list[str]  # sequences without a result; the means are without them
    notes: list[str]  # one line for each difference from the scores of a complete run

    @property
    def expected(self) -> int:  # sequences in the test sets
        return len(self.table) + len(self.missing)

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """Mean curves as fractions, with the keys of `CURVES`."""
        return {name: self.table[name].mean().to_numpy() for name in CURVES}

    @cached_property
    def scores(self) -> dict[str, float]:
        """`auc`, `op50`, `op75`, `precision`, `norm_precision`, `ao`, `sr50`, `sr75` in percent; `fps` inside `track`.

        Nan where no frame counts or no time was recorded.
        """
        means, sums = self.table["score"].mean().drop("mean_overlap_valid"), self.table["sum"].sum()
        pooled = {key: 100 * sums[key] / (sums["frames"] or np.nan) for key in ("ao", "sr50", "sr75")}
        return means.to_dict() | pooled | {"fps": sums["steps"] / (sums["seconds"] or np.nan)}

    def only(self, names: Collection[str]) -> "TrackerScores":
        """The scores over these sequences alone; nan where none of them has a result."""
        table = self.table[self.table.index.isin(list(names))]
        return replace(self, table=table, missing=[name for name in self.missing if name in names])


def score_source(source: ResultSource, sequences: Mapping[str, Sequence]) -> TrackerScores:
    """Score every sequence (by names as of `lib.test.analysis.selection.Sets`) that has a result.

    Raises UserError where none has, or where a result or ground truth is malformed or not complete.
    """
    rows, compared, notes, missing, problems, used = {}, {}, [], [], [], {}
    for name, sequence in sequences.items():
        path = source.files(sequence)[0]
        if not path.is_file():
            missing.append(name)
            continue
        if used.setdefault(path, name) != name:
            where = f"move it into a folder {sequence.dataset} beside it"
            raise UserError(f"{path} is of {used[path]} or of {name}: {where}")
        try:
            prediction, errors, remarks = _compare(source, sequence)
            rows[name] = _row(source, sequence, prediction, errors)
            compared[name] = prediction, errors
            notes += [f"{source.label}: {name}: {remark}" for remark in remarks]
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(few(problems, 3, "; ", 500))
    if not rows:
        expected = source.files(next(iter(sequences.values())))[0]
        remedy = "" if source.foreign else "; run tracking/test.py first"
        raise UserError(f"no results of {source.label}, such as {expected}{remedy}")
    if missing:
        names = ", ".join(missing)
        notes.insert(0, f"{source.label}: no result for {len(missing)} of {len(sequences)} sequences: {names}")
    table = pandas.DataFrame.from_dict(rows, orient="index")
    table.columns = pandas.MultiIndex.from_tuples(table.columns)
    return TrackerScores(source.label, ((source, compared),), table, missing, notes)


def merge_runs(label: str, runs: SequenceOf[TrackerScores]) -> TrackerScores:
    """One row for several runs of a tracker: each sequence scores the mean of its runs.

    A sequence that is missing in any run is missing from the mean. Raises UserError where nothing is left.
    """
    if len(runs) == 1:
        return runs[0]
    complete = [name for name in runs[0].table.index if all(name in run.table.index for run in runs)]
    if not complete:
        raise UserError(f"{label}: no sequence has a result of every run, so there is nothing to merge")
    labels = ", ".join(run.label for run in runs)
    aucs = [run.scores["auc"] for run in runs]
    spread = f"AUC {np.mean(aucs):.1f} with a standard deviation of {np.std(aucs, ddof=1):.1f}"
    return TrackerScores(
        f"{label} ({len(runs)} runs)",
        tuple(each for run in runs for each in run.runs),
        sum(run.table.loc[complete] for run in runs) / len(runs),
        list(dict.fromkeys(name for run in runs for name in run.missing)),
        [f"{label}: mean of {len(runs)} runs, {labels}: {spread}", *(note for run in runs for note in run.notes)],
    )


def _compare(source: ResultSource, sequence: Sequence) -> tuple[np.ndarray, metrics.FrameErrors, list[str]]:
    """A result's boxes (M, 4), how they compare with the ground truth, and remarks on them.

    A line that is nan or has a negative size marks a lost frame, as other programs write it: it becomes a box far away.
    """
    sequence.check_lengths()
    if len(sequence.truth) == 1 and len(sequence) > 1:
        raise UserError(f"{sequence.name}: {sequence.annotation} holds the first box only, so it cannot be scored")
    path, truth, rule = source.files(sequence)[0], sequence.truth, metrics.scoring_rule(sequence.dataset)
    prediction, remarks = read_boxes(path), []
    if sequence.skip_first and len(prediction) == len(truth) + sequence.skip_first:
        prediction = prediction[sequence.skip_first :]
        remarks.append(f"the first {sequence.skip_first} boxes are of frames that the set leaves out")
    lost = np.isnan(prediction).any(axis=1) | (prediction[:, 2:] < 0).any(axis=1)
    prediction[lost] = _MISS
    if lost[1:].any():
        remarks.append(f"{lost[1:].sum()} lost frames (nan or a negative size) count as failures")
    if len(prediction) != len(truth):
        effect = "the rest count as failures" if len(prediction) < len(truth) else "the surplus is ignored"
        remarks.append(f"{len(prediction)} boxes for {len(truth)} frames; {effect}")
    if len(prediction) == len(truth) - 1 and rule.strict:
        prediction = np.concatenate((prediction, [_MISS]))
    try:
        return prediction, metrics.frame_errors(prediction, truth, rule, sequence.visible), remarks
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def counted_overlaps(sequence: Sequence, prediction: np.ndarray, errors: metrics.FrameErrors) -> np.ndarray:
    """IoU (K,) of the frames that count for AO: those with a visible object, without the first.

    As in GOT-10k's toolkit, `cover.label` alone decides visibility where it exists, and boxes are clipped to the frame
    where `meta_info.ini` gives its size. The prediction is (M, 4); frames after it have no overlap.
    """
    visible = sequence.visible if sequence.covered is None else sequence.covered
    counted = errors.valid if visible is None else errors.valid & visible
    counted = np.flatnonzero(counted[1:]) + 1
    size = _RESOLUTION.match(read_meta(sequence.annotation.with_name("meta_info.ini")).get("resolution", ""))
    if size is None:
        return errors.overlap[counted]
    missing = max(0, len(sequence.truth) - len(prediction))
    boxes = np.concatenate((prediction, np.zeros((missing, 4))))[counted]
    frame = np.array([int(size[1]), int(size[2])])
    return metrics.box_overlap(_clip(boxes, frame), _clip(sequence.truth[counted], frame))


def _clip(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Boxes (K, 4) xywh within a frame. As in the toolkit, one that starts outside is moved in, not made narrower."""
    corner = np.clip(boxes[:, :2], 0, frame)
    return np.concatenate((corner, np.clip(boxes[:, 2:], 0, frame - corner)), axis=1)


def _row(source: ResultSource, sequence: Sequence, prediction: np.ndarray, errors: metrics.FrameErrors) -> dict:
    """A row of `TrackerScores.table`."""
    scores, overlaps = metrics.score_errors(errors), counted_overlaps(sequence, prediction, errors)
    still = source.owner.parent.name == "still"  # it computes nothing
    seconds = None if still else read_seconds(source.files(sequence)[1])
    seconds = np.empty(0) if seconds is None else seconds[1:]  # the first is the initialisation
    sums = {
        "frames": len(overlaps),
        "ao": overlaps.sum(),
        "sr50": (overlaps > 0.5).sum(),
        "sr75": (overlaps > 0.75).sum(),
        "steps": len(seconds),
        "seconds": seconds.sum(),
    }
    parts = {curve: dict(zip(thresholds, scores.pop(curve), strict=True)) for curve, thresholds in CURVES.items()}
    parts |= {"score": scores, "sum": sums}
    return {(part, key): float(value) for part, values in parts.items() for key, value in values.items()}
