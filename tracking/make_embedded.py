"""Generate small videos in GOT-10k layout: data to train and test with when there is no other.

python tracking/make_embedded.py --output data/embedded/train --split train
python tracking/make_embedded.py --output data/embedded/test --split test

Crowded scenes of real things, from any photographs, COCO's annotated ones, and clip-art with transparency
(Debian's openclipart-png):
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
    """Parse the arguments and generate the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the set; made if missing")
    parser.add_argument("--split", choices=tuple(DEFAULT_SETS), default="train", help="they share no photograph")
    parser.add_argument("--seed", type=int, help="default: 1 for train, 2 for test")
    parser.add_argument("--sequences", type=int, help="default: 150 for train, 12 for test")
    parser.add_argument("--frames", type=int, help="frames in each sequence; default: 48 for train, 70 for test")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="of every frame; default: varied")
    parser.add_argument("--workers", type=int, default=2, help="processes; no influence on the result (default: 2)")
    for name, what in (
        ("coco", "in COCO's layout"),
        ("clipart", "of PNG files with transparency"),
        ("photographs", "of photographs"),
    ):
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="DIR", help=f"crowded scenes: folders {what}")
    args = parser.parse_args()
    folders = {name: tuple(getattr(args, name)) for name in ("coco", "clipart", "photographs")}
    given = {name: getattr(args, name) for name in ("seed", "sequences", "frames")}
    output = generate(
        args.output,
        split=args.split,
        **DEFAULT_SETS[args.split] | {name: value for name, value in given.items() if value is not None},
        size=tuple(args.size) if args.size else None,
        materials=Materials(**folders) if any(folders.values()) else None,
        workers=args.workers,
    )
    print(f"embedded {args.split} data: {output}")


if __name__ == "__main__":
    run_command(main)
