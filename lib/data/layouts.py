"""How the files of each data set lie, as sequences. Each function's docstring shows its layout.

Training and testing read the same layouts. A function takes the storage (a folder or an LMDB), the base and the data
set's name. The base is the path of the set's folder in the storage, "" or with a "/" at its end. Sequences of the test
sets have paths in the file system. A function gives the sequences that exist, and counts what it leaves out; where none
exists, it raises a `UserError` that shows the layout.
"""

import csv
import re
from collections.abc import Collection
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from functools import partial
from pathlib import Path

from lib.data import box_files
from lib.data.sequence import NumberedNames, Sequence, Sequences, some
from lib.data.storage import Storage, printable
from lib.utils.errors import UserError
from lib.utils.text import parse_names, read_ranges, read_text

SPECS = Path(__file__).parent / "specs"
LIST = "list.txt"
_LASOT_NAME = re.compile(r"(.+)-(\d{1,9})", re.ASCII)

_Names = tuple[list[str], dict[str, list[str]]]  # those that are used, and others by the reason why they are not


def got10k(
    storage: Storage, base: str, name: str, split: str | None = None, subfolder: str = "", with_class: bool = False
) -> Sequences:
    """A folder in GOT-10k layout; the sequences of `list.txt`, in its order, where that file exists.

    `list.txt`, `<sequence>/00000001.jpg …`, `<sequence>/groundtruth.txt`; where the object may be absent
    `absence.label` and `cover.label` beside it; `meta_info.ini`.

    Args:
        storage, base, name: see above.
        split: `vottrain`, `votval` or another list of `specs`; None takes every sequence.
        subfolder: see `Sequence`.
        with_class: read the object's class from `meta_info.ini`.
    """
    names, left_out = _listed(storage, base, name, f"{LIST} or folders with frames and groundtruth.txt")
    if split is not None:
        wanted = [f"GOT-10k_Train_{index + 1:06d}" for index in read_ranges(SPECS / f"got10k_{split}.ranges.txt")]
        place = storage.locate(base.rstrip("/"))
        names, missing = _present(wanted, names, name, place, f"sequences of your own are named FOLDER:{place}")
        of_split = set(wanted)
        left_out = {reason: [each for each in left if each in of_split] for reason, left in left_out.items()} | missing

    def sequence(each: str) -> Sequence:
        folder = Path(base + each)
        meta = folder / "meta_info.ini"
        return Sequence(
            name=each,
            dataset=name,
            frames_dir=folder,
            annotation=folder / "groundtruth.txt",
            subfolder=subfolder,
            object_class=box_files.read_meta(meta).get("object_class", "") if with_class else "",
            absence_files=(folder / "absence.label",),
            cover_file=folder / "cover.label",
            more_files=(folder / "cut_by_image.label", meta),
            read_attributes=partial(box_files.got10k_attributes, meta),
            storage=storage,
        )

    return Sequences(map(sequence, names), left_out)


def lasot(storage: Storage, base: str, name: str, split: str | None, flags_may_lack: bool = True) -> Sequences:
    """LaSOT: `<class>/<class>-<n>/img/00000001.jpg …`, and beside `img` the files `groundtruth.txt`,
    `full_occlusion.txt` and `out_of_view.txt`; the folders of classes may be missing.

    Args:
        storage, base, name: see above.
        split: `train` (1,120 videos of protocol II), `test` (280), or None for every video, in natural order.
        flags_may_lack: see `Sequence`.
    """
    folders = {}
    for entry in storage.names(base.rstrip("/")):
        inside = [entry] if _LASOT_NAME.fullmatch(entry) else []
        inside = inside or [f"{entry}/{video}" for video in storage.names(base + entry) if _LASOT_NAME.fullmatch(video)]
        folders |= {path.rpartition("/")[2]: path for path in inside}
    numbers = {video: _LASOT_NAME.fullmatch(video).groups() for video in folders}
    natural = sorted(folders, key=lambda video: (numbers[video][0], int(numbers[video][1])))
    wanted = read_text(SPECS / f"lasot_{split}.txt").split() if split else natural
    expected = "expected folders such as airplane/airplane-2 with img/ and groundtruth.txt"
    names, left_out = _present(wanted, folders, name, storage.locate(base.rstrip("/")), expected)

    def sequence(video: str) -> Sequence:
        folder = Path(base + folders[video])
        return Sequence(
            name=video,
            dataset=name,
            frames_dir=folder / "img",
            annotation=folder / "groundtruth.txt",
            object_class=numbers[video][0],
            absence_files=(folder / "full_occlusion.txt", folder / "out_of_view.txt"),
            flags_may_lack=flags_may_lack,
            storage=storage,
        )

    return Sequences(map(sequence, names), left_out)


