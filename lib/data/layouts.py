"""How the files of each data set lie, as sequences. Each function's docstring shows its layout.

Training and testing read the same layouts. A function takes the storage (a folder or an LMDB) and the base: the path of
the data set's folder in it, "" or with a "/" at its end. Sequences of the test sets have paths in the file system.
"""

import csv
import logging
import re
from functools import partial
from pathlib import Path

from lib.data import attributes
from lib.data.box_files import line_numbers, parse_regions
from lib.data.sequence import NumberedNames, Sequence
from lib.data.storage import FolderStorage, Storage
from lib.utils.errors import UserError
from lib.utils.text import parse_names, read_ranges, read_text

SPECS = Path(__file__).parent / "specs"
LIST = "list.txt"
_FILES = FolderStorage("")
_LASOT_NAME = re.compile(r".+-\d+")
log = logging.getLogger(__name__)


def got10k(
    storage: Storage, base: str, name: str, split: str | None = None, subfolder: str = "", with_class: bool = False
) -> list[Sequence]:
    """A folder in GOT-10k layout; the sequences of `list.txt`, in its order, where that file exists.

    `list.txt`, `<sequence>/00000001.jpg …`, `<sequence>/groundtruth.txt`; where the object may be absent
    `absence.label` and `cover.label` beside it; `meta_info.ini`.

    Args:
        storage, base: see above.
        name: of the data set.
        split: `vottrain`, `votval` or another list of `specs`; None takes every sequence.
        subfolder: see `Sequence`.
        with_class: read the object's class from `meta_info.ini`.

    Raises:
        UserError: no sequence exists.
    """
    names = listed(storage, base, name, f"{LIST} or folders with frames and groundtruth.txt")
    if split is not None:
        wanted = [f"GOT-10k_Train_{index + 1:06d}" for index in read_ranges(SPECS / f"got10k_{split}.ranges.txt")]
        place = storage.locate(base.rstrip("/"))
        names = _present(wanted, set(names), name, place, f"sequences of your own are named FOLDER:{place}")
    return [_got10k_sequence(storage, base, each, name, subfolder, with_class) for each in names]


def lasot(storage: Storage, base: str, name: str, split: str | None, flags_may_lack: bool = True) -> list[Sequence]:
    """LaSOT: `<class>/<class>-<n>/img/00000001.jpg …`, and beside `img` the files `groundtruth.txt`,
    `full_occlusion.txt` and `out_of_view.txt`; the folders of classes may be missing.

    Args:
        storage, base, name: see `got10k`.
        split: `train` (1,120 videos of protocol II), `test` (280), or None for every video.
        flags_may_lack: see `Sequence`.
    """
    folders = {}
    for entry in storage.names(base.rstrip("/")):
        inside = [entry] if _LASOT_NAME.fullmatch(entry) else []
        inside = inside or [f"{entry}/{video}" for video in storage.names(base + entry) if _LASOT_NAME.fullmatch(video)]
        folders.update((path.rpartition("/")[2], path) for path in inside)
    wanted = (SPECS / f"lasot_{split}.txt").read_text(encoding="utf-8").split() if split else list(folders)
    expected = "expected folders such as airplane/airplane-2 with img/ and groundtruth.txt"
    videos = _present(wanted, set(folders), name, storage.locate(base.rstrip("/")), expected)
    return [
        lasot_sequence(storage, Path(base + folders[video]), name, flags_may_lack=flags_may_lack) for video in videos
    ]


def lasot_ext(root: Path) -> list[Sequence]:
    """LaSOT's extension subset, 150 sequences of 15 classes: `<class>/<class>-<number>/` as in `lasot`."""
    found = []
    for folder in (path.parent for path in root.glob("*/*/groundtruth.txt")):
        match = re.fullmatch(re.escape(folder.parent.name) + r"-(\d{1,9})", folder.name, re.ASCII)
        if match:
            found.append((folder.parent.name, int(match[1]), folder))
    if not found:
        raise UserError(f"no sequences in {root}: expected <class>/<class>-<number>/ with img/ and groundtruth.txt")
    return [lasot_sequence(_FILES, folder, "lasot_ext", flags_may_lack=False) for _, _, folder in sorted(found)]


