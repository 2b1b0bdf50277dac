"""Pack a training set into one LMDB, for `tracking/train.py … --use_lmdb`.

python tracking/make_lmdb.py LASOT
python tracking/make_lmdb.py GOT10K_train_full --data_dir ./data
python tracking/make_lmdb.py FOLDER:my/videos

A broken run is continued by the same command, and a finished LMDB is verified by it.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.data.pack import pack
from lib.utils.errors import run_command


def main() -> None:
    """Parse the arguments and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="name as in DATA.TRAIN.DATASETS_NAME; any split of GOT-10k packs all of it")
    parser.add_argument("--data_dir", type=Path, help="folder of all data sets (default: STARK_DATA_DIR, or data/)")
    parser.add_argument("--output", type=Path, help="folder of the LMDB (default: <folder of the data set>_lmdb)")
    args = parser.parse_args()
    output = pack(args.dataset, args.data_dir, args.output)
    print(f"packed and verified: {output}")


if __name__ == "__main__":
    run_command(main)
