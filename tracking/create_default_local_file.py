"""Write the files in which this machine's paths may be edited; without them the defaults hold.

python tracking/create_default_local_file.py --workspace_dir . --data_dir ./data --save_dir .

makes lib/train/admin/local.py (training) and lib/test/evaluation/local.py (testing). Git ignores both.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.utils.errors import run_command
from lib.utils.local_files import write_local_files
from lib.utils.workspace import LOCAL_FILES, REPOSITORY


def main() -> None:
    """Parse the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, what in (
        ("workspace_dir", REPOSITORY, "pretrained_networks/ lies in it"),
        ("data_dir", REPOSITORY / "data", "folder of all data sets"),
        ("save_dir", REPOSITORY, "checkpoints, logs and results lie under it"),
    ):
        parser.add_argument(f"--{name}", type=Path, default=default, help=f"{what} (default: {default})")
    parser.add_argument("--force", action="store_true", help="replace files that are there; they are kept as .bak")
    args = parser.parse_args()
    written = write_local_files(args.workspace_dir, args.data_dir, args.save_dir, args.force, LOCAL_FILES)
    for path in LOCAL_FILES.values():
        print(f"{'wrote' if path in written else 'says the same already'}: {path}")


if __name__ == "__main__":
    run_command(main)
