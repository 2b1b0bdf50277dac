"""The whole evaluation of trackers on test sets: tables, plots, numbers and a page; and reports of GOT-10k's server."""

import json
import math
from collections.abc import Sequence as SequenceOf
from pathlib import Path

import numpy as np

from ...data.registry import dataset_label
from ...utils.errors import UserError
from ...utils.files import read_text, ruled_table, write_text
from ...utils.workspace import workspace
from . import page, selection, tables
from .plots import PLOTS, draw_plot, plot_attributes, plot_trackers, save_plot
from .scores import TrackerScores, merge_runs, score_source

_OVERLAPS = np.linspace(0, 1, 101)


def analyse(
    trackers: SequenceOf[str],
    datasets: SequenceOf[str],
    output_dir: Path | None = None,
    plots: SequenceOf[str] = tuple(PLOTS),
    results_dir: Path | None = None,
    merge: bool = False,
    per_sequence: bool = False,
    filters: SequenceOf[str] = (),
    latex: bool = False,
) -> list[TrackerScores]:
    """Score trackers on joined test sets, print tables and save plots, numbers and a page.

    Args:
        trackers, filters: as `lib.test.analysis.selection` describes.
        datasets: each as `load_dataset` takes it.
        output_dir: folder for the files, in place of those of an earlier analysis; by default a folder under the
            workspace's plots with the sets' names.
        merge: one row for all runs of a tracker, their mean.
        per_sequence: print every sequence's scores, too.
        latex: also write the AUC by group and by sequence as LaTeX, as `scores.tex` always is.
    """
    sources = selection.parse_trackers(trackers, results_dir or workspace("test").results_dir)
    whole = selection.load_sets(datasets)
    sets = selection.filter_sets(whole, filters, sources)
    sequences, groups, total = selection.joined(sets), selection.find_groups(sets), len(selection.joined(whole))
    rows: dict[str, list[TrackerScores]] = {}
    for source in sources:
        rows.setdefault(source.group if merge else source.label, []).append(score_source(source, sequences))
    scores = [merge_runs(label, runs) for label, runs in rows.items()]
    count = f"{len(sequences)} of {total}" if len(sequences) < total else total
    title, heading = " + ".join(sets), f"{' + '.join(sets)}, {count} sequences"
    shown = tables.all_tables(scores, groups)
    _print_scores(heading, scores)
    for name, wanted in (("groups", groups), ("sequences", per_sequence)):
        if wanted:
            print(f"\n{tables.plain_text(shown[name])}")

    output_dir = output_dir or workspace("test").plots_dir / "+".join(map(dataset_label, dict.fromkeys(datasets)))
    files = [f"{kind}.{suffix}" for kind in (*PLOTS, "attributes") for suffix in ("png", "pdf")]
    for name in ("groups.csv", "groups.tex", "sequences.tex", *files):
        (output_dir / name).unlink(missing_ok=True)  # of an earlier analysis, which this one may not write again
    figures = {kind: plot_trackers(kind, title, scores) for kind in plots}
    if radar := plot_attributes(title, scores, groups):
        figures["attributes"] = radar
    for kind, figure in figures.items():
        save_plot(output_dir / kind, figure)
    tables.save_json(output_dir / "scores.json", "+".join(datasets), scores, groups)
    tables.save_tables(output_dir, scores, groups)
    for name, table in shown.items():
        if len(table) and (latex or name == "scores"):
            write_text(output_dir / f"{name}.tex", tables.latex_table(table, axis=int(name != "scores")))
    views = page.sequence_views(scores, sequences)
    page.save_page(output_dir / "report.html", heading, scores, shown, list(figures.values()), views)
    print(f"plots, numbers and report.html: {output_dir}")
    return scores


def print_runs(tracker: str, config: str, datasets: SequenceOf[str], results_dir: Path | None = None) -> None:
    """Print a tracker's scores: of its results without a run id, of each run, and the mean of the runs."""
    results_dir = results_dir or workspace("test").results_dir
    sets = selection.load_sets(datasets)
    sequences = selection.joined(sets)
    names = f"{tracker}:{config}", f"{tracker}:{config}:0-999"
    known = [each for each in selection.parse_trackers(names, results_dir) if each.folder.is_dir()]
    sources = [each for each in known if any(each.files(s)[0].is_file() for s in sequences.values())]
    empty = ", ".join(each.label for each in known if each not in sources)
    if not sources:
        where = results_dir / tracker
        raise UserError(f"no results of {tracker}:{config} for these sequences in {where}; run tracking/test.py first")
    scores = [score_source(source, sequences) for source in sources]
    runs = [row for row in scores if row.label != row.runs[0][0].group]
    if len(runs) > 1 and set.intersection(*(set(run.table.index) for run in runs)):
        scores.append(merge_runs(f"{tracker}:{config}", runs))
    _print_scores(f"{' + '.join(sets)}, {len(sequences)} sequences", scores)
    if empty:
        print(f"without a result on these sequences: {empty}")


def _print_scores(title: str, scores: SequenceOf[TrackerScores]) -> None:
    print("\n".join([title, tables.plain_text(tables.score_table(scores)), *tables.score_notes(scores)]))


def plot_got_success(paths: SequenceOf[Path], output_dir: Path | None = None) -> None:
    """Print AO, SR0.50 and SR0.75 and plot the success curves of server reports, `got_success.png` and `.pdf`."""
    lines, rows = {}, []
    for tracker, ao, curve, fps in (report for path in paths for report in read_got_report(path)):
        if tracker in lines:
            raise UserError(f"two reports are of a tracker called {tracker!r}; rename it in one of the files")
        lines[tracker] = (tracker, ao, curve)
        rows.append([tracker, *map(tables.format_score, (ao, *np.interp([0.5, 0.75], _OVERLAPS, curve), fps))])
    rows.sort(key=lambda row: -lines[row[0]][1])
    print(ruled_table([["Tracker", "AO", "SR0.50", "SR0.75", "FPS"], *rows]))

    output_dir = output_dir or workspace("test").plots_dir / "got10k_reports"
    spec = PLOTS["success"]._replace(score_label="Average overlap")
    save_plot(output_dir / "got_success", draw_plot(spec, "Success on GOT-10k", _OVERLAPS, list(lines.values())))
    print(f"plots: {output_dir}")


def read_got_report(path: Path) -> list[tuple[str, float, np.ndarray, float]]:
    """The trackers of a report file: name, AO in percent, success curve (101,) in percent over overlaps, FPS or nan.

    The file is JSON, `{tracker: {"overall": {"ao", "succ_curve", …}, …}}`; in old reports "overall" is missing.
    """
    reports = []
    try:
        for tracker, values in json.loads(read_text(path)).items():
            overall = values.get("overall", values)
            ao, curve = float(overall["ao"]), np.array(overall["succ_curve"], dtype=np.float64)
            if len(curve) < 2 or not all(0 <= value <= 1 for value in (ao, *curve)):
                raise ValueError(f"numbers of {tracker!r} are not from 0 to 1")
            curve = np.interp(_OVERLAPS, np.linspace(0, 1, len(curve)), curve)
            speed = float(overall.get("speed_fps") or math.nan)
            reports.append((tracker, 100 * ao, 100 * curve, speed if speed > 0 else math.nan))
        if not reports:
            raise ValueError("it has no tracker")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        need = "expected JSON with numbers 'ao' and 'succ_curve' under 'overall' of each tracker"
        raise UserError(f"{path} is not a report of GOT-10k ({error}): {need}") from error
    return reports
