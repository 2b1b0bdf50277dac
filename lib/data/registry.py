"""Data sets by name: those of training, and the test sets.

`FOLDER:<path>` (training) and `folder:PATH` (testing) read any folder in GOT-10k layout.
"""

import difflib
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lib.data import layouts
from lib.data.coco import Coco, CocoMasks
from lib.data.dataset import StoredDataset
from lib.data.davis import Davis
from lib.data.sequence import Sequence
from lib.data.storage import FolderStorage, LmdbStorage, Storage
from lib.data.synthetic import ensure_embedded, is_whole
from lib.data.vid import Vid
from lib.data.videos import VideoSet
from lib.utils.errors import UserError
from lib.utils.workspace import Workspace, workspace

Builder = Callable[[str, Storage], StoredDataset]
PREFIXES = ("folder:", "vot:")
_TRACKINGNET_PARTS = tuple(f"TRAIN_{part}" for part in range(12))
log = logging.getLogger(__name__)
_EMBEDDED = {"EMBEDDED_train": "train", "EMBEDDED_test": "test"}


@dataclass(frozen=True)
class Kind:
    """How a training set is found and read.

    Attributes:
        root: its folder.
        lmdb: path of its LMDB, which may be missing.
        build: makes it from its name and its files.
        build_whole: the same with every sequence, not only those of a split.
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
        cache: folder of the annotation caches; None for no cache.

    Raises:
        UserError: the name is unknown, or the set is missing or malformed.
    """
    kind = find_kind(name, data_dir)
    if name in _EMBEDDED:
        ensure_embedded(kind.root, _EMBEDDED[name])
        use_lmdb = False
    lack = find_lack(name, data_dir, use_lmdb)
    if lack is not None:
        raise UserError(f"{name}: {': '.join(lack)}")
    if LmdbStorage.is_lmdb(kind.root):
        storage: Storage = LmdbStorage(kind.root)
    else:
        storage = LmdbStorage(kind.lmdb) if use_lmdb else FolderStorage(kind.root)
    storage.cache = cache
    return kind.build(name, storage)


def lmdb_path(root: Path) -> Path:
    """Path of the LMDB that belongs to a data set's folder."""
    path = Path(os.path.abspath(root))  # not resolved: beside the link, where the folder is one
    return path.with_name(f"{path.name}_lmdb")


def find_kind(name: str, data_dir: Path | None = None) -> Kind:
    """How a training set is found and read; see `build_dataset`."""
    for prefix, build in _BY_PATH.items():
        if name.startswith(prefix):
            path = name.removeprefix(prefix)
            if not path:
                raise UserError(f"{name!r} names no folder: expected {prefix}<path>")
            root = Path(path).expanduser()
            return Kind(root, lmdb_path(root), build, build, "correct the path")
    if name not in _KNOWN:
        spelled = {known.upper(): known for known in _KNOWN}
        close = difflib.get_close_matches(name.upper(), spelled, n=1)
        hint = f", did you mean {spelled[close[0]]}?" if close else ";"
        known = ", ".join([*_KNOWN, *(f"{prefix}<path>" for prefix in _BY_PATH)])
        raise UserError(f"unknown data set {name!r}{hint} known: {known}")
    folder, build, build_whole = _KNOWN[name]
    place = workspace("train") if data_dir is None else workspace("train").moved(Path(data_dir))
    root = place.dataset_dir(folder)
    return Kind(root, place.lmdb_dir(folder) or lmdb_path(root), build, build_whole, place.dataset_remedy(folder))


def find_lack(name: str, data_dir: Path | None = None, use_lmdb: bool = False) -> tuple[str, str] | None:
    """The missing folder or LMDB of a training set, and the remedy; None where it exists or is generated.

    Args: see `build_dataset`. The content of the folder or LMDB is not read.

    Raises:
        UserError: the name is unknown.
    """
    kind = find_kind(name, data_dir)
    if name in _EMBEDDED or LmdbStorage.is_lmdb(kind.root):
        return None
    if use_lmdb and not LmdbStorage.is_lmdb(kind.lmdb):
        remedy = f"make it with `python tracking/make_lmdb.py {name}`, or leave out --use_lmdb"
        return f"there is no LMDB {kind.lmdb}", remedy
    if not use_lmdb and not kind.root.is_dir():
        return f"there is no folder {kind.root}", kind.remedy
    return None


def waits_to_be_generated(name: str, data_dir: Path | None = None) -> bool:
    """True for a generated data set that does not exist yet."""
    return name in _EMBEDDED and not is_whole(find_kind(name, data_dir).root)


