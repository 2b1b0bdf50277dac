"""Generate small videos in GOT-10k layout, to train and test on without a download.

python tracking/make_embedded.py --output data/embedded/train --split train
python tracking/make_embedded.py --output data/embedded/test --split test

Crowded scenes of real things, from photographs, COCO, and clip-art with transparency (Debian's openclipart-png):
python tracking/make_embedded.py --output data/crowded --sequences 2000 --frames 20 \\
    --clipart /usr/share/openclipart/png --photographs /usr/share/backgrounds --coco data/coco
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.data.synthetic import DEFAULT_SETS, Materials, generate
from lib.utils.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the set")
    parser.add_argument("--split", choices=tuple(DEFAULT_SETS), default="train", help="they share no photograph")
    parser.add_argument("--seed", type=int, help="default: 1 for train, 2 for test")
    parser.add_argument("--sequences", type=int, help="default: 150 for train, 12 for test")
    parser.add_argument("--frames", type=int, help="frames in each sequence; default: 48 for train, 70 for test")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="size of all frames; default: varied")
    parser.add_argument("--workers", type=int, default=2, help="processes; the result is the same (default: 2)")
    crowded = parser.add_argument_group("materials of crowded scenes, as folders")
    crowded.add_argument("--coco", nargs="+", default=[], metavar="DIR", help="in COCO's layout")
    crowded.add_argument("--clipart", nargs="+", default=[], metavar="DIR", help="PNG files with transparency")
    crowded.add_argument("--photographs", nargs="+", default=[], metavar="DIR", help="photographs")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    folders = {name: tuple(given.pop(name)) for name in ("coco", "clipart", "photographs")}
    given["materials"] = Materials(**folders) if any(folders.values()) else None
    given["size"] = tuple(given["size"]) if "size" in given else None
    output = generate(**DEFAULT_SETS[given["split"]] | given)
    print(f"embedded {given['split']} data: {output}")


if __name__ == "__main__":
    run_command(main)
