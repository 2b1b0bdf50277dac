"""Commands that train, and that check what training reads."""

import argparse
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from ..config import load_config
from ..data.registry import PREFIXES, TEST_SETS
from ..models import NETWORKS
from ..train.checks import Report, check_dataset, check_run, check_test_set
from ..train.distributed import end_with_parent, is_launched, launch
from ..train.options import RunOptions, Stage
from ..train.run import train as run_training
from ..utils.errors import UserError
from ..utils.workspace import workspace
from . import add_shared

TORCHRUN = "nproc_per_node nnodes node_rank rdzv_endpoint rdzv_backend rdzv_id master_addr master_port max_restarts"


@record
def train(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """Train a tracker, or continue a stopped training: the same command does both.

    %(prog)s --script stark_s --config baseline --save_dir . --mode single
    %(prog)s --script stark_s --config baseline --save_dir . --mode multiple --nproc_per_node 8
    %(prog)s --script stark_s --config baseline --save_dir . --check
    """
    _add_arguments(parser)
    args = parser.parse_args(arguments)
    torchrun = {name: getattr(args, name) for name in TORCHRUN.split()}
    given = [f"--{name}" for name, value in torchrun.items() if value is not None]
    mode = args.mode or ("multiple" if given else "single")
    if mode == "single" and given:
        raise UserError(f"{' '.join(given)}: --mode single is one process; use --mode multiple")
    overrides = [*args.overrides, *([] if args.seed is None else [f"TRAIN.SEED={args.seed}"])]
    # Also read here, so that a mistake in it is reported once, before processes start.
    cfg = load_config(args.script, args.config, overrides)
    previous, teacher = _stage(args, "prv", args.script), _stage(args, "teacher")
    distills = args.distill or cfg.TRAIN.get("DISTILL", False)
    if teacher is None and distills:
        raise UserError("--distill needs a teacher: add --script_teacher stark_s --config_teacher <config>")
    if teacher is not None and not distills:
        raise UserError("--script_teacher names a teacher, but the student does not use it: add --distill 1")
    run = args.script, args.config, args.save_dir or workspace("train").save_dir, previous, teacher
    options = RunOptions(*run, bool(args.use_lmdb), args.device, tuple(overrides), args.allow_changes)
    if args.check:
        report = check_run(options, cfg)
        report.require()
        print(report.table())
        return 0
    if mode == "multiple" and not is_launched():
        as_module = Path(sys.argv[0]).name == "__main__.py"
        program = ["-m", __package__.partition(".")[0]] if as_module else sys.argv[:1]
        return launch([*program, *sys.argv[1:]], torchrun)
    if is_launched():
        end_with_parent()
    run_training(options)
    return 0


def check_data(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """Open data sets, read annotations and images, and say what is wrong. The exit status is 1 where something is.

    %(prog)s LASOT GOT10K_vottrain     training sets
    %(prog)s lasot got10k_val          test sets
    %(prog)s my/videos                 a folder in GOT-10k layout
    """
    parser.add_argument("names", nargs="+", metavar="NAME", help="data sets of training or testing, or folders")
    parser.add_argument("--use_lmdb", action="store_true", help="read training sets from their LMDB")
    parser.add_argument("--all", action="store_true", help="read every sequence; default: 20, spread over the set")
    given, report = parser.parse_args(arguments), Report()
    for name in given.names:
        if name in TEST_SETS or name.startswith(PREFIXES):
            report.collect(name, check_test_set(name, given.all))
        else:
            if os.sep in name and ":" not in name and not Path(name).is_dir():
                raise UserError(f"there is no folder {name}: correct the path, or name a data set")
            path = f"FOLDER:{name}" if Path(name).is_dir() else name
            report.collect(name, check_dataset(path, given.use_lmdb, given.all))
    print(report.table())
    return 1 if any(finding.state == "problem" for finding in report.findings) else 0


def _add_arguments(parser: ArgumentParser) -> None:
    switch = {"type": int, "choices": [0, 1], "nargs": "?", "const": 1, "default": 0}
    parser.add_argument("--script", required=True, choices=sorted(NETWORKS))
    parser.add_argument("--config", default="baseline", help="name in experiments/<script>/, or a YAML file")
    parser.add_argument("--save_dir", type=Path, help="folder for checkpoints and logs; default: the current one")
    parser.add_argument("--check", action="store_true", help="check everything that the training needs; do not train")
    parser.add_argument("--use_lmdb", **switch, help="read data sets from LMDB")
    parser.add_argument("--seed", type=int, help="the same as --opts TRAIN.SEED=…")
    add_shared(parser, "--device", "--opts")
    changes = "go on with a run although its configuration changed; the checkpoint keeps the new one"
    parser.add_argument("--allow_changes", action="store_true", help=changes)
    stages = parser.add_argument_group("weights of other trainings")
    stages.add_argument("--distill", **switch, help="learn from a trained spatial network, the teacher")
    for name, whose in (("prv", "the previous stage"), ("teacher", "the teacher")):
        stages.add_argument(f"--script_{name}", choices=sorted(NETWORKS), help=f"script of {whose}")
        stages.add_argument(f"--config_{name}", help="its configuration (default: baseline)")
        stages.add_argument(f"--checkpoint_{name}", type=Path, help="its weights as a file (default: the newest)")
    several = parser.add_argument_group("several processes", "The other options are torchrun's: see torchrun --help.")
    modes = "one process, or several; default: several where another option of these is given"
    several.add_argument("--mode", choices=["single", "multiple"], help=modes)
    for name in TORCHRUN.split():
        several.add_argument(f"--{name}", metavar="…")


def _stage(args: argparse.Namespace, name: str, own_script: str | None = None) -> Stage | None:
    """The run of `--script_<name> --config_<name> --checkpoint_<name>`; None where none of them is given."""
    script, config, checkpoint = (getattr(args, f"{option}_{name}") for option in ("script", "config", "checkpoint"))
    script = script or (own_script if config is None and checkpoint is not None else None)
    if script is None and (config, checkpoint) != (None, None):
        raise UserError(f"--{'config' if config else 'checkpoint'}_{name} needs the network: add --script_{name}")
    return None if script is None else Stage(script, config or "baseline", checkpoint)
