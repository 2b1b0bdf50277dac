"""Train a tracker, or go on with a training that stopped: the same command does both.

python tracking/train.py --script stark_s --config baseline --save_dir . --mode single
python tracking/train.py --script stark_s --config baseline --save_dir . --mode multiple --nproc_per_node 8
python tracking/train.py --script stark_s --config baseline --save_dir . --check
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch.distributed.elastic.multiprocessing.errors import record

from lib.config import load_config
from lib.train.checks import check_run
from lib.train.launch import end_with_parent, is_launched, launch
from lib.train.options import NETWORKS, RunOptions, Stage
from lib.train.run import train
from lib.utils.errors import UserError, run_command
from lib.utils.workspace import workspace

TORCHRUN = {
    "nproc_per_node": "processes on this machine: one a GPU",
    "nnodes": "machines: a number, or MIN:MAX",
    "rdzv_endpoint": "HOST:PORT where the machines meet: one of them, and a free port",
    "rdzv_backend": "how they meet (default: c10d)",
    "rdzv_id": "tells trainings apart that meet at one place",
    "master_addr": "machine 0, if machines are numbered instead",
    "master_port": "a free port there",
    "node_rank": "this machine's number",
    "max_restarts": "start all processes again so often after one failed",
}


def main() -> int:
    """Parse the arguments, and check, launch or train."""
    args = _parser().parse_args()
    torchrun = {name: getattr(args, name) for name in TORCHRUN}
    given = [f"--{name}" for name, value in torchrun.items() if value is not None]
    mode = args.mode or ("multiple" if given else "single")
    if mode == "single" and given:
        raise UserError(f"{' '.join(given)}: --mode single is one process; use --mode multiple")
    overrides = [*args.opts, *([] if args.seed is None else [f"TRAIN.SEED={args.seed}"])]
    # Read here too, so that a mistake in it is reported once, before processes start.
    cfg = load_config(args.script, args.config, overrides)
    options = RunOptions(
        script=args.script,
        config=args.config,
        save_dir=args.save_dir or workspace("train").save_dir,
        previous=_stage(
            "prv",
            args.script_prv,
            args.config_prv or (args.script_prv and "baseline"),
            args.checkpoint_prv,
            args.script,
        ),
        teacher=_teacher(args, cfg.TRAIN.get("DISTILL", False)),
        use_lmdb=bool(args.use_lmdb),
        device=args.device,
        overrides=tuple(overrides),
    )
    if args.check:
        checked = check_run(options, cfg)
        print(checked.table())
        checked.require()
    elif mode == "multiple" and not is_launched():
        return launch(sys.argv, torchrun)
    else:
        if is_launched():
            end_with_parent()
        train(options)
    return 0


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    switch = {"type": int, "choices": [0, 1], "nargs": "?", "const": 1, "default": 0}
    parser.add_argument("--script", required=True, choices=sorted(NETWORKS))
    parser.add_argument("--config", default="baseline", help="name in experiments/<script>/, or a YAML file")
    parser.add_argument("--save_dir", type=Path, help="checkpoints and logs lie under it")
    parser.add_argument(
        "--check", action="store_true", help="check everything that the training needs, and train nothing"
    )
    parser.add_argument("--use_lmdb", **switch, help="read data sets from LMDB")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--seed", type=int, help="the same as --opts TRAIN.SEED=…")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="such as TRAIN.BATCH_SIZE=4")

    stages = parser.add_argument_group("other trainings whose weights this one needs")
    stages.add_argument("--script_prv", choices=sorted(NETWORKS), help="the stage to start from: its script")
    stages.add_argument("--config_prv", help="its configuration (default: baseline)")
    stages.add_argument("--checkpoint_prv", type=Path, help="its weights as a file, in place of the two above")
    stages.add_argument("--distill", **switch, help="learn from a trained spatial network, the teacher")
    stages.add_argument("--script_teacher", choices=sorted(NETWORKS), help="the teacher's script")
    stages.add_argument("--config_teacher", help="its configuration")
    stages.add_argument("--checkpoint_teacher", type=Path, help="its weights as a file; the newest by default")

    several = parser.add_argument_group("several processes: options of torchrun, passed on to it")
    several.add_argument(
        "--mode",
        choices=["single", "multiple"],
        help="one process, or several; several where another option of these is given",
    )
    for name, text in TORCHRUN.items():
        several.add_argument(f"--{name}", help=text)
    return parser


def _teacher(args: argparse.Namespace, configured: bool) -> Stage | None:
    """The network to learn from, which belongs to --distill or to a configuration that asks for one."""
    if args.distill and args.script_teacher is None:
        raise UserError("--distill needs a teacher: add --script_teacher stark_s --config_teacher <config>")
    if args.checkpoint_teacher is not None and args.script_teacher is None:
        raise UserError(
            "--checkpoint_teacher needs the network: add --script_teacher stark_s --config_teacher <config>"
        )
    teacher = _stage("teacher", args.script_teacher, args.config_teacher, args.checkpoint_teacher)
    if teacher is not None and not args.distill and not configured:
        raise UserError("--script_teacher names a teacher, but nothing is to be learnt from it: add --distill 1")
    return teacher


def _stage(
    name: str, script: str | None, config: str | None, checkpoint: Path | None, own: str | None = None
) -> Stage | None:
    """The run that `--script_<name> --config_<name> --checkpoint_<name>` say; None where they are not given."""
    if (script is None) != (config is None):
        given, lacking = ("config", "script") if script is None else ("script", "config")
        raise UserError(f"--{given}_{name} says one half of another training: add --{lacking}_{name}")
    if script is None and checkpoint is None:
        return None
    return Stage(script or own, config or "baseline", checkpoint)


if __name__ == "__main__":
    run_command(record(main))
