"""An evaluation as one HTML page that needs nothing beside it: it opens from disk and loads nothing."""

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from datetime import datetime, timezone
from html import escape
from pathlib import Path

import jinja2
import numpy as np
import pandas
from matplotlib.figure import Figure

from ... import __version__
from ...utils.files import write_text
from ..evaluation.result_files import read_note
from .plots import COLOURS, STYLES, plot_svg
from .scores import TrackerScores
from .tables import format_score

_MADE_BY = ("command", "started", "commit")  # what a note knows besides versions


def save_page(
    path: Path,
    title: str,
    trackers: SequenceOf[TrackerScores],
    notes: SequenceOf[str],
    tables: Mapping[str, pandas.DataFrame],
    plots: SequenceOf[Figure],
    views: SequenceOf[dict],
) -> None:
    """Fill `report.html` beside this file and write it; trackers are in the order of their colours.

    The tables are those of `lib.test.analysis.tables.all_tables`, `views` is from `sequence_views`.
    """
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    labels = [tracker.label for tracker in trackers]
    marks = {label: _swatch(i) + escape(label) for i, label in enumerate(labels)}
    runs = [(label, describe_runs(tracker)) for label, tracker in zip(labels, trackers, strict=True)]
    untimed = [label for label, parts in runs if any(facts.get("engine") == "opencv" for facts in parts)]
    scores = tables["scores"].copy()
    scores.loc[untimed, "FPS"] = "-"  # baselines serve to compare boxes
    page = pages.get_template("report.html").render(
        title=title,
        made=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        version=__version__,
        notes=notes,
        runs=runs,
        tables={
            name: _html(table, name == "scores", marks)
            for name, table in {**tables, "scores": scores}.items()
            if len(table)
        },
        plots=list(map(plot_svg, plots)),
        views=views,
        marks=marks,
        ranked=[(labels.index(label), label) for label in scores.index],
        styles=list(map(_line_style, range(len(labels)))),
        colours=len(COLOURS),
        swatches=list(map(_swatch, range(len(labels)))),
        format_score=format_score,
    )
    write_text(path, page + "\n")


def describe_runs(tracker: TrackerScores) -> list[dict[str, str]]:
    """What the notes of a tracker's folders of results say, a dictionary of titles and texts a run; no empty ones."""
    runs = []
    for source in tracker.sources:
        note = {} if source.foreign else read_note(source.folder)  # another program's file may have the name
        made_by, weights, engine = (note.pop(key, {}) for key in ("made_by", "weights", "engine"))
        facts = {key: made_by.pop(key, "") for key in ("weights_file", "device", *_MADE_BY)}
        known = {
            "results": source.folder,
            "run": facts["started"] and f"{facts['started']} UTC".replace("+00:00", ""),
            "weights": facts["weights_file"],
            "SHA-256": weights and " ".join(digest[:16] for digest in weights.split()),
            "engine": engine,
            "device": facts["device"],
            "options": ", ".join(f"{key}={value}".replace(", ", ",") for key, value in note.items()),
            "command": facts["command"],
            "commit": facts["commit"],
            "versions": ", ".join(f"{name} {version}" for name, version in made_by.items() if version),
        }
        runs.append({title: str(text) for title, text in known.items() if text})
    return runs


def _line_style(index: int) -> str:
    """The line of a tracker as CSS; the page's class `k<index>` has it."""
    dashes = list(STYLES.values())[index % len(STYLES)]
    return f"stroke: var(--line-{index % len(COLOURS)}); stroke-dasharray: {dashes};"


def _swatch(index: int) -> str:
    """The line of a tracker in all plots, as a small picture."""
    return f'<svg class="swatch" viewBox="0 0 30 10" aria-hidden="true"><path class="k{index}" d="M1 5H29"/></svg>'


def _html(table: pandas.DataFrame, trackers_are_rows: bool, marks: Mapping[str, str]) -> str:
    """A table of texts with `marks` for labels, and in bold the best tracker's number.

    A number with an asterisk, or in a row with one, does not compare with others.
    """
    numbers = table.apply(pandas.to_numeric, errors="coerce")
    if trackers_are_rows:
        numbers[table["Sequences"].str.endswith("*")] = np.nan
    else:
        numbers = numbers.T
    best = numbers.eq(numbers.max()) & (numbers.count() > 1)
    best = best if trackers_are_rows else best.T
    axis = 0 if trackers_are_rows else 1
    table = table.rename(marks.__getitem__, axis=axis).rename(escape, axis=1 - axis)
    cells = table.mask(best.to_numpy(), "<b>" + table + "</b>")
    return cells.to_html(escape=False, border=0, classes="sortable")
