"""An evaluation as one HTML page that needs nothing beside it: it opens from disk and loads nothing."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lib.test.analysis.groups import Group
from lib.test.analysis.plots import PLOTS, tracker_lines
from lib.test.analysis.results import TrackerScores
from lib.test.analysis.svg import curves_svg, swatch_svg
from lib.test.analysis.tables import COLUMNS, score_notes, sequence_aucs
from lib.test.analysis.thumbnails import HardSequence
from lib.utils.files import write_text

_PARTS = Path(__file__).parent / "page_parts"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def save_page(
    path: Path,
    title: str,
    trackers: Sequence[TrackerScores],
    plots: Sequence[str],
    groups: Sequence[Group],
    hard: Sequence[HardSequence],
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        title: what was evaluated.
        trackers: in the order of their colours.
        plots: keys of `lib.test.analysis.plots.PLOTS`.
        groups: sequences with rows of their own.
        hard: sequences to show pictures of.
    """
    sections = [
        _notes(trackers),
        _section("Scores", _score_table(trackers), "Percent; FPS in frames a second. Click a column's title to sort."),
        _section("Curves", _plots(plots, trackers)) if plots else "",
        _section(
            "Groups",
            _group_table(trackers, groups),
            "AUC in percent; the best of the complete ones is bold.",
        )
        if groups
        else "",
        _section("Hardest sequences", _hard(trackers, hard), _hard_hint(trackers)) if hard else "",
        _section("All sequences", _sequence_table(trackers), "AUC in percent, lowest mean first; the best is bold."),
    ]
    write_text(
        path,
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{_part("page.css")}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{"".join(sections)}</main>
<script>
{_part("page.js")}</script>
</body>
</html>
""",
    )


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _section(title: str, content: str, hint: str = "") -> str:
    hint = f'<p class="hint">{hint}</p>\n' if hint else ""
    return f"<section>\n<h2>{title}</h2>\n{hint}{content}</section>\n"


def _notes(trackers: Sequence[TrackerScores]) -> str:
    notes = score_notes(trackers)
    items = "".join(f"<li>{escape(note)}</li>\n" for note in notes)
    return f'<section class="notes">\n<h2>Notes</h2>\n<ul>\n{items}</ul>\n</section>\n' if notes else ""


def _score_table(trackers: Sequence[TrackerScores]) -> str:
    order = sorted(range(len(trackers)), key=lambda i: -trackers[i].scores["auc"])
    whole = [tracker for tracker in trackers if not tracker.missing]  # means over fewer sequences do not compare
    best = {key: _best([tracker.scores[key] for tracker in whole]) for key in COLUMNS.values()}
    rows = []
    for i in order:
        tracker = trackers[i]
        cells = [
            _number(tracker.scores[key], not tracker.missing and tracker.scores[key] == best[key])
            for key in COLUMNS.values()
        ]
        mark = "*" if tracker.missing else ""
        done = f'<td data-value="{len(tracker.sequences)}">{len(tracker.sequences)}/{tracker.expected}{mark}</td>'
        rows.append(_row(_tracker_name(i, tracker), tracker.label, [*cells, done]))
    return _table("Tracker", [*COLUMNS, "Sequences"], rows)


def _plots(plots: Sequence[str], trackers: Sequence[TrackerScores]) -> str:
    figures = []
    for kind in plots:
        spec, lines = PLOTS[kind], tracker_lines(kind, trackers)
        legend = "".join(
            f"<li>{swatch_svg(i)}<b>{lines[i].score:.1f}</b> {escape(lines[i].label)}</li>\n"
            for i in sorted(range(len(lines)), key=lambda i: -lines[i].score)
        )
        caption = f"<figcaption><h3>{escape(spec.title)}</h3></figcaption>"
        hint = f'<p class="hint">{escape(spec.score_label)}, best first</p>'
        figures.append(f"<figure>{caption}\n{curves_svg(spec, lines)}\n{hint}<ul>\n{legend}</ul></figure>\n")
    return f'<div class="plots">\n{"".join(figures)}</div>\n'


def _group_table(trackers: Sequence[TrackerScores], groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        parts = [tracker.only(group.sequences) for tracker in trackers]
        aucs = [part.scores["auc"] if part else math.nan for part in parts]
        complete = [auc for auc, part in zip(aucs, parts, strict=True) if part and not part.missing]
        count = f'<td data-value="{len(group.sequences)}">{len(group.sequences)}</td>'
        name = f"{group.kind} {group.name}"
        rows.append(_row(escape(name), name, [count, *_numbers(aucs, complete)]))
    return _table("Group", ["Sequences", *_heads(trackers)], rows)


def _sequence_table(trackers: Sequence[TrackerScores]) -> str:
    rows = [_row(escape(name), name, _numbers(aucs)) for name, aucs in sequence_aucs(trackers)]
    return _table("Sequence", _heads(trackers), rows, "tall")


def _hard(trackers: Sequence[TrackerScores], hard: Sequence[HardSequence]) -> str:
    parts = []
    for each in hard:
        scores = " ".join(
            f"<span>{swatch_svg(i)}{'-' if math.isnan(auc) else f'{auc:.1f}'}</span>" for i, auc in enumerate(each.aucs)
        )
        pictures = "".join(
            f'<figure><img src="{thumbnail.address}" alt="{escape(f"{each.name}, {thumbnail.caption}", quote=True)}">'
            f"<figcaption>{escape(thumbnail.caption)}</figcaption></figure>\n"
            for thumbnail in each.thumbnails
        )
        problem = f'<p class="hint">No pictures: {escape(each.problem)}</p>\n' if each.problem else ""
        parts.append(
            f'<article><h3>{escape(each.name)}</h3><p class="aucs">AUC {scores}</p>\n'
            f'{problem}<div class="strip">\n{pictures}</div></article>\n'
        )
    return "".join(parts)


def _hard_hint(trackers: Sequence[TrackerScores]) -> str:
    names = " ".join(f"<span>{_tracker_name(i, tracker)}</span>" for i, tracker in enumerate(trackers))
    truth = '<span><i class="truth"></i>ground truth</span>'
    return f'Lowest mean AUC first. <span class="key">{truth} {names}</span>'


def _tracker_name(index: int, tracker: TrackerScores) -> str:
    return f"{swatch_svg(index)}{escape(tracker.label)}"


def _heads(trackers: Sequence[TrackerScores]) -> list[str]:
    return [_tracker_name(i, tracker) for i, tracker in enumerate(trackers)]


def _table(first: str, heads: Sequence[str], rows: Sequence[str], kind: str = "") -> str:
    """A table that sorts by any column; `heads` are HTML."""
    columns = "".join(f'<th scope="col"><button type="button">{head}</button></th>' for head in (first, *heads))
    return (
        f'<div class="scroll {kind}" tabindex="0"><table class="sortable">\n<thead><tr>{columns}</tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table></div>\n"
    )


def _row(name: str, value: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row" data-value="{escape(value, quote=True)}">{name}</th>{"".join(cells)}</tr>\n'


def _numbers(values: Sequence[float], compared: Sequence[float] | None = None) -> list[str]:
    """Cells of one row, the best of those that can be compared (all of them by default) in bold."""
    best = _best(values if compared is None else compared)
    return [_number(value, value == best) for value in values]


def _best(values: Sequence[float]) -> float:
    """The highest of several numbers, nan where there is nothing to compare."""
    numbers = [value for value in values if not math.isnan(value)]
    return max(numbers) if len(numbers) > 1 else math.nan


def _number(value: float, best: bool) -> str:
    if math.isnan(value):
        return '<td data-value="">-</td>'
    shown = f"{value:.1f}"
    return f'<td data-value="{value:.4f}">{f"<b>{shown}</b>" if best else shown}</td>'
