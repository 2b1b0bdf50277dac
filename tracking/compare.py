"""Run trackers over any folder of sequences, side by side: ours, and OpenCV's CSRT, KCF, NanoTrack and VitTrack.

Prints AO, SR0.50 and the other scores, FPS, and the AUC of every sequence; saves plots and a page. Existing results are
kept: the second run only prints.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.data.registry import PREFIXES, TEST_SETS
from lib.test.analysis.report import analyse
from lib.test.analysis.selection import parse_trackers
from lib.test.evaluation.running import evaluate_tracker
from lib.test.utils.arguments import add_shared, command_parser
from lib.utils.errors import UserError, run_command
from lib.utils.workspace import workspace

TRACKERS = ("stark_lightning_X_trt:mini", "csrt:csrt", "kcf:kcf")


def main() -> int:
    """Run trackers where they have no results yet, and score them; 1 where a sequence failed."""
    parser = command_parser(__doc__)
    parser.add_argument("folder", help="sequences in GOT-10k layout; or the name of a test set, or vot:PATH")
    usual = f"default: {' '.join(TRACKERS)}"
    parser.add_argument("--trackers", nargs="+", default=TRACKERS, metavar="TRACKER:CONFIG", help=usual)
    parser.add_argument("--nano", nargs=2, metavar=("BACKBONE", "HEAD"), help="ONNX files: runs NanoTrack, too")
    parser.add_argument("--vit", nargs=1, metavar="FILE", help="ONNX file: runs VitTrack, too")
    add_shared(parser, "--threads", "--engine", "--precision", "--opts", "--results_dir")
    parser.add_argument("--output", type=Path, help="folder for plots and page; default: test/result_plots/<folder>")
    options = vars(parser.parse_args())
    folder, trackers, output = options.pop("folder"), list(options.pop("trackers")), options.pop("output")
    networks = {name: files for name in ("nano", "vit") if (files := options.pop(name))}
    trackers += [f"{name}:{name}" for name in networks]
    results_dir = options["results_dir"]
    dataset = folder if folder in TEST_SETS or folder.startswith(PREFIXES) else f"folder:{folder}"
    parse_trackers(trackers, results_dir or workspace("test").results_dir)  # a wrong name ends before hours of work
    for tracker in trackers:
        if tracker.count(":") > 1 or "=" in tracker:
            raise UserError(f"{tracker!r}: expected tracker:config, such as {TRACKERS[0]}, no run and no label")
    failed = 0
    for tracker in trackers:
        print(f"{tracker}:")
        name, config = tracker.split(":")
        files = os.pathsep.join(networks[name]) if name in networks else None
        failed += len(evaluate_tracker(name, config, dataset, checkpoint=files, **options).failed)
    analyse(trackers, [dataset], output, results_dir=results_dir, per_sequence=True)
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
