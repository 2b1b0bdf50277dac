"""Scores of trackers over test sets, from their result files.

Curves are means over sequences. AO, SR0.50 and SR0.75 follow GOT-10k (Huang et al., TPAMI 2019): over the
frames of all sequences together, without first frames and frames where the object cannot be seen. What is
missing, short or long is named in the scores, and never filled in silently.
"""

import math
from collections import Counter
from collections.abc import Collection
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data.sequence import Sequence
from lib.test.analysis.average_overlap import counted_overlaps
from lib.test.analysis.metrics import curve_scores, frame_errors, score_errors, scoring_rule
from lib.test.analysis.sources import ResultSource
from lib.test.evaluation.result_files import read_result, read_seconds, run_dir
from lib.utils.errors import UserError

CURVES = ("success_curve", "precision_curve", "norm_precision_curve")

_NAMED_ERRORS = 3


@dataclass(frozen=True)
class SequenceResult:
    """One sequence of one tracker.

    Attributes:
        name: the sequence, as `unique_names` tells it from others.
        scores: as `lib.test.analysis.metrics.sequence_scores` gives them.
        overlaps: IoU (K,) of the frames that count for AO.
        seconds: time of every `track` call, None where it was not recorded.
        files: the result file, or one of each run that is merged.
        length_note: "" where the result has one box a frame, otherwise what was done about it.
    """

    name: str
    scores: dict[str, np.ndarray | float]
    overlaps: np.ndarray
    seconds: np.ndarray | None
    files: tuple[Path, ...]
    length_note: str = ""


@dataclass(frozen=True)
class TrackerScores:
    """One tracker, or the mean of its runs, over test sets.

    Attributes:
        label: its name in tables and plots.
        expected: number of sequences there are.
        missing: sequences without a result; the means are without them.
        sequences: the others, at least one.
        curves: mean `success_curve` (21,), `precision_curve` (51,), `norm_precision_curve` (51,), fractions.
        scores: `auc`, `op50`, `op75`, `precision`, `norm_precision`, `ao`, `sr50`, `sr75` in percent, and
            `fps` (frames a second inside `track`). nan where there is nothing to take it from.
        run_notes: what there is to know of the runs that are merged.
    """

    label: str
    expected: int
    missing: list[str]
    sequences: list[SequenceResult]
    curves: dict[str, np.ndarray]
    scores: dict[str, float]
    run_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """One line for each thing that makes the scores differ from those of a complete run."""
        notes = [f"{self.label}: {s.name}: {s.length_note}" for s in self.sequences if s.length_note]
        if self.missing:
            names = ", ".join(self.missing)
            notes.insert(0, f"{self.label}: no result for {len(self.missing)} of {self.expected} sequences: {names}")
        return [*self.run_notes, *notes]

    def only(self, names: Collection[str]) -> "TrackerScores | None":
        """The same over those sequences alone; None where none of them has a result."""
        chosen = [result for result in self.sequences if result.name in names]
        return _mean_scores(self.label, len(names), [n for n in self.missing if n in names], chosen) if chosen else None


def unique_names(sequences: SequenceOf[Sequence]) -> list[str]:
    """Names that tell sequences of joined sets apart: their own, with the set before it where two share one."""
    counts = Counter(sequence.name for sequence in sequences)
    return [
        sequence.name if counts[sequence.name] == 1 else f"{sequence.subfolder or sequence.dataset}/{sequence.name}"
        for sequence in sequences
    ]


def score_tracker(
    results_dir: Path, tracker: str, config: str, sequences: SequenceOf[Sequence], run_id: int | None = None
) -> TrackerScores:
    """Score the results of `tracking/test.py`; see `score_source`."""
    folder = run_dir(results_dir, tracker, config, run_id)
    return score_source(ResultSource(f"{tracker}:{folder.name}", folder), sequences)