def load_dataset(name: str, data_dir: Path | None = None) -> list[Sequence]:
    """The sequences of a test set, in the set's order; at least one.

    Args:
        name: a key of `TEST_SETS`, or `folder:PATH`, or `vot:PATH`.
        data_dir: folder of all data sets; the workspace's by default.

    Raises:
        UserError: the name is unknown, the set's folder is missing, or a list in it is malformed.
    """
    prefix = _prefix(name)
    if prefix:
        root, kind = _folder(name), prefix.removesuffix(":")
        _require(root, kind, "correct the path")
        if kind == "vot":
            return layouts.vot(root, kind, dataset_label(name))
        return layouts.got10k(FolderStorage(""), f"{root}/", kind, None, dataset_label(name), with_class=True)
    if name not in TEST_SETS:
        close = difflib.get_close_matches(name, TEST_SETS, n=1)
        hint = f", did you mean {close[0]}?" if close else ";"
        raise UserError(f"unknown test set {name!r}{hint} known: {', '.join(TEST_SETS)}, folder:PATH, vot:PATH")
    place = workspace("test")
    return TEST_SETS[name](place if data_dir is None else place.moved(Path(data_dir)))


def dataset_label(name: str) -> str:
    """A name for files: the test set's own, or `folder_<name>_<hash of its path>`, unique for each path."""
    prefix = _prefix(name)
    if not prefix:
        return name
    resolved = _folder(name).resolve()
    digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
    return f"{prefix.removesuffix(':')}_{resolved.name}_{digest}"


def dataset_title(name: str) -> str:
    """A name for readers: the test set's own, or the folder's."""
    return _folder(name).resolve().name if _prefix(name) else name


def select_sequences(sequences: list[Sequence], choice: str | None) -> list[Sequence]:
    """Sequences by name or index from 0, or several between commas; all of them for None.

    Raises:
        UserError: no such sequence exists; the message offers the closest name.
    """
    if choice is None:
        return sequences
    by_name = {sequence.name: sequence for sequence in sequences}
    if choice in by_name:  # also a name with a comma in it
        return [by_name[choice]]
    words = [word.strip() for word in choice.split(",") if word.strip()]
    if not words:
        raise UserError(f"{choice!r} chooses no sequence: give a name, an index from 0, or several between commas")
    chosen = {sequence.name: sequence for sequence in (_select_one(sequences, by_name, word) for word in words)}
    return list(chosen.values())


