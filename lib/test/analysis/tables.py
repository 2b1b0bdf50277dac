"""Scores as tables: plain text for the terminal; CSV, LaTeX and JSON for other programs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from lib.test.analysis.groups import Group
from lib.test.analysis.metrics import DISTANCE_THRESHOLDS, NORM_DISTANCE_THRESHOLDS, OVERLAP_THRESHOLDS
from lib.test.analysis.scores import CURVES, TrackerScores
from lib.utils.files import write_text
from lib.utils.text import ruled_table

# Title of a column to key of `TrackerScores.scores`.
COLUMNS = {
    "AUC": "auc",
    "OP50": "op50",
    "OP75": "op75",
    "Prec": "precision",
    "NormPrec": "norm_precision",
    "AO": "ao",
    "SR0.50": "sr50",
    "SR0.75": "sr75",
    "FPS": "fps",
}
_SEQUENCE_SCORES = ["auc", "op50", "op75", "precision", "norm_precision", "mean_overlap_valid"]


def score_table(trackers: Sequence[TrackerScores]) -> str:
    """One row a tracker, highest AUC first, then the notes.

    Scores are in percent, FPS in frames a second; `-` where there is no number. An asterisk marks a
    row whose means are not over the whole test set.
    """
    rows = [["Tracker", *COLUMNS, "Sequences"]]
    for tracker in sorted(trackers, key=lambda tracker: -tracker.scores["auc"]):
        numbers = [format_score(tracker.scores[key]) for key in COLUMNS.values()]
        rows.append([tracker.label, *numbers, done(tracker)])
    return "\n".join([ruled_table(rows), *score_notes(trackers)])


def score_notes(trackers: Sequence[TrackerScores]) -> list[str]:
    """One line for each missing, short or long result, and for the asterisk where there is one."""
    notes = [note for tracker in trackers for note in tracker.notes]
    if any(tracker.missing for tracker in trackers):
        notes.append("* means are over the sequences done; rows over different sequences do not compare")
    return notes


def group_table(trackers: Sequence[TrackerScores], groups: Sequence[Group]) -> str:
    """AUC in percent of each group of sequences, a column a tracker; an asterisk where sequences are missing."""
    rows = [["AUC by group", "Sequences", *(tracker.label for tracker in trackers)]]
    for group in groups:
        parts = [tracker.only(group.sequences) for tracker in trackers]
        aucs = [format_score(part.scores["auc"]) + ("*" if part.missing else "") if part else "-" for part in parts]
        rows.append([f"{group.kind} {group.name}", str(len(group.sequences)), *aucs])
    return ruled_table(rows)


def sequence_table(trackers: Sequence[TrackerScores]) -> str:
    """AUC in percent of each sequence, a column a tracker, lowest mean first; `-` where there is no result."""
    aucs = sequence_aucs(trackers)
    rows = [[name, *map(format_score, values)] for name, *values in aucs.itertuples()]
    return ruled_table([["AUC by sequence", *aucs.columns], *rows])


def sequence_aucs(trackers: Sequence[TrackerScores]) -> pandas.DataFrame:
    """AUC in percent, a row a sequence and a column a tracker; nan without a result; lowest mean first."""
    columns = [pandas.Series({s.name: s.scores["auc"] for s in t.sequences}, name=t.label) for t in trackers]
    frame = pandas.concat(columns, axis=1)
    return frame.loc[frame.mean(axis=1).sort_values(kind="stable").index]


def format_score(value: float) -> str:
    """One decimal; `-` for nan."""
    return "-" if math.isnan(value) else f"{value:.1f}"


def done(tracker: TrackerScores) -> str:
    """Sequences with a result of all sequences, with an asterisk where some are missing."""
    return f"{len(tracker.sequences)}/{tracker.expected}{'*' if tracker.missing else ''}"


def save_tables(output_dir: Path, trackers: Sequence[TrackerScores], groups: Sequence[Group]) -> None:
    """Write `scores.csv` and `scores.tex` (a row a tracker), `sequences.csv` (a row a sequence and tracker) and, where
    there are groups, `groups.csv` (a row a group and tracker). A missing number is an empty field.
    """
    frame = pandas.DataFrame(
        {"tracker": t.label, "sequences": len(t.sequences), "expected": t.expected} | t.scores for t in trackers
    )
    _write_csv(output_dir / "scores.csv", frame)
    table = frame.sort_values("auc", ascending=False).set_index("tracker")[list(COLUMNS.values())]
    table = table.rename_axis("Tracker").reset_index().set_axis(["Tracker", *COLUMNS], axis=1)
    write_text(output_dir / "scores.tex", table.to_latex(index=False, float_format="%.1f", na_rep="-", escape=True))
    rows = [
        {"sequence": s.name, "tracker": t.label}
        | {key: s.scores[key] for key in _SEQUENCE_SCORES}
        | {"note": s.length_note}
        for t in trackers
        for s in t.sequences
    ]
    rows += [{"sequence": name, "tracker": t.label, "note": "no result"} for t in trackers for name in t.missing]
    _write_csv(output_dir / "sequences.csv", pandas.DataFrame(rows))
    rows = [
        {"kind": group.kind, "group": group.name, "tracker": t.label, "sequences": len(part.sequences)} | part.scores
        for group in groups
        for t in trackers
        if (part := t.only(group.sequences))
    ]
    if rows:
        _write_csv(output_dir / "groups.csv", pandas.DataFrame(rows))


def save_json(path: Path, dataset: str, trackers: Sequence[TrackerScores], groups: Sequence[Group]) -> None:
    """Write all numbers of all trackers, by group and by sequence, too; nan becomes null."""
    thresholds = (OVERLAP_THRESHOLDS, DISTANCE_THRESHOLDS, NORM_DISTANCE_THRESHOLDS)
    content = {
        "dataset": dataset,
        "thresholds": dict(zip(CURVES, thresholds, strict=True)),
        "groups": [{"kind": group.kind, "name": group.name, "sequences": group.sequences} for group in groups],
        "trackers": {
            tracker.label: {
                "sequences_expected": tracker.expected,
                "sequences_done": len(tracker.sequences),
                "missing": tracker.missing,
                "notes": tracker.notes,
                "scores": tracker.scores,
                "curves": tracker.curves,
                "groups": {
                    f"{group.kind} {group.name}": part.scores
                    for group in groups
                    if (part := tracker.only(group.sequences))
                },
                "sequences": {result.name: result.scores for result in tracker.sequences},
            }
            for tracker in trackers
        },
    }
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def _write_csv(path: Path, frame: pandas.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


def _plain(value: object) -> object:
    """Arrays to lists and nan to None at any depth, for JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(float(value), 6) if math.isfinite(value) else None
    return value