def trackingnet(storage: Storage, base: str, name: str, parts: tuple[str, ...], subfolder: str = "") -> list[Sequence]:
    """TrackingNet: `<part>/frames/<video>/0.jpg …` and `<part>/anno/<video>.txt`, which has one line in `TEST`."""
    videos = {part: [n for n in storage.names(f"{base}{part}/anno") if n.endswith(".txt")] for part in parts}
    place, expected = storage.locate(base.rstrip("/")), f"expected {parts[0]}/anno/<video>.txt and {parts[0]}/frames/"
    _present(list(parts), {part for part in parts if videos[part]}, name, place, expected)
    return [
        Sequence(
            name=file.removesuffix(".txt"),
            dataset=name,
            frames_dir=Path(f"{base}{part}/frames/{file.removesuffix('.txt')}"),
            annotation=Path(f"{base}{part}/anno/{file}"),
            subfolder=subfolder,
            storage=storage,
        )
        for part in parts
        for file in videos[part]
    ]


def table(root: Path, dataset: str, spec: str) -> list[Sequence]:
    """A set whose frame ranges and annotation files only the table `spec` tells (OTB, NfS, UAV123).

    Attributes: OTB's `<Sequence>/attrs.txt`; UAV123's `anno/UAV123/att/<sequence>.txt` of 12 flags.
    """
    with open(SPECS / spec, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Sequence(
            name=row["name"],
            dataset=dataset,
            frames_dir=root / row["frames_folder"],
            annotation=root / row["annotation"],
            frame_range=_frame_range(
                *(int(row[key]) for key in ("first_frame", "last_frame", "digits")), row["extension"]
            ),
            skip_first=int(row["skip_first"]),
            object_class=row["object_class"],
            read_attributes=_table_attributes(dataset, root / row["annotation"]),
        )
        for row in rows
    ]


def tc128(root: Path, dataset: str) -> list[Sequence]:
    """Temple Color 128: `<Sequence>/img/0001.jpg …`, `<Sequence>/<Sequence>_gt.txt`, and
    `<Sequence>/<Sequence>_frames.txt` with `first,last`; attributes in `<Sequence>_att.txt` where it exists.
    `tc128ce` is the 78 sequences that are in no other set: their names end in `_ce`."""
    files = (path for path in root.glob("*/*_frames.txt") if path.name == f"{path.parent.name}_frames.txt")
    names = sorted(path.parent.name for path in files)
    names = [name for name in names if name.endswith("_ce") or dataset != "tc128ce"]
    if not names:
        raise UserError(
            f"no sequences of {dataset} in {root}: expected <Sequence>/<Sequence>_frames.txt, _gt.txt, img/"
        )
    return [_tc128_sequence(root / name, name) for name in names]


def tnl2k(root: Path) -> list[Sequence]:
    """TNL2K's test part: `<sequence>/imgs/*`, `<sequence>/groundtruth.txt`; `attributes/<sequence>.txt` of 17 flags
    where it exists."""
    return [
        Sequence(
            name=name,
            dataset="tnl2k",
            frames_dir=root / name / "imgs",
            annotation=root / name / "groundtruth.txt",
            read_attributes=partial(attributes.flagged, root / "attributes" / f"{name}.txt", attributes.TNL2K),
        )
        for name in listed(_FILES, f"{root}/", "tnl2k", "folders with imgs/ and groundtruth.txt")
    ]


