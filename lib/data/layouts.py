"""How the files of each test set lie, as sequences. Each function's docstring shows its layout."""

import csv
import re
from functools import partial
from pathlib import Path

from lib.data import attributes
from lib.data.box_files import line_numbers
from lib.data.lmdb_storage import LmdbStorage
from lib.data.sequence import FrameRange, Sequence
from lib.data.storage import FolderStorage, Storage
from lib.data.vot_regions import parse_regions
from lib.utils.errors import UserError
from lib.utils.text import read_names, read_ranges, read_text
from lib.utils.workspace import Workspace

_SPECS = Path(__file__).parent / "specs"


def got10k_layout(root: Path, dataset: str, subfolder: str) -> list[Sequence]:
    """Every sequence of a folder in GOT-10k layout; those of `list.txt`, in its order, where there is one.

    `list.txt`, `<sequence>/00000001.jpg …`, `<sequence>/groundtruth.txt`; where it has them `absence.label`,
    `cover.label` and `meta_info.ini` beside them.
    """
    names = _names(root, "list.txt or folders with frames and groundtruth.txt")
    return [_got10k_sequence(root / name, dataset, subfolder) for name in names]


def got10k(place: Workspace, dataset: str, part: str) -> list[Sequence]:
    """`got10k/<part>/` in GOT-10k layout; in `test` a groundtruth.txt has one line."""
    root = place.dataset_dir("got10k") / part
    require_folder(root, dataset, place.dataset_remedy("got10k"))
    return got10k_layout(root, dataset, subfolder="got10k")


def got10k_ltrval(place: Workspace) -> list[Sequence]:
    """The sequences of `got10k/train/` that training validates on (GOT10K_votval)."""
    sequences = got10k(place, "got10k_ltrval", "train")
    indices = read_ranges(_SPECS / "got10k_votval.ranges.txt")
    if len(sequences) <= max(indices):
        root = place.dataset_dir("got10k") / "train"
        raise UserError(f"got10k_ltrval: {root} has {len(sequences)} sequences, expected all 9335 of the training set")
    return [sequences[index] for index in indices]


def lasot(place: Workspace) -> list[Sequence]:
    """LaSOT's 280 test sequences: `<class>/<sequence>/img/00000001.jpg …`, and beside `img` the files
    `groundtruth.txt`, `full_occlusion.txt` and `out_of_view.txt`; the folders of classes may be left out."""
    root = place.dataset_dir("lasot")
    require_folder(root, "lasot", place.dataset_remedy("lasot"))
    names = read_names(_SPECS / "lasot_test.txt")
    return [_lasot_sequence(_lasot_folder(FolderStorage(""), root, name), "lasot") for name in names]


def lasot_lmdb(place: Workspace) -> list[Sequence]:
    """The same as `lasot` in one LMDB, its keys the files' paths in LaSOT's folder (tracking/make_lmdb.py makes it)."""
    root = place.lmdb_dir("lasot") or place.data_dir / "lasot_lmdb"
    if not LmdbStorage.is_lmdb(root):
        raise UserError(f"test set lasot_lmdb: folder not found: {root}: {place.dataset_remedy('lasot_lmdb')}")
    storage, names = LmdbStorage(root), read_names(_SPECS / "lasot_test.txt")
    return [_lasot_sequence(_lasot_folder(storage, Path(), name), "lasot", storage) for name in names]


def lasot_ext(place: Workspace) -> list[Sequence]:
    """LaSOT's extension subset, 150 sequences of 15 classes: `<class>/<class>-<number>/` as in `lasot`."""
    root = _root(place, "lasot_ext", "LaSOT_extension_subset")
    found = []
    for folder in (path.parent for path in root.glob("*/*/groundtruth.txt")):
        match = re.fullmatch(re.escape(folder.parent.name) + r"-(\d{1,9})", folder.name, re.ASCII)
        if match:
            found.append((folder.parent.name, int(match[1]), folder))
    if not found:
        raise UserError(f"no sequences in {root}: expected <class>/<class>-<number>/ with img/ and groundtruth.txt")
    return [_lasot_sequence(folder, "lasot_ext") for _, _, folder in sorted(found)]


