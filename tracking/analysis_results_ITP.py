"""Print AUC, OP50, OP75, precision and normalised precision on LaSOT of one tracker: every run, and their mean."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.analysis.report import print_runs
from lib.test.tracker import SCRIPTS
from lib.utils.errors import run_command


def main() -> None:
    """Parse the arguments and print."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The results are in test/tracking_results/<script>/<config>, those of runs in <config>_000 and so on.",
    )
    parser.add_argument("--script", required=True, help="tracker, or the script it is trained by, such as stark_s")
    parser.add_argument("--config", required=True, help="name of a configuration, such as baseline")
    parser.add_argument("--dataset", "--dataset_name", nargs="+", default=["lasot"], help="test sets; lasot by default")
    parser.add_argument("--results_dir", type=Path, help="where results lie; test/tracking_results by default")
    arguments = parser.parse_args()
    tracker = {script: name for name, script in SCRIPTS.items()}.get(arguments.script, arguments.script)
    print_runs(tracker, arguments.config, arguments.dataset, arguments.results_dir)


if __name__ == "__main__":
    run_command(main)