def vot(root: Path, dataset: str, subfolder: str) -> list[Sequence]:
    """A folder in the VOT toolkit's layout; the sequences of `list.txt` where that file exists.

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
        for name in listed(_FILES, f"{root}/", dataset, f"{LIST} or folders with color/ and groundtruth.txt")
    ]


def listed(storage: Storage, base: str, name: str, expected: str) -> list[str]:
    """Sequences of `list.txt` that exist, or, without that file, the folders with a `groundtruth.txt`.

    What is in one and not in the other is counted in the log.

    Raises:
        UserError: `list.txt` is malformed or has a name twice, or there are no sequences.
    """
    place = storage.locate(base.rstrip("/"))
    folders = storage.names(base.rstrip("/"))
    if storage.exists(base + LIST):
        names = parse_names(storage.text(base + LIST), storage.locate(base + LIST))
        others = set(folders).difference(names)
        left_out = sorted(other for other in others if storage.exists(f"{base}{other}/groundtruth.txt"))
        if left_out:
            log.warning("%s: %d folders are not in %s, left out: %s", name, len(left_out), LIST, _some(left_out))
        if not names:
            raise UserError(f"{name}: no sequences in {storage.locate(base + LIST)}: expected {expected}")
        remedy = f"none of the sequences in {LIST} exists: expected {expected}"
        return _present(names, set(folders), name, place, remedy)
    names = [folder for folder in folders if storage.exists(f"{base}{folder}/groundtruth.txt")]
    if not names:
        raise UserError(f"{name}: no sequences in {place}: expected {expected}")
    return names


def lasot_sequence(storage: Storage, folder: Path, dataset: str, flags_may_lack: bool) -> Sequence:
    """A sequence in LaSOT's layout in `folder`."""
    return Sequence(
        name=folder.name,
        dataset=dataset,
        frames_dir=folder / "img",
        annotation=folder / "groundtruth.txt",
        object_class=folder.name.rpartition("-")[0],
        absence_files=(folder / "full_occlusion.txt", folder / "out_of_view.txt"),
        flags_may_lack=flags_may_lack,
        storage=storage,
    )


def _present(wanted: list[str], present: set[str], name: str, place: str, remedy: str) -> list[str]:
    """Those of `wanted` that exist; the others are counted in the log. None at all is an error."""
    found = [each for each in wanted if each in present]
    if not found:
        raise UserError(f"{name}: none of its sequences ({_some(wanted)}) is in {place}: {remedy}")
    if len(found) < len(wanted):
        missing = [each for each in wanted if each not in present]
        log.warning("%s: only %d of %d are in %s; missing: %s", name, len(found), len(wanted), place, _some(missing))
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _got10k_sequence(
    storage: Storage, base: str, name: str, dataset: str, subfolder: str, with_class: bool
) -> Sequence:
    folder = Path(base + name)
    meta = folder / "meta_info.ini"
    return Sequence(
        name=name,
        dataset=dataset,
        frames_dir=folder,
        annotation=folder / "groundtruth.txt",
        subfolder=subfolder,
        object_class=attributes.read_meta(meta).get("object_class", "") if with_class else "",
        absence_files=(folder / "absence.label",),
        cover_file=folder / "cover.label",
        more_files=(folder / "cut_by_image.label", meta),
        read_attributes=partial(attributes.got10k_meta, meta),
        storage=storage,
    )


def _frame_range(first: int, last: int, digits: int, extension: str) -> NumberedNames:
    return NumberedNames(first, digits, f".{extension}", last - first + 1)


def _tc128_sequence(folder: Path, name: str) -> Sequence:
    frames_file = folder / f"{name}_frames.txt"
    ends = line_numbers(read_text(frames_file).strip()) or []
    if len(ends) != 2 or not all(end.is_integer() for end in ends) or not 0 <= ends[0] <= ends[1]:
        raise UserError(f"{frames_file}, line 1: expected first and last frame, such as 1,120")
    return Sequence(
        name=name,
        dataset="tc128",
        subfolder="tc128",  # OTB has many of the same names
        frames_dir=folder / "img",
        annotation=folder / f"{name}_gt.txt",
        frame_range=_frame_range(int(ends[0]), int(ends[1]), 4, "jpg"),
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
