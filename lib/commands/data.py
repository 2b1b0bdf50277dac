"""Commands about data sets, and the files of paths to them."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ..data.convert import FORMATS, TARGETS
from ..data.convert import convert as convert_annotations
from ..data.registry import pack as pack_dataset
from ..data.synthetic import DEFAULT_SETS, Materials, generate
from ..utils import workspace
from . import add_shared


def pack(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Pack a training set into one LMDB, for `--use_lmdb` of training.

    %(prog)s LASOT
    %(prog)s GOT10K_train_full --data_dir ./data
    %(prog)s FOLDER:my/videos
    """
    parser.add_argument("dataset", help="name as in DATA.TRAIN.DATASETS_NAME; any split of GOT-10k packs all of it")
    parser.add_argument("--data_dir", type=Path, help="folder of all data sets; default: STARK_DATA_DIR, or data/")
    parser.add_argument("--output", type=Path, help="folder for the LMDB; default: <folder of the data set>_lmdb")
    given = parser.parse_args(arguments)
    print(f"packed and verified: {pack_dataset(given.dataset, given.data_dir, given.output)}")


def synthesize(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    r"""Generate small videos in GOT-10k layout, to train and test on without a download.

    %(prog)s --output data/embedded/train --split train
    %(prog)s --output data/embedded/test --split test

    Crowded scenes of real things, from photographs, COCO, and clip-art with transparency (Debian's openclipart-png):
    %(prog)s --output data/crowded --sequences 2000 --frames 20 \
        --clipart /usr/share/openclipart/png --photographs /usr/share/backgrounds --coco data/coco
    """
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
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    folders = {name: tuple(given.pop(name)) for name in ("coco", "clipart", "photographs")}
    given["materials"] = Materials(**folders) if any(folders.values()) else None
    given["size"] = tuple(given["size"]) if "size" in given else None
    output = generate(**DEFAULT_SETS[given["split"]] | given)
    print(f"embedded {given['split']} data: {output}")


def convert(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Convert annotations of videos: to GOT-10k layout, which trains and tests as a folder, and back to CVAT or MOT.

    %(prog)s annotations.xml data/mine --from cvat --frames my.mp4
    %(prog)s data/mine corrected.xml --from got10k --to cvat
    """
    parser.add_argument("source", type=Path, help="file or folder of the annotations")
    parser.add_argument("output", type=Path, help="folder to which sequences are added; of CVAT also an XML file")
    parser.add_argument("--from", dest="form", required=True, choices=FORMATS, help="format of the source")
    parser.add_argument("--to", default="got10k", choices=TARGETS, help="format of the output; default: got10k")
    parser.add_argument("--frames", type=Path, help="video file or folder of images; default: those beside the source")
    parser.add_argument("--prefix", default="", help="before the names of sequences, as of one of several videos")
    add_shared(parser, "--overwrite")
    print(convert_annotations(**vars(parser.parse_args(arguments))))


def local_files(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Write the files in which the paths of this machine can be edited; without them the defaults hold.

    %(prog)s --workspace_dir . --data_dir ./data --save_dir .

    writes lib/train/admin/local.py (training) and lib/test/evaluation/local.py (testing). Git ignores both.
    """
    parser.add_argument("--workspace_dir", type=Path, default=Path(), help="folder with pretrained_networks/")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="folder of all data sets")
    parser.add_argument("--save_dir", type=Path, default=Path(), help="folder for checkpoints, logs and results")
    parser.add_argument("--force", action="store_true", help="replace existing files; they are kept as .bak")
    written = workspace.write_local_files(**vars(parser.parse_args(arguments)))
    for path in workspace.LOCAL_FILES.values():
        print(f"{'wrote' if path in written else 'says the same already'}: {path}")
