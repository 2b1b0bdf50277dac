"""The whole evaluation of trackers on test sets: tables, plots, numbers and a page."""

from collections.abc import Sequence
from pathlib import Path

from lib.test.analysis.export import save_csv, save_json
from lib.test.analysis.groups import Group, TestSet, filter_sets, find_groups, joined_label, load_sets
from lib.test.analysis.page import save_page
from lib.test.analysis.plots import PLOTS, save_plot
from lib.test.analysis.results import TrackerScores, merge_runs, score_source, unique_names
from lib.test.analysis.sources import ResultSource, parse_trackers
from lib.test.analysis.tables import group_table, score_table, sequence_table
from lib.test.analysis.thumbnails import hardest_sequences
from lib.utils.workspace import workspace

_HARDEST = 8
_PICTURES = ("png", "pdf")


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
    """Score trackers on test sets joined to one, print tables and save plots, numbers and a page.

    Args:
        trackers: as `lib.test.analysis.sources` describes.
        datasets: each as `lib.data.registry.load_dataset` takes it.
        output_dir: where `<plot>.png`, `<plot>.pdf`, `scores.json`, `scores.csv`, `sequences.csv`, `groups.csv` and
            `report.html` go, in place of those of an earlier analysis; by default a folder under the workspace's plots
            that carries the sets' names.
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
    title = " + ".join(each.title for each in sets)
    scores = score_sources(sources, sets, merge)
    groups = find_groups(sets)
    _print_tables(f"{title}, {_count(sets, whole)}", scores, groups, per_sequence)

    output_dir = output_dir or workspace("test").plots_dir / joined_label(datasets)
    for name in ("groups.csv", *(f"{kind}.{suffix}" for kind in PLOTS for suffix in _PICTURES)):
        (output_dir / name).unlink(missing_ok=True)  # of an earlier analysis, which this one may not write again
    for kind in plots:
        for suffix in _PICTURES:
            save_plot(output_dir / f"{kind}.{suffix}", kind, title, scores)
    save_json(output_dir / "scores.json", "+".join(datasets), scores, groups)
    save_csv(output_dir, scores, groups)
    sequences = [sequence for each in sets for sequence in each.sequences]
    by_name = dict(zip(unique_names(sequences), sequences, strict=True))
    hard = hardest_sequences(scores, by_name, _HARDEST)
    save_page(output_dir / "report.html", f"{title}, {_count(sets, whole)}", scores, plots, groups, hard)
    print(f"plots, numbers and report.html: {output_dir}")
    return scores


def score_sources(sources: Sequence[ResultSource], sets: Sequence[TestSet], merge: bool) -> list[TrackerScores]:
    """Score every source on the joined sets; with `merge`, one row for the sources of one group.

    Raises:
        UserError: see `score_source` and `merge_runs`.
    """
    sequences = [sequence for each in sets for sequence in each.sequences]
    rows: dict[str, list[TrackerScores]] = {}
    for source in sources:
        rows.setdefault(source.group if merge else source.label, []).append(score_source(source, sequences))
    return [merge_runs(label, runs) for label, runs in rows.items()]


def _print_tables(heading: str, scores: list[TrackerScores], groups: list[Group], per_sequence: bool) -> None:
    print(heading)
    print(score_table(scores))
    if groups:
        print(f"\n{group_table(scores, groups)}")
    if per_sequence:
        print(f"\n{sequence_table(scores)}")


def _count(sets: Sequence[TestSet], whole: Sequence[TestSet]) -> str:
    """How many sequences there are, and of how many filters chose them."""
    count, of = (sum(len(each.sequences) for each in group) for group in (sets, whole))
    return f"{count} sequences" if count == of else f"{count} of {of} sequences"
