"""Commands about one network: export, profile, release."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch

from ..models import NETWORKS, release_checkpoint
from ..test.profiling import check_graph, profile_network, profile_table
from ..test.tracker import shipped_weights
from ..test.tracker.engines import PRECISIONS
from ..test.tracker.export import FORMATS, export_shipped
from ..test.tracker.export import export as export_network
from ..utils.errors import UserError
from ..utils.files import write_text
from ..utils.workspace import IN_CHECKOUT, PACKAGE
from . import add_shared

_LIGHTNING = ("stark_lightning_X_trt", "baseline_rephead_4_lite_search5")


def export(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """Write a trained network for an inference engine, and compare it with PyTorch on real crops.

        %(prog)s --script stark_lightning_X_trt --config mini --format openvino --precision int8

    writes two graphs, one for a template and one for the search region, where trackers look for them, or to `--output`.
    Inputs are pixels (uint8 RGB, height x width x 3), outputs boxes as fractions of the search region; model.json
    beside them describes all of it. int8 is calibrated on clips of a package, or better on frames like yours:
    `--calibration folder:/path/to/sequences`. The exit status is 1 where fp32 boxes differ from PyTorch's.
    """
    parser.add_argument("--script", required=True, help="stark_s, stark_st2, stark_lightning_X_trt or alpha_refine")
    parser.add_argument("--config", required=True, help="name of a configuration under experiments/, or a path")
    parser.add_argument("--format", default="onnx", choices=FORMATS)
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--output", type=Path, help="folder for the files; default: where trackers look for them")
    parser.add_argument("--calibration", metavar="DATASET", help="test set that int8 is calibrated on")
    parser.add_argument("--frames", metavar="DATASET", help="test set with the frames to compare on")
    parser.add_argument("--device", default="auto", help="CUDA device that TensorRT builds for")
    add_shared(parser, "--checkpoint", "--overwrite", "--opts")
    given = vars(parser.parse_args(arguments))
    if given["calibration"] is not None and given["precision"] != "int8":
        parser.error("--calibration is for --precision int8")
    return export_network(**given)


def profile(parser: ArgumentParser, arguments: Sequence[str], network: Sequence[str] = ("stark_s", "baseline")) -> None:
    """Count the operations and parameters of STARK-S, STARK-ST or STARK-Lightning, and time its parts."""
    parser.add_argument("--script", default=network[0], help="stark_s, stark_st1, stark_st2 or stark_lightning_X_trt")
    parser.add_argument("--config", default=network[1], help="name of a configuration under experiments/, or a path")
    parser.add_argument("--runs", type=int, default=100, help="timed runs of each part")
    parser.add_argument("--warmup", type=int, default=20, help="runs before the timed ones")
    parser.add_argument("--threads", type=int, help="threads on the CPU; default: PyTorch decides")
    add_shared(parser, "--device", "--opts")
    parser.add_argument("--output", type=Path, help="also write this JSON file")
    args = parser.parse_args(arguments)
    if args.runs < 1 or args.warmup < 0 or (args.threads is not None and args.threads < 1):
        raise UserError("--runs and --threads must be at least 1, --warmup at least 0")
    if args.output is not None and args.output.exists():
        raise UserError(f"{args.output} exists; remove it, or give --output another name")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    found = profile_network(args.script, args.config, args.device, args.runs, args.warmup, args.overrides)
    print(profile_table(found))
    if args.output is not None:
        write_text(args.output, json.dumps(found, indent=2) + "\n")
        print(f"wrote {args.output}")


def profile_lightning(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Count the operations and parameters of STARK-Lightning, and time its parts."""
    profile(parser, arguments, _LIGHTNING)


def check_template_graph(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """Export the template's side of STARK-Lightning to ONNX, and compare onnxruntime with PyTorch."""
    return _check(parser, arguments, "template")


def check_search_graph(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """Export the search region's side of STARK-Lightning to ONNX, and compare onnxruntime with PyTorch."""
    return _check(parser, arguments, "search")


def _check(parser: ArgumentParser, arguments: Sequence[str], part: str) -> int:
    parser.add_argument("--script", default=_LIGHTNING[0], help="stark_lightning_X_trt, stark_s or stark_st2")
    parser.add_argument("--config", default=_LIGHTNING[1], help="name of a configuration, or a path")
    parser.add_argument("--output", type=Path, help="folder of the graph; by default beside those of trackers")
    add_shared(parser, "--checkpoint", "--overwrite")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with onnxruntime-gpu")
    parser.add_argument("--runs", type=int, default=100, help="timed runs")
    return check_graph(part, **vars(parser.parse_args(arguments)))


def release(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Average checkpoints of one run into weights to share, without the optimiser.

    The mean of the last epochs tracks better than each of them. In a checkout, and for a YAML file of yours, it is
    written beside the configuration, where every command finds it as long as there are no checkpoints of your own
    training; else into the working directory. With --graphs it also writes <config>.graphs there: what machines without
    PyTorch track with.
    """
    parser.add_argument("--script", required=True, choices=sorted(NETWORKS), help="training script")
    parser.add_argument("--config", required=True, help="configuration, such as mini")
    parser.add_argument("--checkpoints", required=True, nargs="+", type=Path, metavar="FILE", help="one or more")
    parser.add_argument("--output", type=Path, help="file; default: <config>.pth.tar, see above")
    parser.add_argument("--graphs", action="store_true", help="also write the graphs of a tracker, in half precision")
    given = parser.parse_args(arguments)
    beside = shipped_weights(given.script, given.config)
    in_package = not IN_CHECKOUT and beside.is_relative_to(PACKAGE)
    output = given.output or (Path(beside.name) if in_package else beside)
    release_checkpoint(given.script, given.config, given.checkpoints, output)
    print(f"wrote {output}: the mean of {len(given.checkpoints)} checkpoints, {output.stat().st_size / 2**20:.1f} MiB")
    if given.graphs:
        print(f"wrote {export_shipped(given.script, given.config, output)}")
