"""Run trackers over any folder of sequences, side by side: ours, and OpenCV's CSRT and KCF.

Prints AO, SR0.50 and the rest of the scores, FPS, and every sequence's AUC, and saves plots and a page. Results that
are there are kept: the second time it only prints.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.analysis.compare import DEFAULT_TRACKERS, compare
from lib.test.utils.arguments import add_engine_arguments
from lib.utils.errors import run_command


def main() -> int:
    """Parse the arguments and compare; 1 where a sequence failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="sequences in GOT-10k layout; or a test set's name, or vot:PATH")
    parser.add_argument(
        "--trackers",
        nargs="+",
        default=DEFAULT_TRACKERS,
        metavar="TRACKER:CONFIG",
        help=f"by default {' '.join(DEFAULT_TRACKERS)}",
    )
    parser.add_argument("--threads", type=int, default=0, help="worker processes; 0 tracks in this one")
    add_engine_arguments(parser)
    parser.add_argument("--results_dir", type=Path, help="where results go; test/tracking_results by default")
    parser.add_argument("--output", type=Path, help="folder of plots and page; test/result_plots/<folder> by default")
    return compare(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
