"""Scores of trackers as tables of plain text."""

import math
from collections.abc import Sequence

import numpy as np

from lib.test.analysis.groups import Group
from lib.test.analysis.results import TrackerScores
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


def score_table(trackers: Sequence[TrackerScores]) -> str:
    """One row a tracker, highest AUC first, then a line for everything missing, short or long.

    Scores are in percent, FPS in frames a second; `-` where there is no number. An asterisk marks a
    row whose means are not over the whole test set.
    """
    rows = [["Tracker", *COLUMNS, "Sequences"]]
    for tracker in sorted(trackers, key=lambda tracker: -tracker.scores["auc"]):
        mark = "*" if tracker.missing else ""
        numbers = [_number(tracker.scores[key]) for key in COLUMNS.values()]
        rows.append([tracker.label, *numbers, f"{len(tracker.sequences)}/{tracker.expected}{mark}"])
    table = ruled_table(rows)
    return "\n".join([table, *score_notes(trackers)])


def score_notes(trackers: Sequence[TrackerScores]) -> list[str]:
    """One line for everything missing, short or long, and for the asterisk where there is one."""
    notes = [note for tracker in trackers for note in tracker.notes]
    if any(tracker.missing for tracker in trackers):
        notes.append("* means are over the sequences done; rows over different sequences do not compare")
    return notes


def group_table(trackers: Sequence[TrackerScores], groups: Sequence[Group]) -> str:
    """AUC in percent of each group of sequences, a column a tracker; an asterisk where sequences are missing."""
    rows = [["AUC by group", "Sequences", *(tracker.label for tracker in trackers)]]
    for group in groups:
        parts = [tracker.only(group.sequences) for tracker in trackers]
        cells = [_number(part.scores["auc"]) + ("*" if part.missing else "") if part else "-" for part in parts]
        rows.append([f"{group.kind} {group.name}", str(len(group.sequences)), *cells])
    return ruled_table(rows)


def sequence_table(trackers: Sequence[TrackerScores]) -> str:
    """AUC in percent of each sequence, a column a tracker, lowest mean first; `-` where there is no result."""
    rows = [["AUC by sequence", *(tracker.label for tracker in trackers)]]
    for name, aucs in sequence_aucs(trackers):
        rows.append([name, *map(_number, aucs)])
    return ruled_table(rows)


def sequence_aucs(trackers: Sequence[TrackerScores]) -> list[tuple[str, list[float]]]:
    """Each sequence with its AUC in percent of every tracker, nan without a result; lowest mean first."""
    by_name = [{result.name: result.scores["auc"] for result in tracker.sequences} for tracker in trackers]
    names = dict.fromkeys(name for aucs in by_name for name in aucs)
    rows = [(name, [float(aucs.get(name, math.nan)) for aucs in by_name]) for name in names]
    return sorted(rows, key=lambda row: float(np.nanmean(row[1])))


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
