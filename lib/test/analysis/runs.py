"""All runs of one tracker, found by themselves: a short look at how it does."""

import re
from collections.abc import Sequence
from pathlib import Path

from lib.test.analysis.groups import load_sets
from lib.test.analysis.report import score_sources
from lib.test.analysis.results import merge_runs
from lib.test.analysis.sources import ResultSource
from lib.test.analysis.tables import score_table
from lib.test.evaluation.result_files import run_dir
from lib.test.tracker import SCRIPTS
from lib.utils.errors import UserError
from lib.utils.workspace import workspace


def print_runs(script: str, config: str, datasets: Sequence[str], results_dir: Path | None = None) -> None:
    """Print a tracker's scores: of its results without a run id, of each of its runs, and the mean of the runs.

    Args:
        script: the tracker, or the training script that makes its weights (`stark_st2` for `stark_st`).
        config: name of a configuration.
        datasets: test sets, joined.
        results_dir: where results lie; the workspace's by default.

    Raises:
        UserError: there are no results, or they cannot be scored.
    """
    tracker = {trained: name for name, trained in SCRIPTS.items()}.get(script, script)
    results_dir = results_dir or workspace("test").results_dir
    sources = find_runs(results_dir, tracker, config)
    if not sources:
        raise UserError(f"no results of {tracker}:{config} in {results_dir / tracker}; run tracking/test.py first")
    sets = load_sets(datasets)
    sequences = [sequence for each in sets for sequence in each.sequences]
    begun = [source for source in sources if any(source.result_file(s).is_file() for s in sequences)]
    empty = [source.label for source in sources if source not in begun]
    scores = score_sources(begun or sources, sets, merge=False)
    runs = [row for source, row in zip(begun, scores, strict=True) if source.group]
    shared = set.intersection(*({result.name for result in run.sequences} for run in runs)) if runs else set()
    if len(runs) > 1 and shared:
        scores.append(merge_runs(f"{tracker}:{config}", runs))
    print(f"{' + '.join(each.title for each in sets)}, {len(sequences)} sequences")
    print(score_table(scores))
    if empty:
        print(f"without a result on these sequences: {', '.join(empty)}")


def find_runs(results_dir: Path, tracker: str, config: str) -> list[ResultSource]:
    """The folders of a tracker's results: the one without a run id, then those with one, in their order."""
    plain = run_dir(results_dir, tracker, config)
    sources = [ResultSource(f"{tracker}:{plain.name}", plain)] if plain.is_dir() else []
    folders = sorted(plain.parent.iterdir()) if plain.parent.is_dir() else []
    of_run = re.compile(rf"{re.escape(plain.name)}_\d{{3,}}", re.ASCII)
    group = f"{tracker}:{plain.name}"
    return sources + [
        ResultSource(f"{tracker}:{folder.name}", folder, group=group)
        for folder in folders
        if folder.is_dir() and of_run.fullmatch(folder.name)
    ]
