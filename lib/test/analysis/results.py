"""Scores of trackers over a whole test set, from their result files.

Curves are means over sequences. AO, SR0.50 and SR0.75 follow GOT-10k (Huang et al., TPAMI 2019): over the
frames of all sequences together, without first frames and frames where the object cannot be seen. What is
missing, short or long is named in the scores, and never filled in silently.
"""

import json
import math
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.test.analysis.metrics import (
    DISTANCE_THRESHOLDS,
    NORM_DISTANCE_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    curve_scores,
    frame_errors,
    score_errors,
    scoring_rule,
)
from lib.test.evaluation.result_files import read_result, read_seconds, result_path, run_dir, time_path
from lib.test.evaluation.sequence import Sequence
from lib.utils.errors import UserError
from lib.utils.files import write_text

CURVES = ("success_curve", "precision_curve", "norm_precision_curve")


@dataclass(frozen=True)
class SequenceResult:
    """One sequence of one tracker.

    Attributes:
        name: the sequence.
        scores: as `lib.test.analysis.metrics.sequence_scores` gives them.
        overlaps: IoU (K,) of the frames that count for AO.
        seconds: time of every `track` call, None where it was not recorded.
        length_note: "" where the result has one box a frame, otherwise what was done about it.
    """

    name: str
    scores: dict[str, np.ndarray | float]
    overlaps: np.ndarray
    seconds: np.ndarray | None
    length_note: str = ""


@dataclass(frozen=True)
class TrackerScores:
    """One tracker over a test set.

    Attributes:
        label: `tracker:config`.
        expected: number of sequences in the set.
        missing: sequences without a result; the means are without them.
        sequences: the others, at least one.
        curves: mean `success_curve` (21,), `precision_curve` (51,), `norm_precision_curve` (51,), fractions.
        scores: `auc`, `op50`, `op75`, `precision`, `norm_precision`, `ao`, `sr50`, `sr75` in percent, and
            `fps` (frames a second inside `track`). nan where there is nothing to take it from.
    """

    label: str
    expected: int
    missing: list[str]
    sequences: list[SequenceResult]
    curves: dict[str, np.ndarray]
    scores: dict[str, float]

    @property
    def notes(self) -> list[str]:
        """One line for each thing that makes the scores differ from those of a complete run."""
        notes = [f"{self.label}: {s.name}: {s.length_note}" for s in self.sequences if s.length_note]
        if self.missing:
            names = ", ".join(self.missing)
            notes.insert(0, f"{self.label}: no result for {len(self.missing)} of {self.expected} sequences: {names}")
        return notes


def parse_tracker(text: str) -> tuple[str, str]:
    """`tracker:config` as two names.

    Raises:
        UserError: it has another form.
    """
    tracker, _, config = text.partition(":")
    if not tracker or not config:
        raise UserError(
            f"{text!r} does not name a tracker's results: expected tracker:config, such as stark_s:baseline"
        )
    return tracker, config


def score_tracker(results_dir: Path, tracker: str, config: str, sequences: SequenceOf[Sequence]) -> TrackerScores:
    """Score every sequence of a test set that has a result.

    Raises:
        UserError: no sequence has a result, a file is malformed, a result is short where that is not allowed,
            or the set's ground truth is not complete.
    """
    output_dir = run_dir(results_dir, tracker, config)
    done = [sequence for sequence in sequences if result_path(output_dir, sequence).is_file()]
    if not done:
        where = result_path(output_dir, sequences[0]).parent
        raise UserError(f"no results of {tracker}:{config} for these sequences in {where}; run tracking/test.py first")
    results = [score_sequence(output_dir, sequence) for sequence in done]

    curves = {name: np.mean([result.scores[name] for result in results], axis=0) for name in CURVES}
    finished = {sequence.name for sequence in done}
    return TrackerScores(
        label=f"{tracker}:{run_dir(results_dir, tracker, config).name}",
        expected=len(sequences),
        missing=[sequence.name for sequence in sequences if sequence.name not in finished],
        sequences=results,
        curves=curves,
        scores=curve_scores(**curves) | _pooled_scores(results),
    )


def score_sequence(output_dir: Path, sequence: Sequence) -> SequenceResult:
    """Score one sequence from its result file; errors as in `score_tracker`."""
    path = result_path(output_dir, sequence)
    prediction, truth, visible = read_result(path), sequence.truth, sequence.visible
    sequence.check_lengths()
    if len(truth) == 1 and len(sequence.frames) > 1:
        raise UserError(
            f"{sequence.name}: {sequence.annotation} holds the first box only, so there is nothing to score against"
        )
    try:
        errors = frame_errors(prediction, truth, scoring_rule(sequence.dataset), visible)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    counted = errors.valid if visible is None else errors.valid & visible
    return SequenceResult(
        name=sequence.name,
        scores=score_errors(errors),
        overlaps=errors.overlap[1:][counted[1:]],
        seconds=_track_seconds(time_path(output_dir, sequence)),
        length_note=_length_note(len(prediction), len(truth)),
    )


def save_json(path: Path, dataset: str, trackers: SequenceOf[TrackerScores]) -> None:
    """Write all numbers of all trackers, sequence by sequence too; nan becomes null."""
    content = {
        "dataset": dataset,
        "thresholds": dict(
            zip(CURVES, (OVERLAP_THRESHOLDS, DISTANCE_THRESHOLDS, NORM_DISTANCE_THRESHOLDS), strict=True)
        ),
        "trackers": {
            scores.label: {
                "sequences_expected": scores.expected,
                "sequences_done": len(scores.sequences),
                "missing": scores.missing,
                "notes": scores.notes,
                "scores": scores.scores,
                "curves": scores.curves,
                "sequences": {result.name: result.scores for result in scores.sequences},
            }
            for scores in trackers
        },
    }
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def _pooled_scores(results: list[SequenceResult]) -> dict[str, float]:
    """Scores over the frames of all sequences together."""
    overlaps = np.concatenate([result.overlaps for result in results])
    seconds = [result.seconds for result in results if result.seconds is not None]
    seconds = np.concatenate(seconds) if seconds else np.empty(0)
    return {
        "ao": 100 * _mean(overlaps),
        "sr50": 100 * _mean(overlaps > 0.5),
        "sr75": 100 * _mean(overlaps > 0.75),
        "fps": float(len(seconds) / seconds.sum()) if seconds.sum() > 0 else math.nan,
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan


def _track_seconds(path: Path) -> np.ndarray | None:
    """Seconds of the `track` calls: those of all frames without the first, which initialises."""
    seconds = read_seconds(path)
    return None if seconds is None else seconds[1:]


def _length_note(predicted: int, expected: int) -> str:
    if predicted < expected:
        return f"{predicted} boxes for {expected} frames; the rest count as failures"
    if predicted > expected:
        return f"{predicted} boxes for {expected} frames; the surplus is ignored"
    return ""


def _plain(value: object) -> object:
    """Arrays to lists and nan to None, all the way down, for JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else round(float(value), 6)
    return value
