"""Print AUC, OP50, OP75, precision and normalised precision of one tracker: every run, and their mean."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.analysis.report import print_runs
from lib.test.tracker import SCRIPT_OF
from lib.test.utils.arguments import add_shared, command_parser
from lib.utils.errors import run_command


def main() -> None:
    epilog = "Results are read from <results_dir>/<tracker>/<config>, those of runs from <config>_000 and so on."
    parser = command_parser(__doc__, epilog=epilog)
    parser.add_argument("--script", required=True, help="tracker, or its training script, such as stark_s")
    parser.add_argument("--config", required=True, help="name of a configuration, such as baseline")
    parser.add_argument("--dataset", "--dataset_name", nargs="+", default=["lasot"], help="test sets; default: lasot")
    add_shared(parser, "--results_dir")
    given = parser.parse_args()
    tracker = {script: name for name, script in SCRIPT_OF.items()}.get(given.script, given.script)
    print_runs(tracker, given.config, given.dataset, given.results_dir)


if __name__ == "__main__":
    run_command(main)