def score_source(source: ResultSource, sequences: SequenceOf[Sequence]) -> TrackerScores:
    """Score every sequence that has a result.

    Raises:
        UserError: no sequence has a result, a file is malformed, a result is short where that is not allowed,
            or the set's ground truth is not complete.
    """
    results, missing, errors = [], [], []
    for name, sequence in zip(unique_names(sequences), sequences, strict=True):
        if not source.result_file(sequence).is_file():
            missing.append(name)
            continue
        try:
            results.append(score_sequence(source, sequence, name))
        except UserError as error:
            errors.append(str(error))
    if errors:
        more = f"; and {len(errors) - _NAMED_ERRORS} more" if len(errors) > _NAMED_ERRORS else ""
        raise UserError("; ".join(errors[:_NAMED_ERRORS]) + more)
    if not results:
        where = source.result_file(sequences[0]).parent
        remedy = f"expected {sequences[0].name}.txt and so on" if source.foreign else "run tracking/test.py first"
        raise UserError(f"no results of {source.label} for these sequences in {where}; {remedy}")
    return _mean_scores(source.label, len(sequences), missing, results)


def score_sequence(source: ResultSource, sequence: Sequence, name: str = "") -> SequenceResult:
    """Score one sequence from its result file, under another name than its own where one is given.

    Raises:
        UserError: as in `score_source`.
    """
    path = source.result_file(sequence)
    prediction, truth = read_result(path), sequence.truth
    sequence.check_lengths()
    if len(truth) == 1 and len(sequence) > 1:
        raise UserError(
            f"{sequence.name}: {sequence.annotation} holds the first box only, so there is nothing to score against"
        )
    try:
        errors = frame_errors(prediction, truth, scoring_rule(sequence.dataset), sequence.visible)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return SequenceResult(
        name=name or sequence.name,
        scores=score_errors(errors),
        overlaps=counted_overlaps(sequence, prediction, errors),
        seconds=_track_seconds(source.time_file(sequence)),
        files=(path,),
        length_note=_length_note(len(prediction), len(truth)),
    )


def merge_runs(label: str, runs: SequenceOf[TrackerScores]) -> TrackerScores:
    """One row for several runs of a tracker: each sequence scores the mean of its runs.

    A sequence that any run lacks is missing from the mean, and named.

    Raises:
        UserError: no sequence has a result of every run.
    """
    if len(runs) == 1:
        return runs[0]
    by_name = [{result.name: result for result in run.sequences} for run in runs]
    merged = [
        _merge_sequence([results[result.name] for results in by_name])
        for result in runs[0].sequences
        if all(result.name in results for results in by_name)
    ]
    if not merged:
        raise UserError(f"{label}: no sequence has a result of every run, so there is nothing to merge")
    labels = ", ".join(run.label for run in runs)
    aucs = [run.scores["auc"] for run in runs]
    spread = f"AUC {np.mean(aucs):.1f} with a standard deviation of {np.std(aucs, ddof=1):.1f}"
    return _mean_scores(
        f"{label} ({len(runs)} runs)",
        runs[0].expected,
        list(dict.fromkeys(name for run in runs for name in run.missing)),
        merged,
        (f"{label}: mean of {len(runs)} runs, {labels}: {spread}", *(note for run in runs for note in run.notes)),
    )


def _merge_sequence(runs: list[SequenceResult]) -> SequenceResult:
    seconds = [run.seconds for run in runs if run.seconds is not None]
    return SequenceResult(
        name=runs[0].name,
        scores={key: np.mean([run.scores[key] for run in runs], axis=0) for key in runs[0].scores},
        overlaps=np.concatenate([run.overlaps for run in runs]),
        seconds=np.concatenate(seconds) if seconds else None,
        files=tuple(path for run in runs for path in run.files),
    )


def _mean_scores(
    label: str, expected: int, missing: list[str], results: list[SequenceResult], run_notes: tuple[str, ...] = ()
) -> TrackerScores:
    curves = {name: np.mean([result.scores[name] for result in results], axis=0) for name in CURVES}
    return TrackerScores(
        label, expected, missing, results, curves, curve_scores(**curves) | _pooled_scores(results), run_notes
    )


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
