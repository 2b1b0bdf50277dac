"""Training sets by name."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.train.dataset.coco import Coco
from lib.train.dataset.embedded_set import ensure_embedded
from lib.train.dataset.got10k import Got10k
from lib.train.dataset.lasot import Lasot
from lib.train.dataset.lmdb_storage import LmdbStorage
from lib.train.dataset.storage import FolderStorage, Storage
from lib.train.dataset.stored import StoredDataset
from lib.train.dataset.trackingnet import TrackingNet
from lib.train.dataset.vid import Vid
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

Builder = Callable[[str, Storage], StoredDataset]


@dataclass(frozen=True)
class Kind:
    """How a data set is found and read.

    Attributes:
        root: its folder.
        build: makes it from its name and its files.
        build_whole: the same with every sequence that is there, not only those of a split.
        remedy: what to do if the folder is missing.
    """

    root: Path
    build: Builder
    build_whole: Builder
    remedy: str = "put it there, or set STARK_DATA_DIR to the folder of all data sets"


def build_dataset(name: str, data_dir: Path | None = None, use_lmdb: bool = False) -> StoredDataset:
    """A training set by its name in DATA.TRAIN.DATASETS_NAME.

    `FOLDER:<path>` is any folder in GOT-10k layout and `COCO:<path>` any in COCO's; paths start at the working
    directory. `EMBEDDED_train` and `EMBEDDED_test` are generated on first use and always read from their folder.

    Args:
        name: of the set.
        data_dir: folder of all data sets; the workspace's by default.
        use_lmdb: read the LMDB beside the set's folder, `<folder>_lmdb`.

    Raises:
        UserError: the name is unknown, or the set is missing or malformed.
    """
    kind = find_kind(name, data_dir)
    if name in _EMBEDDED:
        ensure_embedded(kind.root, _EMBEDDED[name])
        use_lmdb = False
    return kind.build(name, _storage(name, kind, use_lmdb))


def lmdb_path(root: Path) -> Path:
    """Where the LMDB of the data set in a folder lies."""
    path = Path(os.path.abspath(root))  # Not resolved: beside the link, where the folder is one.
    return path.with_name(f"{path.name}_lmdb")


def find_kind(name: str, data_dir: Path | None = None) -> Kind:
    """How a data set is found and read; see `build_dataset`."""
    for prefix, build in (("FOLDER:", Got10k), ("COCO:", Coco)):
        if name.startswith(prefix):
            path = name.removeprefix(prefix)
            if not path:
                raise UserError(f"{name!r} names no folder: expected {prefix}<path>")
            return Kind(Path(path).expanduser(), build, build, "correct the path")
    if name not in _KNOWN:
        close = difflib.get_close_matches(name.upper(), {known.upper() for known in _KNOWN}, n=1)
        hint = f", did you mean {_spelled(close[0])}?" if close else ";"
        raise UserError(f"unknown data set {name!r}{hint} known: {', '.join(_KNOWN)}, FOLDER:<path>, COCO:<path>")
    folder, build, build_whole = _KNOWN[name]
    return Kind(Path(data_dir or workspace().data_dir) / folder, build, build_whole)


def _storage(name: str, kind: Kind, use_lmdb: bool) -> Storage:
    """The files of a data set, which have to be there."""
    if LmdbStorage.is_lmdb(kind.root):
        return LmdbStorage(kind.root)
    if use_lmdb:
        path = lmdb_path(kind.root)
        if not LmdbStorage.is_lmdb(path):
            raise UserError(
                f"{name}: there is no LMDB {path}: make it with `python tracking/make_lmdb.py {name}`, "
                "or leave out --use_lmdb"
            )
        return LmdbStorage(path)
    if not kind.root.is_dir():
        raise UserError(f"{name}: there is no folder {kind.root}: {kind.remedy}")
    return FolderStorage(kind.root)


def _got10k(split: str | None) -> Builder:
    """GOT-10k's training set, in `train/` or right in the data set's folder."""

    def build(name: str, storage: Storage) -> Got10k:
        return Got10k(name, storage, base="train/" if storage.exists("train") else "", split=split)

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

# name -> folder in the folder of all data sets, builder, builder of the whole
_KNOWN: dict[str, tuple[str, Builder, Builder]] = {
    "LASOT": ("lasot", Lasot, _whole_lasot),
    "GOT10K_vottrain": ("got10k", _got10k("vottrain"), _got10k(None)),
    "GOT10K_votval": ("got10k", _got10k("votval"), _got10k(None)),
    "GOT10K_train_full": ("got10k", _got10k("train_full"), _got10k(None)),
    "COCO17": ("coco", Coco, Coco),
    "VID": ("vid", _vid, _vid),
    "TRACKINGNET": ("trackingnet", TrackingNet, TrackingNet),
    "EMBEDDED_train": ("embedded/train", Got10k, Got10k),
    "EMBEDDED_test": ("embedded/test", Got10k, Got10k),
}
