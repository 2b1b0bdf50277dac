"""The whole evaluation of trackers on test sets: tables, plots, numbers and a page."""

from collections.abc import Sequence
from pathlib import Path

from lib.test.analysis.groups import JoinedSet, filter_sets, find_groups, joined_label, load_sets
from lib.test.analysis.hardest import hardest_sequences
from lib.test.analysis.page import save_page
from lib.test.analysis.plots import PLOTS, save_plot, tracker_lines
from lib.test.analysis.scores import TrackerScores, merge_runs, score_source, unique_names
from lib.test.analysis.sources import ResultSource, find_runs, parse_trackers
from lib.test.analysis.tables import group_table, save_json, save_tables, score_table, sequence_table
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

_HARDEST = 8


def analyse(
    trackers: Sequence[str],
    datasets: Sequence[str],
    output_dir: Path | None = None,
    plots: Sequence[str] = tuple(PLOTS),
    results_dir: Path | None = None,
    merge: bool = False,
    per_sequence: bool = False,
    filters: Sequence[str] = (),
) -> list[TrackerScores]:
    """Score trackers on joined test sets, print tables and save plots, numbers and a page.

    Args:
        trackers: as `lib.test.analysis.sources` describes.
        datasets: each as `load_dataset` takes it.
        output_dir: folder for the files, in place of those of an earlier analysis; by default a folder under the
            workspace's plots with the sets' names.
        plots: keys of `lib.test.analysis.plots.PLOTS`.
        results_dir: where our results lie; the workspace's by default.
        merge: one row for all runs of a tracker, their mean.
        per_sequence: print every sequence's scores, too.
        filters: as `lib.test.analysis.groups` describes.

    Raises:
        UserError: see `score_source`, `load_dataset` and the descriptions of arguments.
    """
    sources = parse_trackers(trackers, results_dir or workspace("test").results_dir)
    whole = load_sets(datasets)
    sets = filter_sets(whole, filters, sources)
    sequences, total = _sequences(sets), len(_sequences(whole))
    scores, groups = _score(sources, sets, merge), find_groups(sets)
    title = " + ".join(each.title for each in sets)
    count = f"{len(sequences)} sequences" if len(sequences) == total else f"{len(sequences)} of {total} sequences"
    print(f"{title}, {count}")
    print(score_table(scores))
    if groups:
        print(f"\n{group_table(scores, groups)}")
    if per_sequence:
        print(f"\n{sequence_table(scores)}")

    output_dir = output_dir or workspace("test").plots_dir / joined_label(datasets)
    for name in ("groups.csv", *(f"{kind}.{suffix}" for kind in PLOTS for suffix in ("png", "pdf"))):
        (output_dir / name).unlink(missing_ok=True)  # of an earlier analysis, which this one may not write again
    for kind in plots:
        save_plot(output_dir / kind, PLOTS[kind], f"{PLOTS[kind].title} on {title}", tracker_lines(kind, scores))
    save_json(output_dir / "scores.json", "+".join(datasets), scores, groups)
    save_tables(output_dir, scores, groups)
    by_name = dict(zip(unique_names(sequences), sequences, strict=True))
    hard = hardest_sequences(scores, by_name, _HARDEST)
    save_page(output_dir / "report.html", f"{title}, {count}", scores, plots, groups, hard)
    print(f"plots, numbers and report.html: {output_dir}")
    return scores


def print_runs(tracker: str, config: str, datasets: Sequence[str], results_dir: Path | None = None) -> None:
    """Print a tracker's scores: of its results without a run id, of each run, and the mean of the runs.

    Raises:
        UserError: there are no results, or they cannot be scored.
    """
    results_dir = results_dir or workspace("test").results_dir
    sources = find_runs(results_dir, tracker, config)
    if not sources:
        raise UserError(f"no results of {tracker}:{config} in {results_dir / tracker}; run tracking/test.py first")
    sets = load_sets(datasets)
    sequences = _sequences(sets)
    begun = [source for source in sources if any(source.files(s)[0].is_file() for s in sequences)]
    scores = _score(begun or sources, sets, merge=False)
    runs = [row for source, row in zip(begun, scores, strict=True) if source.group]
    shared = set.intersection(*({result.name for result in run.sequences} for run in runs)) if runs else set()
    if len(runs) > 1 and shared:
        scores.append(merge_runs(f"{tracker}:{config}", runs))
    print(f"{' + '.join(each.title for each in sets)}, {len(sequences)} sequences")
    print(score_table(scores))
    if len(begun) < len(sources):
        empty = ", ".join(source.label for source in sources if source not in begun)
        print(f"without a result on these sequences: {empty}")


def _sequences(sets: Sequence[JoinedSet]) -> list:
    return [sequence for each in sets for sequence in each.sequences]


def _score(sources: Sequence[ResultSource], sets: Sequence[JoinedSet], merge: bool) -> list[TrackerScores]:
    """Scores of every source on the joined sets; with `merge`, one row for the runs of one tracker."""
    rows: dict[str, list[TrackerScores]] = {}
    for source in sources:
        rows.setdefault(source.group if merge else source.label, []).append(score_source(source, _sequences(sets)))
    return [merge_runs(label, runs) for label, runs in rows.items()]
