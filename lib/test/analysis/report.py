"""The whole evaluation of a test set: table, plots and numbers."""

from collections.abc import Sequence
from pathlib import Path

from lib.test.analysis.plots import save_plot
from lib.test.analysis.results import TrackerScores, parse_tracker, save_json, score_tracker
from lib.test.analysis.tables import score_table
from lib.test.evaluation.datasets import dataset_label, dataset_title, load_dataset
from lib.utils.workspace import workspace

DEFAULT_PLOTS = ("success", "precision")


def analyse(
    trackers: Sequence[str],
    dataset: str,
    output_dir: Path | None = None,
    plots: Sequence[str] = DEFAULT_PLOTS,
    results_dir: Path | None = None,
) -> list[TrackerScores]:
    """Score trackers on a test set, print the table and save plots and numbers.

    Args:
        trackers: each `tracker:config`.
        dataset: as `lib.test.evaluation.datasets.load_dataset` takes it.
        output_dir: where `<plot>.png` and `scores.json` go; a folder a test set under the workspace's plots
            by default.
        plots: keys of `lib.test.analysis.plots.PLOTS`.
        results_dir: where results lie; the workspace's by default.

    Raises:
        UserError: see `score_tracker` and `load_dataset`.
    """
    title = dataset_title(dataset)
    sequences = load_dataset(dataset)
    names = [parse_tracker(text) for text in dict.fromkeys(trackers)]
    scores = [score_tracker(results_dir or workspace("test").results_dir, *name, sequences) for name in names]
    print(f"{title}, {len(sequences)} sequences")
    print(score_table(scores))

    output_dir = output_dir or workspace("test").plots_dir / dataset_label(dataset)
    for kind in plots:
        save_plot(output_dir / f"{kind}.png", kind, title, scores)
    save_json(output_dir / "scores.json", dataset, scores)
    print(f"plots and numbers: {output_dir}")
    return scores
