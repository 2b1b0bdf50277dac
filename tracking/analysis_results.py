"""Score trackers on a test set from their result files: table, plots and numbers."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.analysis.plots import PLOTS
from lib.test.analysis.report import DEFAULT_PLOTS, analyse
from lib.utils.errors import run_command


def main() -> None:
    """Parse the arguments and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trackers", nargs="+", required=True, metavar="TRACKER:CONFIG", help="e.g. stark_s:baseline")
    parser.add_argument("--dataset", "--dataset_name", required=True, help="name of a test set, or folder:PATH")
    parser.add_argument("--output", type=Path, help="folder of plots and numbers; test/result_plots/<set> by default")
    parser.add_argument("--plot", nargs="+", choices=PLOTS, default=DEFAULT_PLOTS, help="which plots to save")
    parser.add_argument("--results_dir", type=Path, help="where results lie; test/tracking_results by default")
    arguments = parser.parse_args()
    analyse(arguments.trackers, arguments.dataset, arguments.output, arguments.plot, arguments.results_dir)


if __name__ == "__main__":
    run_command(main)
