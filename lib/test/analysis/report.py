"""The whole evaluation of trackers on test sets: tables, plots, numbers and a page."""

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path

from lib.data.registry import dataset_label
from lib.data.sequence import Sequence
from lib.test.analysis import page, selection, tables
from lib.test.analysis.plots import PLOTS, plot_trackers, save_plot
from lib.test.analysis.scores import TrackerScores, merge_runs, score_source
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

_HARDEST = 8


def analyse(
    trackers: SequenceOf[str],
    datasets: SequenceOf[str],
    output_dir: Path | None = None,
    plots: SequenceOf[str] = tuple(PLOTS),
    results_dir: Path | None = None,
    merge: bool = False,
    per_sequence: bool = False,
    filters: SequenceOf[str] = (),
) -> list[TrackerScores]:
    """Score trackers on joined test sets, print tables and save plots, numbers and a page.

    Args:
        trackers, filters: as `lib.test.analysis.selection` describes.
        datasets: each as `load_dataset` takes it.
        output_dir: folder for the files, in place of those of an earlier analysis; by default a folder under the
            workspace's plots with the sets' names.
        plots: keys of `lib.test.analysis.plots.PLOTS`.
        results_dir: where our results lie; the workspace's by default.
        merge: one row for all runs of a tracker, their mean.
        per_sequence: print every sequence's scores, too.

    Raises:
        UserError: a tracker, set or filter is unknown, or results cannot be scored.
    """
    sources = selection.parse_trackers(trackers, results_dir or workspace("test").results_dir)
    whole = selection.load_sets(datasets)
    sets = selection.filter_sets(whole, filters, sources)
    sequences, total = selection.joined(sets), len(selection.joined(whole))
    scores, groups = _score(sources, sequences, merge), selection.find_groups(sets)
    title, count = " + ".join(sets), f"{len(sequences)} of {total}" if len(sequences) < total else total
    _print_scores(f"{title}, {count} sequences", scores)
    if groups:
        print(f"\n{tables.plain_text(tables.group_table(scores, groups))}")
    if per_sequence:
        print(f"\n{tables.plain_text(tables.sequence_aucs(scores).map(tables.format_score))}")

    output_dir = output_dir or workspace("test").plots_dir / "+".join(map(dataset_label, dict.fromkeys(datasets)))
    for name in ("groups.csv", *(f"{kind}.{suffix}" for kind in PLOTS for suffix in ("png", "pdf"))):
        (output_dir / name).unlink(missing_ok=True)  # of an earlier analysis, which this one may not write again
    figures = {kind: plot_trackers(kind, title, scores) for kind in plots}
    for kind, figure in figures.items():
        save_plot(output_dir / kind, figure)
    tables.save_json(output_dir / "scores.json", "+".join(datasets), scores, groups)
    tables.save_tables(output_dir, scores, groups)
    hard = page.hardest_sequences(scores, sequences, _HARDEST)
    heading = f"{title}, {count} sequences"
    page.save_page(output_dir / "report.html", heading, scores, list(figures.values()), groups, hard)
    print(f"plots, numbers and report.html: {output_dir}")
    return scores


def print_runs(tracker: str, config: str, datasets: SequenceOf[str], results_dir: Path | None = None) -> None:
    """Print a tracker's scores: of its results without a run id, of each run, and the mean of the runs.

    Raises:
        UserError: there are no results, or they cannot be scored.
    """
    results_dir = results_dir or workspace("test").results_dir
    sources = selection.find_runs(results_dir, tracker, config)
    if not sources:
        raise UserError(f"no results of {tracker}:{config} in {results_dir / tracker}; run tracking/test.py first")
    sets = selection.load_sets(datasets)
    sequences = selection.joined(sets)
    begun = [source for source in sources if any(source.files(s)[0].is_file() for s in sequences.values())]
    scores = _score(begun or sources, sequences, merge=False)
    runs = [row for source, row in zip(begun, scores, strict=True) if source.folder != source.owner]
    if len(runs) > 1 and set.intersection(*(set(run.table.index) for run in runs)):
        scores.append(merge_runs(f"{tracker}:{config}", runs))
    _print_scores(f"{' + '.join(sets)}, {len(sequences)} sequences", scores)
    if len(begun) < len(sources):
        empty = ", ".join(source.label for source in sources if source not in begun)
        print(f"without a result on these sequences: {empty}")


def _score(
    sources: SequenceOf[selection.ResultSource], sequences: Mapping[str, Sequence], merge: bool
) -> list[TrackerScores]:
    """Scores of every source; with `merge`, one row for the runs of one tracker."""
    rows: dict[str, list[TrackerScores]] = {}
    for source in sources:
        rows.setdefault(source.group if merge else source.label, []).append(score_source(source, sequences))
    return [merge_runs(label, runs) for label, runs in rows.items()]


def _print_scores(title: str, scores: SequenceOf[TrackerScores]) -> None:
    print("\n".join([title, tables.plain_text(tables.score_table(scores)), *tables.score_notes(scores)]))
