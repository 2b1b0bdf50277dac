"""Scores as files for other programs: JSON with everything, CSV for spreadsheets."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.test.analysis.groups import Group
from lib.test.analysis.metrics import DISTANCE_THRESHOLDS, NORM_DISTANCE_THRESHOLDS, OVERLAP_THRESHOLDS
from lib.test.analysis.results import CURVES, TrackerScores
from lib.utils.files import write_text

SEQUENCE_SCORES = ("auc", "op50", "op75", "precision", "norm_precision", "mean_overlap_valid")


def save_json(path: Path, dataset: str, trackers: Sequence[TrackerScores], groups: Sequence[Group] = ()) -> None:
    """Write all numbers of all trackers, by group and by sequence too; what is not finite becomes null."""
    content = {
        "dataset": dataset,
        "thresholds": dict(
            zip(CURVES, (OVERLAP_THRESHOLDS, DISTANCE_THRESHOLDS, NORM_DISTANCE_THRESHOLDS), strict=True)
        ),
        "groups": [{"kind": group.kind, "name": group.name, "sequences": list(group.sequences)} for group in groups],
        "trackers": {scores.label: _tracker(scores, groups) for scores in trackers},
    }
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def save_csv(output_dir: Path, trackers: Sequence[TrackerScores], groups: Sequence[Group] = ()) -> None:
    """Write `scores.csv` (a row a tracker), `sequences.csv` (a row a sequence and tracker) and, where there are
    groups, `groups.csv` (a row a group and tracker). An empty field is a number that does not exist.
    """
    _write_rows(
        output_dir / "scores.csv",
        [{"tracker": t.label, "sequences": len(t.sequences), "expected": t.expected} | t.scores for t in trackers],
    )
    _write_rows(
        output_dir / "sequences.csv",
        [
            {"sequence": result.name, "tracker": tracker.label}
            | {key: result.scores[key] for key in SEQUENCE_SCORES}
            | {"note": result.length_note}
            for tracker in trackers
            for result in tracker.sequences
        ]
        + [{"sequence": name, "tracker": t.label, "note": "no result"} for t in trackers for name in t.missing],
    )
    rows = [
        {"kind": group.kind, "group": group.name, "tracker": tracker.label, "sequences": len(part.sequences)}
        | part.scores
        for group in groups
        for tracker in trackers
        if (part := tracker.only(group.sequences))
    ]
    if rows:
        _write_rows(output_dir / "groups.csv", rows)


def _tracker(scores: TrackerScores, groups: Sequence[Group]) -> dict:
    parts = {f"{group.kind} {group.name}": scores.only(group.sequences) for group in groups}
    return {
        "sequences_expected": scores.expected,
        "sequences_done": len(scores.sequences),
        "missing": scores.missing,
        "notes": scores.notes,
        "scores": scores.scores,
        "curves": scores.curves,
        "groups": {name: part.scores for name, part in parts.items() if part},
        "sequences": {result.name: result.scores for result in scores.sequences},
    }


def _write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Write a CSV file; the first row has all columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _field(value) for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _field(value: object) -> object:
    if isinstance(value, float | np.floating):
        return "" if not math.isfinite(value) else f"{value:.4f}"
    return value


def _plain(value: object) -> object:
    """Arrays to lists and nan to None, all the way down, for JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return None if not math.isfinite(value) else round(float(value), 6)
    return value
