"""Score trackers on test sets from their result files: tables, plots, numbers and one HTML page."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.analysis.plots import PLOTS
from lib.test.analysis.report import analyse, plot_got_success
from lib.test.utils.arguments import add_shared, command_parser
from lib.utils.errors import run_command

EPILOG = """\
trackers: TRACKER:CONFIG[:RUN[-RUN]], such as stark_s:baseline or stark_s:baseline:0-4; folder:PATH for text files of
another program, one a sequence. Each may end in =Label, which is another name for it.
filters: PATTERN (names with * and ?), attribute=NAME, class=PATTERN, common (sequences that all trackers have)."""


def main() -> None:
    parser = command_parser(__doc__, epilog=EPILOG)
    parser.add_argument("--trackers", nargs="+", metavar="TRACKER", help="see below")
    parser.add_argument("--dataset", "--dataset_name", nargs="+", help="test sets: names, or folder:PATH; joined")
    parser.add_argument("--got_reports", nargs="+", type=Path, metavar="JSON", help="plot reports of GOT-10k's server")
    parser.add_argument("--merge", action="store_true", help="one row for all runs of a tracker: their mean")
    parser.add_argument("--plot", nargs="+", choices=PLOTS, default=tuple(PLOTS), help="plots to save; default: all")
    parser.add_argument("--per_sequence", action="store_true", help="also print the scores of every sequence")
    parser.add_argument("--filter", nargs="+", default=[], help="score only these sequences; see below")
    parser.add_argument("--output", type=Path, help="folder for the files; default: test/result_plots/<sets>")
    add_shared(parser, "--results_dir")
    given = parser.parse_args()
    if given.got_reports and (given.trackers or given.dataset):
        parser.error("--got_reports goes without --trackers and --dataset")
    if given.got_reports:
        plot_got_success(given.got_reports, given.output)
    elif given.trackers and given.dataset:
        choices = given.plot, given.results_dir, given.merge, given.per_sequence, given.filter
        analyse(given.trackers, given.dataset, given.output, *choices)
    else:
        parser.error("--trackers and --dataset are needed (or --got_reports)")


if __name__ == "__main__":
    run_command(main)
