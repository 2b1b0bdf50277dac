"""Scores of trackers over test sets, from their result files.

Curves are means over sequences. AO, SR0.50 and SR0.75 follow GOT-10k (Huang et al., TPAMI 2019): they are over the
frames of all sequences together, without first frames and frames where the object is invisible.
"""

import math
import re
from collections import Counter
from collections.abc import Collection
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lib.data.sequence import Sequence
from lib.test.analysis.metrics import FrameErrors, box_overlap, curve_scores, frame_errors, score_errors, scoring_rule
from lib.test.analysis.sources import ResultSource
from lib.test.evaluation.result_files import read_result, read_seconds
from lib.utils.errors import UserError
from lib.utils.text import read_text

CURVES = ("success_curve", "precision_curve", "norm_precision_curve")

_NAMED_ERRORS = 3
_RESOLUTION = re.compile(r"^\s*resolution\s*[:=]\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)", re.MULTILINE | re.ASCII)


@dataclass(frozen=True)
class SequenceResult:
    """One sequence of one tracker.

    Attributes:
        name: as `unique_names` gives it.
        scores: as `lib.test.analysis.metrics.sequence_scores` gives them.
        overlaps: IoU (K,) of the frames that count for AO.
        seconds: time of every `track` call; empty where it was not recorded.
        files: the result file, or one of each merged run.
        length_note: "" where the result has one box a frame, otherwise how the difference counts.
    """

    name: str
    scores: dict[str, np.ndarray | float]
    overlaps: np.ndarray
    seconds: np.ndarray
    files: tuple[Path, ...]
    length_note: str = ""


@dataclass(frozen=True)
class TrackerScores:
    """One tracker, or the mean of its runs, over test sets.

    Attributes:
        label: its name in tables and plots.
        missing: sequences without a result; the means are without them.
        sequences: the others, at least one.
        run_notes: notes on the merged runs.
    """

    label: str
    missing: list[str]
    sequences: list[SequenceResult]
    run_notes: tuple[str, ...] = ()

    @property
    def expected(self) -> int:
        """Number of sequences in the test sets."""
        return len(self.sequences) + len(self.missing)

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """Mean `success_curve` (21,), `precision_curve` (51,), `norm_precision_curve` (51,), as fractions."""
        return {name: np.mean([result.scores[name] for result in self.sequences], axis=0) for name in CURVES}

    @cached_property
    def scores(self) -> dict[str, float]:
        """`auc`, `op50`, `op75`, `precision`, `norm_precision`, `ao`, `sr50`, `sr75` in percent; `fps` inside `track`.

        Nan where no frame counts or no time was recorded.
        """
        overlaps = np.concatenate([result.overlaps for result in self.sequences])
        seconds = np.concatenate([result.seconds for result in self.sequences])
        return curve_scores(**self.curves) | {
            "ao": _percent(overlaps),
            "sr50": _percent(overlaps > 0.5),
            "sr75": _percent(overlaps > 0.75),
            "fps": float(len(seconds) / seconds.sum()) if seconds.sum() > 0 else math.nan,
        }

    @property
    def notes(self) -> list[str]:
        """One line for each difference from the scores of a complete run."""
        notes = [f"{self.label}: {s.name}: {s.length_note}" for s in self.sequences if s.length_note]
        if self.missing:
            names = ", ".join(self.missing)
            notes.insert(0, f"{self.label}: no result for {len(self.missing)} of {self.expected} sequences: {names}")
        return [*self.run_notes, *notes]

    def only(self, names: Collection[str]) -> "TrackerScores | None":
        """The scores over these sequences alone; None where none of them has a result."""
        chosen = [result for result in self.sequences if result.name in names]
        return TrackerScores(self.label, [name for name in self.missing if name in names], chosen) if chosen else None


def unique_names(sequences: SequenceOf[Sequence]) -> list[str]:
    """Names that are unique in joined sets: the sequence's own, with the set before it where two share one."""
    counts = Counter(sequence.name for sequence in sequences)
    return [
        sequence.name if counts[sequence.name] == 1 else f"{sequence.subfolder or sequence.dataset}/{sequence.name}"
        for sequence in sequences
    ]


def score_source(source: ResultSource, sequences: SequenceOf[Sequence]) -> TrackerScores:
    """Score every sequence that has a result.

    Raises:
        UserError: no sequence has a result, a file is malformed, a result is short where that is not allowed,
            or the set's ground truth is not complete.
    """
    results, missing, errors = [], [], []
    for name, sequence in zip(unique_names(sequences), sequences, strict=True):
        if not source.files(sequence)[0].is_file():
            missing.append(name)
            continue
        try:
            results.append(_score_sequence(source, sequence, name))
        except UserError as error:
            errors.append(str(error))
    if errors:
        more = f"; and {len(errors) - _NAMED_ERRORS} more" if len(errors) > _NAMED_ERRORS else ""
        raise UserError("; ".join(errors[:_NAMED_ERRORS]) + more)
    if not results:
        where = source.files(sequences[0])[0].parent
        remedy = f"expected {sequences[0].name}.txt and so on" if source.foreign else "run tracking/test.py first"
        raise UserError(f"no results of {source.label} for these sequences in {where}; {remedy}")
    return TrackerScores(source.label, missing, results)


