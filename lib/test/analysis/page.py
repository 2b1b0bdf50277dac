"""An evaluation as one HTML page that needs nothing beside it: it opens from disk and loads nothing."""

import math
from collections.abc import Sequence
from pathlib import Path

import jinja2

from lib.test.analysis.groups import Group
from lib.test.analysis.hardest import HardSequence
from lib.test.analysis.plots import PLOTS, plot_svg, tracker_lines
from lib.test.analysis.scores import TrackerScores
from lib.test.analysis.tables import COLUMNS, done, format_score, score_notes, sequence_aucs
from lib.utils.files import write_text

_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def save_page(
    path: Path,
    title: str,
    trackers: Sequence[TrackerScores],
    plots: Sequence[str],
    groups: Sequence[Group],
    hard: Sequence[HardSequence],
) -> None:
    """Fill `report.html` beside this file and write it.

    Args:
        path: the HTML file.
        title: the evaluation's name.
        trackers: in the order of their colours.
        plots: keys of `lib.test.analysis.plots.PLOTS`.
        groups: sequences with rows of their own.
        hard: sequences to show pictures of.
    """
    page = _PAGES.get_template("report.html").render(
        title=title,
        labels=[tracker.label for tracker in trackers],
        notes=score_notes(trackers),
        columns=[*COLUMNS, "Sequences"],
        scores=_score_rows(trackers),
        plots=[_plot(kind, trackers) for kind in plots],
        groups=[_group_row(group, trackers) for group in groups],
        hard=hard,
        sequences=[_row(name, _cells(aucs, aucs)) for name, *aucs in sequence_aucs(trackers).itertuples()],
        format_score=format_score,
    )
    write_text(path, page + "\n")


def _score_rows(trackers: Sequence[TrackerScores]) -> list[dict]:
    complete = [tracker for tracker in trackers if not tracker.missing]  # means over fewer sequences do not compare
    rows = []
    for index in sorted(range(len(trackers)), key=lambda i: -trackers[i].scores["auc"]):
        tracker, cells = trackers[index], []
        for key in COLUMNS.values():
            compared = [each.scores[key] for each in complete] if not tracker.missing else []
            cells += _cells([tracker.scores[key]], compared)
        count = {"value": len(tracker.sequences), "text": done(tracker), "best": False}
        rows.append(_row(tracker.label, [*cells, count], index))
    return rows


def _group_row(group: Group, trackers: Sequence[TrackerScores]) -> dict:
    parts = [tracker.only(group.sequences) for tracker in trackers]
    aucs = [part.scores["auc"] if part else math.nan for part in parts]
    complete = [part.scores["auc"] for part in parts if part and not part.missing]
    count = {"value": len(group.sequences), "text": len(group.sequences), "best": False}
    return _row(f"{group.kind} {group.name}", [count, *_cells(aucs, complete)])


def _plot(kind: str, trackers: Sequence[TrackerScores]) -> dict:
    lines = tracker_lines(kind, trackers)
    legend = [{"tracker": i, "score": format_score(line.score), "label": line.label} for i, line in enumerate(lines)]
    return {
        "title": PLOTS[kind].title,
        "score_label": PLOTS[kind].score_label,
        "svg": plot_svg(PLOTS[kind], lines),
        "lines": sorted(legend, key=lambda entry: -lines[entry["tracker"]].score),
    }


def _row(name: str, cells: list[dict], tracker: int | None = None) -> dict:
    """A table's row; `tracker` is the index of the tracker whose line is shown before the name."""
    return {"name": name, "cells": cells, "tracker": tracker}


def _cells(values: Sequence[float], compared: Sequence[float]) -> list[dict]:
    """Cells of numbers; one is bold if it is the highest of several that can be compared."""
    numbers = [value for value in compared if not math.isnan(value)]
    best = max(numbers) if len(numbers) > 1 else math.nan
    return [
        {"value": "" if math.isnan(value) else f"{value:.4f}", "text": format_score(value), "best": value == best}
        for value in values
    ]