def trackingnet(storage: Storage, base: str, name: str, parts: SequenceOf[str], subfolder: str = "") -> Sequences:
    """TrackingNet: `<part>/frames/<video>/0.jpg …` and `<part>/anno/<video>.txt`, which has one line in `TEST`."""
    videos = {part: [n for n in storage.names(f"{base}{part}/anno") if n.endswith(".txt")] for part in parts}
    place, expected = storage.locate(base.rstrip("/")), f"expected {parts[0]}/anno/<video>.txt and {parts[0]}/frames/"
    _, missing = _present(parts, [part for part in parts if videos[part]], name, place, expected)
    paths = [f"{part}/{file.removesuffix('.txt')}" for part in parts for file in videos[part]]
    paths, left_out = _present(paths, paths, name, place, expected)

    def sequence(path: str) -> Sequence:
        part, video = path.split("/")
        return Sequence(
            name=video,
            dataset=name,
            frames_dir=Path(f"{base}{part}/frames/{video}"),
            annotation=Path(f"{base}{part}/anno/{video}.txt"),
            subfolder=subfolder,
            storage=storage,
        )

    return Sequences(map(sequence, paths), left_out | {f"parts {reason}": left for reason, left in missing.items()})


def table(storage: Storage, base: str, name: str, spec: str) -> Sequences:
    """A set whose frame ranges and annotation files only the table `spec` tells (OTB, NfS, UAV123).

    Attributes: OTB's `<Sequence>/attrs.txt`; UAV123's `anno/UAV123/att/<sequence>.txt` of 12 flags.
    NfS also as it is downloaded: `<sequence>/30/<sequence>/00001.jpg …` and `<sequence>/30/<sequence>.txt`.
    """
    downloaded = name == "nfs" and not storage.exists(f"{base}anno")

    def sequence(row: dict[str, str]) -> Sequence:
        first, last, digits = (int(row[key]) for key in ("first_frame", "last_frame", "digits"))
        annotation = Path(base + row["annotation"])
        made = Sequence(
            name=row["name"],
            dataset=name,
            frames_dir=Path(base + row["frames_folder"]),
            annotation=annotation,
            frame_range=NumberedNames(first, digits, f".{row['extension']}", last - first + 1),
            skip_first=int(row["skip_first"]),
            object_class=row["object_class"],
            storage=storage,
        )
        if name == "otb":
            attributes = partial(box_files.listed_attributes, annotation.parent / "attrs.txt")
            return replace(made, read_attributes=attributes)
        if name == "uav":
            flags = annotation.parent / "att" / annotation.name
            return replace(made, read_attributes=partial(box_files.flagged_attributes, flags, box_files.UAV123))
        if downloaded:
            folder, video = Path(base, made.frames_dir.name, "30"), made.frames_dir.name
            parse = partial(box_files.parse_corners, count=len(made.frame_range))
            return replace(made, frames_dir=folder / video, annotation=folder / f"{video}.txt", parse_annotation=parse)
        return made

    with open(SPECS / spec, encoding="utf-8", newline="") as file:
        sequences = {each.name: each for each in map(sequence, csv.DictReader(file))}
    present = [each.name for each in sequences.values() if storage.exists(each.annotation.as_posix())]
    first = next(iter(sequences.values()))
    expected = f"expected {first.annotation.relative_to(base)} and {first.frames_dir.relative_to(base)}/, and so on"
    names, left_out = _present(list(sequences), present, name, storage.locate(base.rstrip("/")), expected)
    return Sequences((sequences[each] for each in names), left_out)


def tc128(storage: Storage, base: str, name: str) -> Sequences:
    """Temple Color 128: `<Sequence>/img/0001.jpg …`, `<Sequence>/<Sequence>_gt.txt`, and
    `<Sequence>/<Sequence>_frames.txt` with `first,last`; attributes in `<Sequence>_att.txt` where it exists.
    `tc128ce` is the 78 sequences that are in no other set: their names end in `_ce`."""
    names = [each for each in storage.names(base.rstrip("/")) if storage.exists(f"{base}{each}/{each}_frames.txt")]
    names = [each for each in names if each.endswith("_ce") or name != "tc128ce"]
    expected = "expected <Sequence>/<Sequence>_frames.txt, <Sequence>/<Sequence>_gt.txt and <Sequence>/img/"
    names, left_out = _present(names, names, name, storage.locate(base.rstrip("/")), expected)

    def sequence(each: str) -> Sequence:
        folder = Path(base + each)
        ends = line_ends(storage, f"{base}{each}/{each}_frames.txt")
        return Sequence(
            name=each,
            dataset="tc128",
            subfolder="tc128",  # OTB has many of the same names
            frames_dir=folder / "img",
            annotation=folder / f"{each}_gt.txt",
            frame_range=NumberedNames(ends[0], 4, ".jpg", ends[1] - ends[0] + 1),
            read_attributes=partial(box_files.listed_attributes, folder / f"{each}_att.txt"),
            storage=storage,
        )

    return Sequences(map(sequence, names), left_out)


