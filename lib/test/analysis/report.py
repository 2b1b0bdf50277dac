"""The whole evaluation of trackers on test sets: tables, plots, numbers and a page."""

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path

from lib.data.registry import dataset_label
from lib.data.sequence import Sequence
from lib.test.analysis.page import hardest_sequences, save_page
from lib.test.analysis.plots import PLOTS, plot_trackers, save_plot
from lib.test.analysis.scores import TrackerScores, merge_runs, score_source
from lib.test.analysis.selection import (
    ResultSource,
    filter_sets,
    find_groups,
    find_runs,
    joined,
    load_sets,
    parse_trackers,
)
from lib.test.analysis.tables import (
    format_score,
    group_table,
    plain_text,
    save_json,
    save_tables,
    score_notes,
    score_table,
    sequence_aucs,
)
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
        UserError: see `score_source`, `load_dataset` and the descriptions of arguments.
    """
    sources = parse_trackers(trackers, results_dir or workspace("test").results_dir)
    whole = load_sets(datasets)
    sets = filter_sets(whole, filters, sources)
    sequences, total = joined(sets), len(joined(whole))
    scores, groups = _score(sources, sequences, merge), find_groups(sets)
    title = " + ".join(sets)
    count = f"{len(sequences)} sequences" if len(sequences) == total else f"{len(sequences)} of {total} sequences"
    print(f"{title}, {count}")
    _print_scores(scores)
    if groups:
        print(f"\n{plain_text(group_table(scores, groups))}")
    if per_sequence:
        print(f"\n{plain_text(sequence_aucs(scores).map(format_score))}")

    output_dir = output_dir or workspace("test").plots_dir / "+".join(map(dataset_label, dict.fromkeys(datasets)))
    for name in ("groups.csv", *(f"{kind}.{suffix}" for kind in PLOTS for suffix in ("png", "pdf"))):
        (output_dir / name).unlink(missing_ok=True)  # of an earlier analysis, which this one may not write again
    figures = {kind: plot_trackers(kind, title, scores) for kind in plots}
    for kind, figure in figures.items():
        save_plot(output_dir / kind, figure)
    save_json(output_dir / "scores.json", "+".join(datasets), scores, groups)
    save_tables(output_dir, scores, groups)
    hard = hardest_sequences(scores, sequences, _HARDEST)
    save_page(output_dir / "report.html", f"{title}, {count}", scores, list(figures.values()), groups, hard)
    print(f"plots, numbers and report.html: {output_dir}")
    return scores


def print_runs(tracker: str, config: str, datasets: SequenceOf[str], results_dir: Path | None = None) -> None:
    """Print a tracker's scores: of its results without a run id, of each run, and the mean of the runs.

    Raises:
        UserError: there are no results, or they cannot be scored.
    """
    results_dir = results_dir or workspace("test").results_dir
    sources = find_runs(results_dir, tracker, config)
    if not sources:
        raise UserError(f"no results of {tracker}:{config} in {results_dir / tracker}; run tracking/test.py first")
    sets = load_sets(datasets)
    sequences = joined(sets)
    begun = [source for source in sources if any(source.files(s)[0].is_file() for s in sequences.values())]
    scores = _score(begun or sources, sequences, merge=False)
    runs = [row for source, row in zip(begun, scores, strict=True) if source.folder != source.owner]
    if len(runs) > 1 and set.intersection(*(set(run.table.index) for run in runs)):
        scores.append(merge_runs(f"{tracker}:{config}", runs))
    print(f"{' + '.join(sets)}, {len(sequences)} sequences")
    _print_scores(scores)
    if len(begun) < len(sources):
        empty = ", ".join(source.label for source in sources if source not in begun)
        print(f"without a result on these sequences: {empty}")


def _print_scores(scores: SequenceOf[TrackerScores]) -> None:
    print("\n".join([plain_text(score_table(scores)), *score_notes(scores)]))


def _score(sources: SequenceOf[ResultSource], sequences: Mapping[str, Sequence], merge: bool) -> list[TrackerScores]:
    """Scores of every source; with `merge`, one row for the runs of one tracker."""
    rows: dict[str, list[TrackerScores]] = {}
    for source in sources:
        rows.setdefault(source.group if merge else source.label, []).append(score_source(source, sequences))
    return [merge_runs(label, runs) for label, runs in rows.items()]
