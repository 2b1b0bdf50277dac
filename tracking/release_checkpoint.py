"""Average checkpoints of one run into weights to share, without optimizer and settings.

The mean of the last epochs tracks better than each of them. By default it is written beside the configuration, where
every command finds it as long as there are no checkpoints of your own training.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.models import release_checkpoint
from lib.test.tracker import shipped_weights
from lib.utils.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", required=True, help="training script, such as stark_lightning_X_trt")
    parser.add_argument("--config", required=True, help="configuration, such as mini")
    parser.add_argument("--checkpoints", required=True, nargs="+", type=Path, metavar="FILE", help="one or more")
    parser.add_argument("--output", type=Path, help="file; default: <config>.pth.tar beside the configuration")
    given = parser.parse_args()
    output = given.output or shipped_weights(given.script, given.config)
    release_checkpoint(given.script, given.config, given.checkpoints, output)
    print(f"wrote {output}: the mean of {len(given.checkpoints)} checkpoints, {output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_command(main)