def trackingnet(place: Workspace) -> list[Sequence]:
    """TrackingNet's test part: `TEST/frames/<sequence>/0.jpg …`, `TEST/anno/<sequence>.txt` with one line."""
    root = place.dataset_dir("trackingnet") / "TEST"
    require_folder(root, "trackingnet", place.dataset_remedy("trackingnet"))
    annotations = sorted((root / "anno").glob("*.txt"))
    if not annotations:
        raise UserError(f"no sequences in {root}: expected anno/<sequence>.txt and frames/<sequence>/")
    return [
        Sequence(path.stem, "trackingnet", root / "frames" / path.stem, path, subfolder="trackingnet")
        for path in annotations
    ]


def table(place: Workspace, dataset: str, spec: str, other_folder: str | None = None) -> list[Sequence]:
    """A set whose frame ranges and annotation files only a table tells (OTB, NfS, UAV123).

    Attributes: OTB's `<Sequence>/attrs.txt`; UAV123's `anno/UAV123/att/<sequence>.txt` of 12 flags.

    Args:
        place: where data sets lie.
        dataset: name of the set, and of its folder.
        spec: the table's file name.
        other_folder: another usual name of the folder.
    """
    root = _root(place, dataset, other_folder)
    with open(_SPECS / spec, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Sequence(
            name=row["name"],
            dataset=dataset,
            frames_dir=root / row["frames_folder"],
            annotation=root / row["annotation"],
            frame_range=FrameRange(
                int(row["first_frame"]), int(row["last_frame"]), int(row["digits"]), row["extension"]
            ),
            skip_first=int(row["skip_first"]),
            object_class=row["object_class"],
            read_attributes=_table_attributes(dataset, root / row["annotation"]),
        )
        for row in rows
    ]


def tc128(place: Workspace, dataset: str = "tc128") -> list[Sequence]:
    """Temple Color 128: `<Sequence>/img/0001.jpg …`, `<Sequence>/<Sequence>_gt.txt`, and
    `<Sequence>/<Sequence>_frames.txt` with `first,last`; attributes, where there are, in `<Sequence>_att.txt`."""
    root = _root(place, dataset, "Temple-color-128", folder="tc128")
    names = sorted(path.parent.name for path in root.glob("*/*_frames.txt") if _is_tc128(path))
    if dataset == "tc128ce":
        names = [name for name in names if name.endswith("_ce")]
    if not names:
        raise UserError(
            f"no sequences of {dataset} in {root}: expected <Sequence>/<Sequence>_frames.txt, _gt.txt, img/"
        )
    return [_tc128_sequence(root / name, name) for name in names]


def tc128ce(place: Workspace) -> list[Sequence]:
    """The 78 sequences of `tc128` that are in no other set: their names end in `_ce`."""
    return tc128(place, "tc128ce")


def tnl2k(place: Workspace) -> list[Sequence]:
    """TNL2K's test part: `<sequence>/imgs/*`, `<sequence>/groundtruth.txt`; where it is there,
    `attributes/<sequence>.txt` of 17 flags."""
    root = _root(place, "tnl2k", "TNL2K_test_subset")
    return [
        Sequence(
            name=name,
            dataset="tnl2k",
            frames_dir=root / name / "imgs",
            annotation=root / name / "groundtruth.txt",
            read_attributes=partial(attributes.flagged, root / "attributes" / f"{name}.txt", attributes.TNL2K),
        )
        for name in _names(root, "folders with imgs/ and groundtruth.txt")
    ]


def vot_layout(root: Path, dataset: str, subfolder: str) -> list[Sequence]:
    """Every sequence of a folder in the VOT toolkit's layout; those of `list.txt` where there is one.

    `<sequence>/color/00000001.jpg …` (or the frames in the folder itself, as until 2017), `<sequence>/groundtruth.txt`
    of rectangles, polygons or masks, `<sequence>/<tag>.tag` with a flag a frame. The file `sequence` may name another
    folder of frames (`channels.color=…/%08d.jpg`).
    """
    return [
        Sequence(
            name=name,
            dataset=dataset,
            frames_dir=_vot_frames(root / name),
            annotation=root / name / "groundtruth.txt",
            subfolder=subfolder,
            parse_annotation=parse_regions,
            read_attributes=partial(attributes.tagged, root / name),
        )
        for name in _names(root, "list.txt or folders with color/ and groundtruth.txt")
    ]


