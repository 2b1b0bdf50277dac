"""Commands that score result files."""

import os
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ..data.registry import PREFIXES, TEST_SETS
from ..test.analysis.plots import PLOTS
from ..test.analysis.report import analyse, plot_got_success, print_runs
from ..test.analysis.selection import parse_trackers
from ..test.evaluation.running import evaluate_tracker
from ..test.tracker import SCRIPT_OF
from ..utils.errors import UserError
from ..utils.workspace import workspace
from . import add_shared

_EPILOG = """\
trackers: TRACKER:CONFIG[:RUN[-RUN]], such as stark_s:baseline or stark_s:baseline:0-4; folder:PATH for text files of
another program, one a sequence. Each may end in =Label, which is another name for it.
filters: PATTERN (names with * and ?), attribute=NAME, class=PATTERN, common (sequences that all trackers have)."""
_COMPARED = ("stark_lightning_X_trt:mini", "csrt:csrt", "kcf:kcf")


def analyze(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Score trackers on test sets from their result files: tables, plots, numbers and one HTML page."""
    parser.epilog = _EPILOG
    parser.add_argument("--trackers", nargs="+", metavar="TRACKER", help="see below")
    parser.add_argument("--dataset", "--dataset_name", nargs="+", help="test sets: names, or folder:PATH; joined")
    parser.add_argument("--got_reports", nargs="+", type=Path, metavar="JSON", help="plot reports of GOT-10k's server")
    parser.add_argument("--merge", action="store_true", help="one row for all runs of a tracker: their mean")
    parser.add_argument("--plot", nargs="+", choices=PLOTS, default=tuple(PLOTS), help="plots to save; default: all")
    parser.add_argument("--per_sequence", action="store_true", help="also print the scores of every sequence")
    parser.add_argument("--filter", nargs="+", default=[], help="score only these sequences; see below")
    parser.add_argument("--latex", action="store_true", help="also write tables for LaTeX (booktabs), best in bold")
    parser.add_argument("--output", type=Path, help="folder for the files; default: test/result_plots/<sets>")
    add_shared(parser, "--results_dir")
    given = parser.parse_args(arguments)
    if given.got_reports and (given.trackers or given.dataset):
        parser.error("--got_reports goes without --trackers and --dataset")
    if given.got_reports:
        plot_got_success(given.got_reports, given.output)
    elif given.trackers and given.dataset:
        choices = given.plot, given.results_dir, given.merge, given.per_sequence, given.filter
        analyse(given.trackers, given.dataset, given.output, *choices, latex=given.latex)
    else:
        parser.error("--trackers and --dataset are needed (or --got_reports)")


def analyze_runs(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Print AUC, OP50, OP75, precision and normalised precision of one tracker: every run, and their mean."""
    parser.epilog = "Results are read from <results_dir>/<tracker>/<config>, those of runs from <config>_000 and so on."
    parser.add_argument("--script", required=True, help="tracker, or its training script, such as stark_s")
    parser.add_argument("--config", required=True, help="name of a configuration, such as baseline")
    parser.add_argument("--dataset", "--dataset_name", nargs="+", default=["lasot"], help="test sets; default: lasot")
    add_shared(parser, "--results_dir")
    given = parser.parse_args(arguments)
    tracker = {script: name for name, script in SCRIPT_OF.items()}.get(given.script, given.script)
    print_runs(tracker, given.config, given.dataset, given.results_dir)


def compare(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """Run trackers over any folder of sequences, side by side: ours, and OpenCV's CSRT, KCF, NanoTrack and VitTrack.

    Prints AO, SR0.50 and the other scores, FPS, and the AUC of every sequence; saves plots and a page. Existing results
    are kept: the second run only prints. The exit status is 1 where a sequence failed.
    """
    parser.add_argument("folder", help="sequences in GOT-10k layout; or the name of a test set, or vot:PATH")
    usual = f"default: {' '.join(_COMPARED)}"
    parser.add_argument("--trackers", nargs="+", default=_COMPARED, metavar="TRACKER:CONFIG", help=usual)
    parser.add_argument("--nano", nargs=2, metavar=("BACKBONE", "HEAD"), help="ONNX files: runs NanoTrack, too")
    parser.add_argument("--vit", nargs=1, metavar="FILE", help="ONNX file: runs VitTrack, too")
    add_shared(parser, "--threads", "--engine", "--precision", "--opts", "--results_dir")
    parser.add_argument("--output", type=Path, help="folder for plots and page; default: test/result_plots/<folder>")
    options = vars(parser.parse_args(arguments))
    folder, trackers, output = options.pop("folder"), list(options.pop("trackers")), options.pop("output")
    networks = {name: files for name in ("nano", "vit") if (files := options.pop(name))}
    trackers += [f"{name}:{name}" for name in networks]
    results_dir = options["results_dir"]
    dataset = folder if folder in TEST_SETS or folder.startswith(PREFIXES) else f"folder:{folder}"
    parse_trackers(trackers, results_dir or workspace("test").results_dir)  # a wrong name ends before hours of work
    for tracker in trackers:
        if tracker.count(":") > 1 or "=" in tracker:
            raise UserError(f"{tracker!r}: expected tracker:config, such as {_COMPARED[0]}, no run and no label")
    failed = 0
    for tracker in trackers:
        print(f"{tracker}:")
        name, config = tracker.split(":")
        files = os.pathsep.join(networks[name]) if name in networks else None
        failed += len(evaluate_tracker(name, config, dataset, checkpoint=files, **options).failed)
    analyse(trackers, [dataset], output, results_dir=results_dir, per_sequence=True)
    return 1 if failed else 0