def _select_one(sequences: list[Sequence], by_name: dict[str, Sequence], word: str) -> Sequence:
    if word in by_name:
        return by_name[word]
    if word.isascii() and word.isdigit() and len(word) < 10 and int(word) < len(sequences):
        return sequences[int(word)]
    close = difflib.get_close_matches(word, by_name, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UserError(f"no sequence {word[:60]!r}: the test set has {len(sequences)}, counted from 0{hint}")


def _prefix(name: str) -> str:
    """`folder:` or `vot:` where a name starts with it, else ""."""
    return next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")


def _folder(name: str) -> Path:
    """The path in `folder:PATH` or `vot:PATH`."""
    path = name.removeprefix(_prefix(name))
    if not path:
        raise UserError(f"{name!r} names no folder: expected {_prefix(name)}PATH")
    return Path(path).expanduser()


def _require(root: Path, dataset: str, remedy: str) -> None:
    if not root.is_dir():
        raise UserError(f"test set {dataset}: folder not found: {root}: {remedy}")


def _root(place: Workspace, dataset: str, folder: str = "", other_folder: str = "", below: str = "") -> Path:
    """The folder of a test set, `folder` or the set's name; `other_folder` is another usual name."""
    folder = folder or dataset
    root = place.dataset_dir(folder)
    if other_folder and not root.is_dir() and root.with_name(other_folder).is_dir():
        root = root.with_name(other_folder)
    root = root / below
    _require(root, dataset, place.dataset_remedy(folder))
    return root


def _got10k_test(place: Workspace, dataset: str, part: str, split: str | None = None) -> list[Sequence]:
    root = _root(place, dataset, "got10k", below=part)
    return layouts.got10k(FolderStorage(""), f"{root}/", dataset, split, "got10k", with_class=True)


def _lasot_test(place: Workspace) -> list[Sequence]:
    root = _root(place, "lasot")
    return layouts.lasot(FolderStorage(""), f"{root}/", "lasot", "test", flags_may_lack=False)


def _lasot_lmdb(place: Workspace) -> list[Sequence]:
    """The same in one LMDB, its keys the files' paths in LaSOT's folder (tracking/make_lmdb.py makes it)."""
    root = place.lmdb_dir("lasot") or place.data_dir / "lasot_lmdb"
    if not LmdbStorage.is_lmdb(root):
        raise UserError(f"test set lasot_lmdb: folder not found: {root}: {place.dataset_remedy('lasot_lmdb')}")
    return layouts.lasot(LmdbStorage(root), "", "lasot", "test", flags_may_lack=False)


def _trackingnet_test(place: Workspace) -> list[Sequence]:
    root = _root(place, "trackingnet", below="TEST").parent
    return layouts.trackingnet(FolderStorage(""), f"{root}/", "trackingnet", ("TEST",), subfolder="trackingnet")


def _table(place: Workspace, dataset: str, spec: str, other_folder: str = "") -> list[Sequence]:
    return layouts.table(_root(place, dataset, other_folder=other_folder), dataset, spec)


def _tc128(place: Workspace, dataset: str) -> list[Sequence]:
    return layouts.tc128(_root(place, dataset, "tc128", "Temple-color-128"), dataset)


TEST_SETS: dict[str, Callable[[Workspace], list[Sequence]]] = {
    "lasot": _lasot_test,
    "lasot_lmdb": _lasot_lmdb,
    "lasot_ext": lambda place: layouts.lasot_ext(_root(place, "lasot_ext", other_folder="LaSOT_extension_subset")),
    "got10k_test": partial(_got10k_test, dataset="got10k_test", part="test"),
    "got10k_val": partial(_got10k_test, dataset="got10k_val", part="val"),
    # the published list: 1,401 sequences of the training set
    "got10k_ltrval": partial(_got10k_test, dataset="got10k_ltrval", part="train", split="val"),
    "trackingnet": _trackingnet_test,
    "otb": partial(_table, dataset="otb", spec="otb100.csv", other_folder="OTB2015"),
    "nfs": partial(_table, dataset="nfs", spec="nfs30.csv"),
    "uav": partial(_table, dataset="uav", spec="uav123.csv", other_folder="UAV123"),
    "tc128": partial(_tc128, dataset="tc128"),
    "tc128ce": partial(_tc128, dataset="tc128ce"),
    "tnl2k": lambda place: layouts.tnl2k(_root(place, "tnl2k", other_folder="TNL2K_test_subset")),
}


def _got10k(split: str | None, name: str, storage: Storage) -> VideoSet:
    """GOT-10k's training set, in `train/` or directly in the data set's folder."""
    return _any_folder(name, storage, "train/" if storage.exists("train") else "", split)


def _any_folder(name: str, storage: Storage, base: str = "", split: str | None = None) -> VideoSet:
    sequences = layouts.got10k(storage, base, name, split)
    if not storage.exists(base + layouts.LIST):
        place = storage.locate(base.rstrip("/"))
        log.warning("%s: there is no %s in %s: taking its %d folders", name, layouts.LIST, place, len(sequences))
    return VideoSet(name, storage, sequences, [base + layouts.LIST])


def _lasot(split: str | None, name: str, storage: Storage) -> VideoSet:
    return VideoSet(name, storage, layouts.lasot(storage, "", name, split))


def _trackingnet(name: str, storage: Storage) -> VideoSet:
    return VideoSet(name, storage, layouts.trackingnet(storage, "", name, _TRACKINGNET_PARTS))


def _davis(split: str | None, name: str, storage: Storage) -> Davis:
    """Videos with masks, in `train/`, as YouTube-VOS has them, or directly in the data set's folder."""
    return Davis(name, storage, base="train/" if storage.exists("train") else "", split=split)


def _vid(name: str, storage: Storage) -> Vid:
    """VID in its archive's folder `ILSVRC2015`, or without it."""
    return Vid(name, storage, base="ILSVRC2015/" if storage.exists("ILSVRC2015") else "")


# Sets at a path of the user's: prefix of the name -> builder
_BY_PATH: dict[str, Builder] = {
    "FOLDER:": _any_folder,
    "COCO:": Coco,
    "COCO_masks:": CocoMasks,
    "DAVIS:": partial(_davis, None),
}

# name -> folder in the folder of all data sets, builder, builder of the whole
_KNOWN: dict[str, tuple[str, Builder, Builder]] = {
    "LASOT": ("lasot", partial(_lasot, "train"), partial(_lasot, None)),
    "GOT10K_vottrain": ("got10k", partial(_got10k, "vottrain"), partial(_got10k, None)),
    "GOT10K_votval": ("got10k", partial(_got10k, "votval"), partial(_got10k, None)),
    "GOT10K_train_full": ("got10k", partial(_got10k, "train_full"), partial(_got10k, None)),
    "COCO17": ("coco", Coco, Coco),
    "COCO17_masks": ("coco", CocoMasks, CocoMasks),
    "DAVIS17_train": ("davis", partial(_davis, "2017/train"), partial(_davis, None)),
    "DAVIS17_val": ("davis", partial(_davis, "2017/val"), partial(_davis, None)),
    "YOUTUBE_VOS": ("youtube_vos", partial(_davis, None), partial(_davis, None)),
    "VID": ("vid", _vid, _vid),
    "TRACKINGNET": ("trackingnet", _trackingnet, _trackingnet),
    "EMBEDDED_train": ("embedded/train", _any_folder, _any_folder),
    "EMBEDDED_test": ("embedded/test", _any_folder, _any_folder),
}