def line_ends(storage: Storage, path: str) -> tuple[int, int]:
    """First and last frame in a file of `first,last`."""
    ends = box_files.line_numbers(storage.text(path).strip()) or []
    if len(ends) != 2 or not all(end.is_integer() for end in ends) or not 0 <= ends[0] <= ends[1]:
        raise UserError(f"{storage.locate(path)}, line 1: expected first and last frame, such as 1,120")
    return int(ends[0]), int(ends[1])


def tnl2k(storage: Storage, base: str, name: str) -> Sequences:
    """TNL2K's test part: `<sequence>/imgs/*`, `<sequence>/groundtruth.txt`; `attributes/<sequence>.txt` of 17 flags
    where it exists."""
    names, left_out = _listed(storage, base, name, "folders with imgs/ and groundtruth.txt")

    def sequence(each: str) -> Sequence:
        flags = Path(base, "attributes", f"{each}.txt")
        return Sequence(
            name=each,
            dataset=name,
            frames_dir=Path(base, each, "imgs"),
            annotation=Path(base, each, "groundtruth.txt"),
            read_attributes=partial(box_files.flagged_attributes, flags, box_files.TNL2K),
            storage=storage,
        )

    return Sequences(map(sequence, names), left_out)


def vot(storage: Storage, base: str, name: str, subfolder: str) -> Sequences:
    """A folder in the VOT toolkit's layout; the sequences of `list.txt` where that file exists.

    `<sequence>/color/00000001.jpg …` (or the frames in the folder itself, as until 2017), `<sequence>/groundtruth.txt`
    of rectangles, polygons or masks, `<sequence>/<tag>.tag` with a flag a frame. The file `sequence` may name another
    folder of frames (`channels.color=…/%08d.jpg`).
    """
    names, left_out = _listed(storage, base, name, f"{LIST} or folders with color/ and groundtruth.txt")

    def sequence(each: str) -> Sequence:
        folder = Path(base, each)
        return Sequence(
            name=each,
            dataset=name,
            frames_dir=_vot_frames(folder),
            annotation=folder / "groundtruth.txt",
            subfolder=subfolder,
            parse_annotation=box_files.parse_regions,
            read_attributes=partial(box_files.tagged_attributes, folder),
            storage=storage,
        )

    return Sequences(map(sequence, names), left_out)


def _vot_frames(folder: Path) -> Path:
    """The folder of a VOT sequence's colour frames."""
    description = folder / "sequence"
    if description.is_file():
        for line in read_text(description, errors="replace").splitlines():
            key, _, pattern = line.partition("=")
            if key.strip() == "channels.color" and pattern.strip():
                return folder / Path(pattern.strip()).parent
    return folder / "color" if (folder / "color").is_dir() else folder


def _listed(storage: Storage, base: str, name: str, expected: str) -> _Names:
    """Sequences of `list.txt` that exist, or, without that file, the folders with a `groundtruth.txt`.

    Raises:
        UserError: `list.txt` is malformed or has a name twice, or there are no sequences.
    """
    place, folders = storage.locate(base.rstrip("/")), storage.names(base.rstrip("/"))
    if not storage.exists(base + LIST):
        names = [folder for folder in folders if storage.exists(f"{base}{folder}/groundtruth.txt")]
        return _present(names, names, name, place, f"expected {expected}")
    names = parse_names(storage.text(base + LIST), storage.locate(base + LIST))
    others = sorted(set(folders).difference(names))
    remedy = f"none of the sequences in {LIST} exists: expected {expected}"
    used, left_out = _present(names, folders, name, place, remedy)
    not_in_list = [printable(each) for each in others if storage.exists(f"{base}{each}/groundtruth.txt")]
    return used, left_out | {f"not in {LIST}": not_in_list}


def _present(wanted: SequenceOf[str], present: Collection[str], name: str, place: str, remedy: str) -> _Names:
    """Those of `wanted` that exist and can be written in a result; none at all is an error."""
    present = set(present)
    missing = [each for each in wanted if each not in present]
    not_text = [printable(each) for each in wanted if each in present and printable(each) != each]
    used = [each for each in wanted if each in present and printable(each) == each]
    if not used:
        which = f"none of its sequences ({some(wanted)}) is" if missing else "no sequences"
        raise UserError(f"{name}: {which} in {place}: {remedy}")
    return used, {f"missing in {place}": missing, "with a name that is not UTF-8, rename them": not_text}
