"""Run a tracker over a test set and write its result files.

Run again, it continues. Several machines: `torchrun … tracking/test.py …` with one folder of results.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.evaluation.overlays import DEBUG_LEVELS
from lib.test.evaluation.running import evaluate_tracker
from lib.test.utils.arguments import add_engine_arguments
from lib.utils.errors import run_command

TRACKERS = "stark_s, stark_st, stark_lightning_X_trt, csrt, kcf or still"
DATASETS = "name of a test set (default: otb; data/README.md lists all), folder:PATH in GOT-10k layout, or vot:PATH"
LEVELS = "1: show the boxes in a window, or save a video where there is no display; 2: save a video and pictures"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracker", metavar="tracker_name", help=TRACKERS)
    parser.add_argument("config", metavar="tracker_param", help="name of a configuration under experiments/, or a path")
    parser.add_argument("--dataset_name", "--dataset", dest="dataset", default="otb", help=DATASETS)
    parser.add_argument("--sequence", help="only these, by name or index, separated by commas")
    parser.add_argument("--runid", type=int, dest="run_id", help="number of the run, a part of its results' folder")
    parser.add_argument("--threads", type=int, default=0, help="worker processes; 0 tracks in this one")
    parser.add_argument("--num_gpus", type=int, help="GPUs to use; default: all")
    parser.add_argument("--debug", type=int, default=0, choices=DEBUG_LEVELS, help=LEVELS)
    parser.add_argument("--checkpoint", help="checkpoint file; default: that of the configuration")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add_engine_arguments(parser)
    parser.add_argument("--results_dir", type=Path, help="folder for results; default: test/tracking_results")
    return evaluate_tracker(**vars(parser.parse_args())).status


if __name__ == "__main__":
    run_command(main)