def merge_runs(label: str, runs: SequenceOf[TrackerScores]) -> TrackerScores:
    """One row for several runs of a tracker: each sequence scores the mean of its runs.

    A sequence that is missing in any run is missing from the mean.

    Raises:
        UserError: no sequence has a result of every run.
    """
    if len(runs) == 1:
        return runs[0]
    by_name = [{result.name: result for result in run.sequences} for run in runs]
    complete = [name for name in by_name[0] if all(name in results for results in by_name)]
    if not complete:
        raise UserError(f"{label}: no sequence has a result of every run, so there is nothing to merge")
    labels = ", ".join(run.label for run in runs)
    aucs = [run.scores["auc"] for run in runs]
    spread = f"AUC {np.mean(aucs):.1f} with a standard deviation of {np.std(aucs, ddof=1):.1f}"
    return TrackerScores(
        f"{label} ({len(runs)} runs)",
        list(dict.fromkeys(name for run in runs for name in run.missing)),
        [_merge_sequence([results[name] for results in by_name]) for name in complete],
        (f"{label}: mean of {len(runs)} runs, {labels}: {spread}", *(note for run in runs for note in run.notes)),
    )


def counted_overlaps(sequence: Sequence, prediction: np.ndarray, errors: FrameErrors) -> np.ndarray:
    """IoU (K,) of the frames that count for AO: those with a visible object, without the first.

    As in GOT-10k's toolkit, `cover.label` alone decides visibility where it exists, and boxes are clipped to the frame
    where `meta_info.ini` gives its size.

    Args:
        sequence: with its ground truth (N, 4).
        prediction: (M, 4) xywh; missing frames have no overlap.
        errors: of the same boxes, on all N frames.
    """
    visible = sequence.visible if sequence.covered is None else sequence.covered
    counted = errors.valid if visible is None else errors.valid & visible
    counted = np.flatnonzero(counted[1:]) + 1
    info = sequence.annotation.with_name("meta_info.ini")
    size = _RESOLUTION.search(read_text(info, errors="replace")) if info.is_file() else None
    if size is None:
        return errors.overlap[counted]
    missing = max(0, len(sequence.truth) - len(prediction))
    boxes = np.concatenate((prediction, np.zeros((missing, 4))))[counted]
    frame = np.array([int(size[1]), int(size[2])])
    return box_overlap(_clip(boxes, frame), _clip(sequence.truth[counted], frame))


def _clip(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Boxes (K, 4) xywh within a frame. As in the toolkit, one that starts outside is moved in, not made narrower."""
    corner = np.clip(boxes[:, :2], 0, frame)
    return np.concatenate((corner, np.clip(boxes[:, 2:], 0, frame - corner)), axis=1)


def _score_sequence(source: ResultSource, sequence: Sequence, name: str) -> SequenceResult:
    path, time_file = source.files(sequence)
    prediction, truth = read_result(path), sequence.truth
    sequence.check_lengths()
    if len(truth) == 1 and len(sequence) > 1:
        raise UserError(f"{sequence.name}: {sequence.annotation} holds the first box only, so it cannot be scored")
    try:
        errors = frame_errors(prediction, truth, scoring_rule(sequence.dataset), sequence.visible)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    note, seconds = "", read_seconds(time_file)
    if len(prediction) != len(truth):
        effect = "the rest count as failures" if len(prediction) < len(truth) else "the surplus is ignored"
        note = f"{len(prediction)} boxes for {len(truth)} frames; {effect}"
    return SequenceResult(
        name=name,
        scores=score_errors(errors),
        overlaps=counted_overlaps(sequence, prediction, errors),
        seconds=np.empty(0) if seconds is None else seconds[1:],  # the first is the initialisation
        files=(path,),
        length_note=note,
    )


def _merge_sequence(runs: list[SequenceResult]) -> SequenceResult:
    return SequenceResult(
        name=runs[0].name,
        scores={key: np.mean([run.scores[key] for run in runs], axis=0) for key in runs[0].scores},
        overlaps=np.concatenate([run.overlaps for run in runs]),
        seconds=np.concatenate([run.seconds for run in runs]),
        files=tuple(path for run in runs for path in run.files),
    )


def _percent(values: np.ndarray) -> float:
    return 100 * float(values.mean()) if values.size else math.nan
