"""Score trackers on test sets from their result files: tables, plots, numbers and one HTML page."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.analysis.got10k_report import plot_got_success
from lib.test.analysis.plots import PLOTS
from lib.test.analysis.report import analyse
from lib.utils.errors import run_command

_EPILOG = """\
trackers: TRACKER:CONFIG[:RUN[-RUN]], such as stark_s:baseline or stark_s:baseline:0-4; folder:PATH for another
program's text files, one a sequence; each with =Label for another name.
filters: PATTERN (names with * and ?), attribute=NAME, class=PATTERN, common (sequences that all trackers have)."""


def main() -> None:
    """Parse the arguments and score."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trackers", nargs="+", metavar="TRACKER", help="whose results; see below")
    parser.add_argument(
        "--dataset", "--dataset_name", nargs="+", help="test sets, by name or as folder:PATH; several are joined"
    )
    parser.add_argument("--got_reports", nargs="+", type=Path, metavar="JSON", help="plot reports of GOT-10k's server")
    parser.add_argument("--merge", action="store_true", help="one row for all runs of a tracker: their mean")
    parser.add_argument("--plot", nargs="+", choices=PLOTS, default=tuple(PLOTS), help="which plots to save")
    parser.add_argument("--per_sequence", action="store_true", help="print the scores of every sequence, too")
    parser.add_argument("--filter", nargs="+", default=[], help="only these sequences; see below")
    parser.add_argument("--output", type=Path, help="folder of what is saved; test/result_plots/<sets> by default")
    parser.add_argument("--results_dir", type=Path, help="where results lie; test/tracking_results by default")
    arguments = parser.parse_args()
    if arguments.got_reports:
        if arguments.trackers or arguments.dataset:
            parser.error("--got_reports goes without --trackers and --dataset")
        plot_got_success(arguments.got_reports, arguments.output)
        return
    if not arguments.trackers or not arguments.dataset:
        parser.error("--trackers and --dataset are needed (or --got_reports)")
    analyse(
        arguments.trackers,
        arguments.dataset,
        arguments.output,
        arguments.plot,
        arguments.results_dir,
        arguments.merge,
        arguments.per_sequence,
        arguments.filter,
    )


if __name__ == "__main__":
    run_command(main)
