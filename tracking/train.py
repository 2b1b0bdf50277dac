"""Train a tracker: python tracking/train.py --script stark_s --config baseline --save_dir . --mode single"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.config import load_config
from lib.models import NETWORKS
from lib.train.admin.launch import launch
from lib.train.run import RunOptions, train
from lib.utils.errors import run_command
from lib.utils.workspace import workspace


def main() -> int:
    """Parse the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--script", required=True, choices=sorted(NETWORKS))
    parser.add_argument("--config", default="baseline", help="name in experiments/<script>/, or a YAML file")
    parser.add_argument("--save_dir", type=Path, default=None, help="checkpoints and logs lie under it")
    parser.add_argument("--mode", choices=["single", "multiple"], default="single", help="one process, or one a GPU")
    parser.add_argument("--nproc_per_node", type=int, default=1, help="processes with --mode multiple")
    parser.add_argument("--script_prv", choices=sorted(NETWORKS), help="script of the stage to start from")
    parser.add_argument("--config_prv", help="its configuration")
    parser.add_argument("--checkpoint_prv", type=Path, help="its weights as a file, in place of the two above")
    parser.add_argument("--use_lmdb", type=int, choices=[0, 1], default=0, help="read data sets from LMDB")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--seed", type=int, help="the same as --opts TRAIN.SEED=…")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="such as TRAIN.BATCH_SIZE=4")
    args = parser.parse_args()
    overrides = [*args.opts, *([] if args.seed is None else [f"TRAIN.SEED={args.seed}"])]
    if args.mode == "multiple" and "RANK" not in os.environ:
        load_config(args.script, args.config, overrides)  # a mistake in it is said once, and not by every process
        return launch(sys.argv, args.nproc_per_node)
    train(
        RunOptions(
            script=args.script,
            config=args.config,
            save_dir=args.save_dir or workspace().save_dir,
            script_prv=args.script_prv,
            config_prv=args.config_prv,
            checkpoint_prv=args.checkpoint_prv,
            use_lmdb=bool(args.use_lmdb),
            device=args.device,
            overrides=tuple(overrides),
        )
    )
    return 0


if __name__ == "__main__":
    run_command(main)
