"""Run a tracker over a test set and write its result files.

Run again, it continues. Several machines: `torchrun … tracking/test.py …` with one folder of results.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.evaluation.overlays import DEBUG_LEVELS
from lib.test.evaluation.running import evaluate_tracker
from lib.test.utils.arguments import add_shared, command_parser
from lib.utils.errors import run_command

TRACKERS = "stark_s, stark_st, stark_lightning_X_trt, csrt, kcf or still"
DATASETS = "name of a test set (default: otb; data/README.md lists all), folder:PATH in GOT-10k layout, or vot:PATH"
LEVELS = "1: show the boxes in a window, or save a video where there is no display; 2: save a video and pictures"


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("tracker", metavar="tracker_name", help=TRACKERS)
    parser.add_argument("config", metavar="tracker_param", help="name of a configuration under experiments/, or a path")
    parser.add_argument("--dataset_name", "--dataset", dest="dataset", default="otb", help=DATASETS)
    parser.add_argument("--sequence", help="only these, by name or index, separated by commas")
    parser.add_argument("--runid", type=int, dest="run_id", help="number of the run, a part of its results' folder")
    parser.add_argument("--num_gpus", type=int, help="GPUs to use; default: all")
    parser.add_argument("--debug", type=int, default=0, choices=DEBUG_LEVELS, help=LEVELS)
    add_shared(parser, "--threads", "--checkpoint", "--device", "--engine", "--precision", "--opts", "--results_dir")
    return evaluate_tracker(**vars(parser.parse_args())).status


if __name__ == "__main__":
    run_command(main)
