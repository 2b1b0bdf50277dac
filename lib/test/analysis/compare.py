"""Running several trackers over a test set and scoring them, in one go."""

from collections.abc import Sequence
from pathlib import Path

from lib.data.registry import PREFIXES, TEST_SETS
from lib.test.analysis.report import analyse
from lib.test.analysis.sources import parse_trackers
from lib.test.evaluation.running import evaluate_tracker
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

DEFAULT_TRACKERS = ("stark_lightning_X_trt:mini", "csrt:csrt", "kcf:kcf")


def compare(
    folder: str,
    trackers: Sequence[str] = DEFAULT_TRACKERS,
    threads: int = 0,
    engine: str = "torch",
    precision: str = "fp32",
    results_dir: Path | None = None,
    output: Path | None = None,
) -> int:
    """Run trackers over a test set where they have no results yet, and score them.

    Args:
        folder: sequences in GOT-10k layout, or what `lib.data.registry.load_dataset` takes.
        trackers: each `tracker:config`, as `lib.test.tracker.create_tracker` takes them.
        threads, engine, precision, results_dir: as `evaluate_tracker` takes them.
        output: as `analyse` takes it.

    Returns:
        0, or 1 where a sequence failed.

    Raises:
        UserError: see `evaluate_tracker` and `analyse`.
    """
    dataset = folder if folder in TEST_SETS or folder.startswith(PREFIXES) else f"folder:{folder}"
    # A wrong name is said before hours of work.
    parse_trackers(trackers, results_dir or workspace("test").results_dir)
    for tracker in trackers:
        if tracker.count(":") > 1 or "=" in tracker:
            raise UserError(f"{tracker!r}: expected tracker:config, such as {DEFAULT_TRACKERS[0]}, no run and no label")
    failed = 0
    for tracker in trackers:
        name, config = tracker.split(":")
        print(f"{tracker}:")
        how = {"threads": threads, "engine": engine, "precision": precision}
        report = evaluate_tracker(name, config, dataset, **how, results_dir=results_dir)
        failed += len(report.failed)
    analyse(trackers, [dataset], output, results_dir=results_dir, per_sequence=True)
    return 1 if failed else 0
