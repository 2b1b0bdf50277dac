"""Run a tracker over a test set and write its result files."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.evaluation.running import evaluate_tracker
from lib.utils.errors import run_command


def main() -> int:
    """Parse the arguments and run; 1 where a sequence failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tracker", help="stark_s, stark_st, stark_lightning_X_trt or still")
    parser.add_argument("config", help="name of a configuration under experiments/, or a path")
    parser.add_argument("--dataset", "--dataset_name", required=True, help="name of a test set, or folder:PATH")
    parser.add_argument("--sequence", help="one sequence only, by name or index")
    parser.add_argument("--checkpoint", help="checkpoint file; the configuration's own by default")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--results_dir", type=Path, help="where results go; test/tracking_results by default")
    report = evaluate_tracker(**vars(parser.parse_args()))
    return 1 if report.failed else 0


if __name__ == "__main__":
    run_command(main)
