"""Training sets by name."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.data.coco import Coco, CocoMasks
from lib.data.davis import Davis
from lib.data.got10k import Got10k
from lib.data.lasot import Lasot
from lib.data.lmdb_storage import LmdbStorage
from lib.data.storage import FolderStorage, Storage
from lib.data.stored import StoredDataset
from lib.data.synthetic import ensure_embedded, is_whole
from lib.data.trackingnet import TrackingNet
from lib.data.vid import Vid
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

Builder = Callable[[str, Storage], StoredDataset]


@dataclass(frozen=True)
class Kind:
    """How a data set is found and read.

    Attributes:
        root: its folder.
        lmdb: where its LMDB lies, which may be missing.
        build: makes it from its name and its files.
        build_whole: the same with every sequence that is there, not only those of a split.
        remedy: what to do if the folder is missing.
    """

    root: Path
    lmdb: Path
    build: Builder
    build_whole: Builder
    remedy: str


def build_dataset(
    name: str, data_dir: Path | None = None, use_lmdb: bool = False, cache: Path | None = None
) -> StoredDataset:
    """A training set by its name in DATA.TRAIN.DATASETS_NAME.

    `FOLDER:<path>` is any folder in GOT-10k layout, `COCO:<path>` any in COCO's, and for masks `COCO_masks:<path>` and
    `DAVIS:<path>`; paths start at the working directory. `EMBEDDED_train` and `EMBEDDED_test` are generated on first
    use and always read from their folder.

    Args:
        name: of the set.
        data_dir: folder of all data sets; the workspace's by default.
        use_lmdb: read the LMDB beside the set's folder, `<folder>_lmdb`.
        cache: folder in which annotations are kept in a form that is read fast.

    Raises:
        UserError: the name is unknown, or the set is missing or malformed.
    """
    kind = find_kind(name, data_dir)
    if name in _EMBEDDED:
        ensure_embedded(kind.root, _EMBEDDED[name])
        use_lmdb = False
    storage = _storage(name, data_dir, use_lmdb)
    storage.cache = cache
    return kind.build(name, storage)


def lmdb_path(root: Path) -> Path:
    """Where the LMDB of the data set in a folder lies."""
    path = Path(os.path.abspath(root))  # Not resolved: beside the link, where the folder is one.
    return path.with_name(f"{path.name}_lmdb")


def find_kind(name: str, data_dir: Path | None = None) -> Kind:
    """How a data set is found and read; see `build_dataset`."""
    for prefix, build in _BY_PATH.items():
        if name.startswith(prefix):
            path = name.removeprefix(prefix)
            if not path:
                raise UserError(f"{name!r} names no folder: expected {prefix}<path>")
            root = Path(path).expanduser()
            return Kind(root, lmdb_path(root), build, build, "correct the path")
    if name not in _KNOWN:
        close = difflib.get_close_matches(name.upper(), {known.upper() for known in _KNOWN}, n=1)
        hint = f", did you mean {_spelled(close[0])}?" if close else ";"
        known = ", ".join([*_KNOWN, *(f"{prefix}<path>" for prefix in _BY_PATH)])
        raise UserError(f"unknown data set {name!r}{hint} known: {known}")
    folder, build, build_whole = _KNOWN[name]
    place = workspace("train") if data_dir is None else workspace("train").moved(Path(data_dir))
    root = place.dataset_dir(folder)
    return Kind(root, place.lmdb_dir(folder) or lmdb_path(root), build, build_whole, place.dataset_remedy(folder))


def find_lack(name: str, data_dir: Path | None = None, use_lmdb: bool = False) -> tuple[str, str] | None:
    """What of a data set is not there as a whole, and what to do about it; None where it is there or is generated.

    Args: see `build_dataset`. What is in the folder or LMDB is not looked at.

    Raises:
        UserError: the name is unknown.
    """
    kind = find_kind(name, data_dir)
    path = kind.lmdb
    if name in _EMBEDDED or LmdbStorage.is_lmdb(kind.root):
        return None
    if use_lmdb and not LmdbStorage.is_lmdb(path):
        return (
            f"there is no LMDB {path}",
            f"make it with `python tracking/make_lmdb.py {name}`, or leave out --use_lmdb",
        )
    if not use_lmdb and not kind.root.is_dir():
        return f"there is no folder {kind.root}", kind.remedy
    return None


def waits_to_be_generated(name: str, data_dir: Path | None = None) -> bool:
    """Whether a data set is one that is generated on first use, and was not yet used."""
    return name in _EMBEDDED and not is_whole(find_kind(name, data_dir).root)


def _storage(name: str, data_dir: Path | None, use_lmdb: bool) -> Storage:
    """The files of a data set, which have to be there."""
    lack = find_lack(name, data_dir, use_lmdb)
    if lack is not None:
        raise UserError(f"{name}: {': '.join(lack)}")
    kind = find_kind(name, data_dir)
    if LmdbStorage.is_lmdb(kind.root):
        return LmdbStorage(kind.root)
    return LmdbStorage(kind.lmdb) if use_lmdb else FolderStorage(kind.root)


def _got10k(split: str | None) -> Builder:
    """GOT-10k's training set, in `train/` or right in the data set's folder."""

    def build(name: str, storage: Storage) -> Got10k:
        return Got10k(name, storage, base="train/" if storage.exists("train") else "", split=split)

    return build


def _davis(split: str | None) -> Builder:
    """Videos with masks, in `train/`, as YouTube-VOS has them, or right in the data set's folder."""

    def build(name: str, storage: Storage) -> Davis:
        return Davis(name, storage, base="train/" if storage.exists("train") else "", split=split)

    return build


def _vid(name: str, storage: Storage) -> Vid:
    """VID in its archive's folder `ILSVRC2015`, or without it."""
    return Vid(name, storage, base="ILSVRC2015/" if storage.exists("ILSVRC2015") else "")


def _whole_lasot(name: str, storage: Storage) -> Lasot:
    return Lasot(name, storage, split=False)


def _spelled(upper: str) -> str:
    """The known name that reads so in capitals."""
    return next(known for known in _KNOWN if known.upper() == upper)


_EMBEDDED = {"EMBEDDED_train": "train", "EMBEDDED_test": "test"}

# What is read from a path of the user's: prefix of the name -> builder
_BY_PATH: dict[str, Builder] = {"FOLDER:": Got10k, "COCO:": Coco, "COCO_masks:": CocoMasks, "DAVIS:": _davis(None)}

# name -> folder in the folder of all data sets, builder, builder of the whole
_KNOWN: dict[str, tuple[str, Builder, Builder]] = {
    "LASOT": ("lasot", Lasot, _whole_lasot),
    "GOT10K_vottrain": ("got10k", _got10k("vottrain"), _got10k(None)),
    "GOT10K_votval": ("got10k", _got10k("votval"), _got10k(None)),
    "GOT10K_train_full": ("got10k", _got10k("train_full"), _got10k(None)),
    "COCO17": ("coco", Coco, Coco),
    "COCO17_masks": ("coco", CocoMasks, CocoMasks),
    "DAVIS17_train": ("davis", _davis("2017/train"), _davis(None)),
    "DAVIS17_val": ("davis", _davis("2017/val"), _davis(None)),
    "YOUTUBE_VOS": ("youtube_vos", _davis(None), _davis(None)),
    "VID": ("vid", _vid, _vid),
    "TRACKINGNET": ("trackingnet", TrackingNet, TrackingNet),
    "EMBEDDED_train": ("embedded/train", Got10k, Got10k),
    "EMBEDDED_test": ("embedded/test", Got10k, Got10k),
}