def require_folder(root: Path, dataset: str, remedy: str) -> None:
    """Raise a `UserError` where the folder of a test set is missing."""
    if not root.is_dir():
        raise UserError(f"test set {dataset}: folder not found: {root}: {remedy}")


def _root(place: Workspace, dataset: str, other_folder: str | None = None, folder: str | None = None) -> Path:
    """The folder of a test set: `folder` or the set's name; it may have another usual name."""
    root = place.dataset_dir(folder or dataset)
    if other_folder and not root.is_dir() and root.with_name(other_folder).is_dir():
        root = root.with_name(other_folder)
    require_folder(root, dataset, place.dataset_remedy(folder or dataset))
    return root


def _names(root: Path, expected: str) -> list[str]:
    """Sequences of a folder: those of `list.txt`, or else the folders with a `groundtruth.txt`."""
    listing = root / "list.txt"
    if listing.is_file():
        names = read_names(listing)
    else:
        names = sorted(path.parent.name for path in root.glob("*/groundtruth.txt"))
    if not names:
        raise UserError(f"no sequences in {root}: expected {expected}")
    return names


def _got10k_sequence(folder: Path, dataset: str, subfolder: str) -> Sequence:
    absence, cover, meta = folder / "absence.label", folder / "cover.label", folder / "meta_info.ini"
    return Sequence(
        name=folder.name,
        dataset=dataset,
        frames_dir=folder,
        annotation=folder / "groundtruth.txt",
        subfolder=subfolder,
        object_class=attributes.read_meta(meta).get("object_class", ""),
        hidden_files=(absence,) if absence.is_file() else (),
        cover_file=cover if cover.is_file() else None,
        read_attributes=partial(attributes.got10k_meta, meta),
    )


def _lasot_sequence(folder: Path, dataset: str, storage: LmdbStorage | None = None) -> Sequence:
    return Sequence(
        name=folder.name,
        dataset=dataset,
        frames_dir=folder / "img",
        annotation=folder / "groundtruth.txt",
        object_class=_class_of(folder.name),
        hidden_files=(folder / "full_occlusion.txt", folder / "out_of_view.txt"),
        **({"storage": storage} if storage else {}),
    )


def _lasot_folder(storage: Storage, root: Path, name: str) -> Path:
    """The folder of a sequence, in that of its class unless only the other way is there."""
    folder, flat = root / _class_of(name) / name, root / name
    return flat if storage.exists(str(flat)) and not storage.exists(str(folder)) else folder


def _class_of(name: str) -> str:
    """`airplane` of LaSOT's `airplane-1`."""
    return name.rsplit("-", 1)[0]


def _is_tc128(frames_file: Path) -> bool:
    return frames_file.name == f"{frames_file.parent.name}_frames.txt"


def _tc128_sequence(folder: Path, name: str) -> Sequence:
    frames_file = folder / f"{name}_frames.txt"
    ends = line_numbers(read_text(frames_file).strip()) or []
    if len(ends) != 2 or not all(end.is_integer() for end in ends) or not 0 <= ends[0] <= ends[1]:
        raise UserError(f"{frames_file}, line 1: expected first and last frame, such as 1,120")
    return Sequence(
        name=name,
        dataset="tc128",
        subfolder="tc128",  # many names are OTB's, too
        frames_dir=folder / "img",
        annotation=folder / f"{name}_gt.txt",
        frame_range=FrameRange(int(ends[0]), int(ends[1]), digits=4, extension="jpg"),
        read_attributes=partial(attributes.listed, folder / f"{name}_att.txt"),
    )


def _table_attributes(dataset: str, annotation: Path) -> partial | None:
    """The reader of a sequence's attributes, where its set has them."""
    if dataset == "uav":
        return partial(attributes.flagged, annotation.parent / "att" / annotation.name, attributes.UAV123)
    if dataset == "otb":
        return partial(attributes.listed, annotation.parent / "attrs.txt")
    return None


def _vot_frames(folder: Path) -> Path:
    """The folder of a VOT sequence's colour frames."""
    description = folder / "sequence"
    if description.is_file():
        for line in read_text(description, errors="replace").splitlines():
            key, _, pattern = line.partition("=")
            if key.strip() == "channels.color" and pattern.strip():
                return folder / Path(pattern.strip()).parent
    return folder / "color" if (folder / "color").is_dir() else folder
