"""Scores of trackers as a table of plain text."""

import math
from collections.abc import Sequence

from lib.test.analysis.results import TrackerScores

_COLUMNS = {
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
    rows = [["Tracker", *_COLUMNS, "Sequences"]]
    for tracker in sorted(trackers, key=lambda tracker: -tracker.scores["auc"]):
        mark = "*" if tracker.missing else ""
        numbers = [_number(tracker.scores[key]) for key in _COLUMNS.values()]
        rows.append([tracker.label, *numbers, f"{len(tracker.sequences)}/{tracker.expected}{mark}"])
    lines = _aligned(rows)
    lines.insert(1, "-" * max(map(len, lines)))
    notes = [note for tracker in trackers for note in tracker.notes]
    if any(tracker.missing for tracker in trackers):
        notes.append("* means are over the sequences done; rows over different sequences do not compare")
    return "\n".join(lines + notes)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _aligned(rows: list[list[str]]) -> list[str]:
    """First column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
