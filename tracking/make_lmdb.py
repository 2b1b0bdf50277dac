"""Pack a training set into one LMDB, for `tracking/train.py … --use_lmdb`.

python tracking/make_lmdb.py LASOT
python tracking/make_lmdb.py GOT10K_train_full --data_dir ./data
python tracking/make_lmdb.py FOLDER:my/videos
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.data.pack import pack
from lib.utils.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="name as in DATA.TRAIN.DATASETS_NAME; any split of GOT-10k packs all of it")
    parser.add_argument("--data_dir", type=Path, help="folder of all data sets; default: STARK_DATA_DIR, or data/")
    parser.add_argument("--output", type=Path, help="folder for the LMDB; default: <folder of the data set>_lmdb")
    given = parser.parse_args()
    print(f"packed and verified: {pack(given.dataset, given.data_dir, given.output)}")


if __name__ == "__main__":
    run_command(main)
