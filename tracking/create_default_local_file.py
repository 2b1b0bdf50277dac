"""Write the files in which the paths of this machine can be edited; without them the defaults hold.

python tracking/create_default_local_file.py --workspace_dir . --data_dir ./data --save_dir .

writes lib/train/admin/local.py (training) and lib/test/evaluation/local.py (testing). Git ignores both.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.utils.errors import run_command
from lib.utils.workspace import LOCAL_FILES, REPOSITORY, write_local_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace_dir", type=Path, default=REPOSITORY, help="folder with pretrained_networks/")
    parser.add_argument("--data_dir", type=Path, default=REPOSITORY / "data", help="folder of all data sets")
    parser.add_argument("--save_dir", type=Path, default=REPOSITORY, help="folder for checkpoints, logs and results")
    parser.add_argument("--force", action="store_true", help="replace existing files; they are kept as .bak")
    written = write_local_files(**vars(parser.parse_args()))
    for path in LOCAL_FILES.values():
        print(f"{'wrote' if path in written else 'says the same already'}: {path}")


if __name__ == "__main__":
    run_command(main)
