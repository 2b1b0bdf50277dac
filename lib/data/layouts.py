"""How the files of each data set lie, as sequences. Each function's docstring shows its layout.

Training and testing read the same layouts. A function takes the storage (a folder or an LMDB), the base and the data
set's name. The base is the path of the set's folder in the storage, "" or with a "/" at its end. Sequences of the test
sets have paths in the file system. A function gives the sequences that exist, and counts what it leaves out; where none
exists, it raises a `UserError` that shows the layout. For other arguments see `Sequence`.
"""

import csv
import re
from collections.abc import Callable, Collection
from collections.abc import Sequence as SequenceOf
from functools import partial
from pathlib import Path
from typing import Any

from ..utils.errors import UserError
from ..utils.files import parse_names, read_ranges, read_text
from . import box_files
from .images import natural_key
from .sequence import Sequence, Sequences, some
from .storage import Storage

SPECS = Path(__file__).parent / "specs"
LIST = "list.txt"
_LASOT_NAME = re.compile(r".+-\d{1,9}", re.ASCII)

Layout = Callable[[Path], dict[str, Any]]  # fields of `Sequence` that follow from a sequence's folder
_Names = tuple[list[str], dict[str, list[str]]]  # those that are used, and others by the reason why they are not


def got10k(
    storage: Storage, base: str, name: str, split: str | None = None, subfolder: str = "", with_class: bool = False
) -> Sequences:
    """A folder in GOT-10k layout; the sequences of `list.txt`, in its order, where that file exists.

    `list.txt`, `<sequence>/00000001.jpg …`, `<sequence>/groundtruth.txt`; where the object may be absent
    `absence.label` and `cover.label` beside it; `meta_info.ini`, from which `with_class` reads the object's class.
    `split` is `vottrain`, `votval` or another list of `specs`; None takes every sequence.
    """
    names, left_out = _listed(storage, base, name, f"{LIST} or folders with frames and groundtruth.txt")
    if split is not None:
        wanted = [f"GOT-10k_Train_{index + 1:06d}" for index in read_ranges(SPECS / f"got10k_{split}.ranges.txt")]
        remedy = f"sequences of your own are named FOLDER:{storage.locate(base.rstrip('/'))}"
        names, missing = _present(storage, base, name, wanted, names, remedy)
        left_out = {reason: [*filter(set(wanted).__contains__, left)] for reason, left in left_out.items()} | missing

    def layout(folder: Path) -> dict[str, Any]:
        meta = folder / "meta_info.ini"
        return {
            "subfolder": subfolder,
            "object_class": box_files.read_meta(meta).get("object_class", "") if with_class else "",
            "absence_files": (folder / "absence.label",),
            "cover_file": folder / "cover.label",
            "more_files": (folder / "cut_by_image.label", meta),
            "read_attributes": partial(box_files.got10k_attributes, meta),
        }

    return _sequences(storage, base, name, names, left_out, layout)


def lasot(storage: Storage, base: str, name: str, split: str | None = None, flags_may_lack: bool = True) -> Sequences:
    """LaSOT: `<class>/<class>-<n>/img/00000001.jpg …`, and beside `img` the files `groundtruth.txt`,
    `full_occlusion.txt` and `out_of_view.txt`; the folders of classes may be missing.

    `split` is `train` (1,120 videos of protocol II), `test` (280), or None for every video, in natural order.
    """
    folders = {}
    for entry in storage.names(base.rstrip("/")):
        below = [] if _LASOT_NAME.fullmatch(entry) else storage.names(base + entry)
        folders |= {video: f"{entry}/{video}" for video in below if _LASOT_NAME.fullmatch(video)}
        folders |= {entry: entry} if _LASOT_NAME.fullmatch(entry) else {}
    wanted = read_text(SPECS / f"lasot_{split}.txt").split() if split else sorted(folders, key=natural_key)
    expected = "expected folders such as airplane/airplane-2 with img/ and groundtruth.txt"
    names, left_out = _present(storage, base, name, wanted, folders, expected)

    def layout(folder: Path) -> dict[str, Any]:
        return {
            "frames_dir": folder / "img",
            "object_class": folder.name.rpartition("-")[0],
            "absence_files": (folder / "full_occlusion.txt", folder / "out_of_view.txt"),
            "flags_may_lack": flags_may_lack,
        }

    return _sequences(storage, base, name, [folders[video] for video in names], left_out, layout)


def trackingnet(storage: Storage, base: str, name: str, parts: SequenceOf[str], subfolder: str = "") -> Sequences:
    """TrackingNet: `<part>/frames/<video>/0.jpg …` and `<part>/anno/<video>.txt`, which has one line in `TEST`."""
    videos = {part: [n for n in storage.names(f"{base}{part}/anno") if n.endswith(".txt")] for part in parts}
    expected = f"expected {parts[0]}/anno/<video>.txt and {parts[0]}/frames/"
    _, missing = _present(storage, base, name, parts, [part for part in parts if videos[part]], expected)
    paths = [f"{part}/frames/{file.removesuffix('.txt')}" for part in parts for file in videos[part]]
    left_out = {f"parts {reason}": left for reason, left in missing.items()}

    def layout(folder: Path) -> dict[str, Any]:
        return {"annotation": folder.parents[1] / "anno" / f"{folder.name}.txt", "subfolder": subfolder}

    return _sequences(storage, base, name, paths, left_out, layout)


def table(storage: Storage, base: str, name: str, spec: str) -> Sequences:
    """A set whose frame ranges and annotation files only the table `spec` tells (OTB, NfS, UAV123).

    Attributes: OTB's `<Sequence>/attrs.txt`; UAV123's `anno/UAV123/att/<sequence>.txt` of 12 flags.
    NfS also as it is downloaded: `<sequence>/30/<sequence>/00001.jpg …` and `<sequence>/30/<sequence>.txt`.
    """
    with open(SPECS / spec, encoding="utf-8", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    downloaded = name == "nfs" and not storage.exists(f"{base}anno")
    for row in rows.values() if downloaded else ():
        video = Path(row["frames_folder"]).name
        row |= {"frames_folder": f"{video}/30/{video}", "annotation": f"{video}/30/{video}.txt"}
    present = [each for each, row in rows.items() if storage.exists(base + row["annotation"])]
    first = next(iter(rows.values()))
    expected = f"expected {first['annotation']} and {first['frames_folder']}/, and so on"
    names, left_out = _present(storage, base, name, list(rows), present, expected)

    def sequence(row: dict[str, str]) -> Sequence:
        first, last, digits = (int(row[key]) for key in ("first_frame", "last_frame", "digits"))
        annotation = Path(base, row["annotation"])
        attributes = partial(box_files.listed_attributes, annotation.with_name("attrs.txt"))
        if name == "uav":
            flags = annotation.parent / "att" / annotation.name
            attributes = partial(box_files.flagged_attributes, flags, box_files.UAV123)
        corners = partial(box_files.parse_corners, count=last - first + 1)
        return Sequence(
            name=row["name"],
            dataset=name,
            frames_dir=Path(base, row["frames_folder"]),
            annotation=annotation,
            storage=storage,
            frame_range=tuple(f"{number:0{digits}d}.{row['extension']}" for number in range(first, last + 1)),
            skip_first=int(row["skip_first"]),
            object_class=row["object_class"],
            parse_annotation=corners if downloaded else box_files.parse_boxes,
            read_attributes=attributes,
        )

    return Sequences((sequence(rows[each]) for each in names), left_out)


def tc128(storage: Storage, base: str, name: str) -> Sequences:
    """Temple Color 128: `<Sequence>/img/0001.jpg …`, `<Sequence>/<Sequence>_gt.txt`, and
    `<Sequence>/<Sequence>_frames.txt` with `first,last`; attributes in `<Sequence>_att.txt` where it exists.
    `tc128ce` is the 78 sequences that are in no other set: their names end in `_ce`."""
    names = [each for each in storage.names(base.rstrip("/")) if storage.exists(f"{base}{each}/{each}_frames.txt")]
    names = [each for each in names if each.endswith("_ce") or name != "tc128ce"]
    expected = "expected <Sequence>/<Sequence>_frames.txt, <Sequence>/<Sequence>_gt.txt and <Sequence>/img/"
    names, left_out = _present(storage, base, name, names, names, expected)

    def layout(folder: Path) -> dict[str, Any]:
        frames_file = folder / f"{folder.name}_frames.txt"
        ends = box_files.parse_flags(storage.text(frames_file), storage.locate(frames_file))
        if len(ends) != 2 or not 0 <= ends[0] <= ends[1]:
            raise UserError(f"{storage.locate(frames_file)}, line 1: expected first and last frame, such as 1,120")
        return {
            "frames_dir": folder / "img",
            "annotation": folder / f"{folder.name}_gt.txt",
            "subfolder": "tc128",  # OTB has many of the same names
            "frame_range": tuple(f"{number:04d}.jpg" for number in range(ends[0], ends[1] + 1)),
            "read_attributes": partial(box_files.listed_attributes, folder / f"{folder.name}_att.txt"),
        }

    return _sequences(storage, base, "tc128", names, left_out, layout)


def tnl2k(storage: Storage, base: str, name: str) -> Sequences:
    """TNL2K's test part: `<sequence>/imgs/*`, `<sequence>/groundtruth.txt`; `attributes/<sequence>.txt` of 17 flags
    where it exists."""
    names, left_out = _listed(storage, base, name, "folders with imgs/ and groundtruth.txt")

    def layout(folder: Path) -> dict[str, Any]:
        flags = folder.parent / "attributes" / f"{folder.name}.txt"
        attributes = partial(box_files.flagged_attributes, flags, box_files.TNL2K)
        return {"frames_dir": folder / "imgs", "read_attributes": attributes}

    return _sequences(storage, base, name, names, left_out, layout)


def vot(storage: Storage, base: str, name: str, subfolder: str) -> Sequences:
    """A folder in the VOT toolkit's layout; the sequences of `list.txt` where that file exists.

    `<sequence>/color/00000001.jpg …` (or the frames in the folder itself, as until 2017), `<sequence>/groundtruth.txt`
    of rectangles, polygons or masks, `<sequence>/<tag>.tag` with a flag a frame. The file `sequence` may name another
    folder of frames (`channels.color=…/%08d.jpg`).
    """
    names, left_out = _listed(storage, base, name, f"{LIST} or folders with color/ and groundtruth.txt")

    def layout(folder: Path) -> dict[str, Any]:
        frames = folder / "color" if (folder / "color").is_dir() else folder
        if (folder / "sequence").is_file():
            description = read_text(folder / "sequence", errors="replace")
            channel = re.search(r"^\s*channels\.color\s*=(.*\S)", description, re.MULTILINE)
            frames = folder / Path(channel[1].strip()).parent if channel else frames
        return {
            "frames_dir": frames,
            "subfolder": subfolder,
            "parse_annotation": box_files.parse_regions,
            "read_attributes": partial(box_files.tagged_attributes, folder),
        }

    return _sequences(storage, base, name, names, left_out, layout)


def _sequences(
    storage: Storage, base: str, name: str, paths: SequenceOf[str], left_out: dict[str, list[str]], layout: Layout
) -> Sequences:
    """A sequence for each folder, named as it, with frames and `groundtruth.txt` in it; `layout` tells what differs."""

    def sequence(folder: Path) -> Sequence:
        usual = {"frames_dir": folder, "annotation": folder / "groundtruth.txt", "storage": storage}
        return Sequence(name=folder.name, dataset=name, **(usual | layout(folder)))

    return Sequences((sequence(Path(base, path)) for path in paths), left_out)


def _listed(storage: Storage, base: str, name: str, expected: str) -> _Names:
    """Sequences of `list.txt` that exist, or, without that file, the folders with a `groundtruth.txt`."""
    folders = storage.names(base.rstrip("/"))
    with_boxes = [folder for folder in folders if storage.exists(f"{base}{folder}/groundtruth.txt")]
    if not storage.exists(base + LIST):
        if storage.exists(f"{base}groundtruth.txt"):
            expected = f"the folder above it, since it is one sequence; {expected}"
        return _present(storage, base, name, with_boxes, with_boxes, f"expected {expected}")
    names = parse_names(storage.text(base + LIST), storage.locate(base + LIST))
    used, left_out = _present(storage, base, name, names, folders, f"expected {expected}")
    return used, left_out | {f"not in {LIST}": sorted({*with_boxes} - {*names})}


def _present(
    storage: Storage, base: str, name: str, wanted: SequenceOf[str], present: Collection[str], remedy: str
) -> _Names:
    """Those of `wanted` that exist; none at all is an error."""
    place, present = storage.locate(base.rstrip("/")), set(present)
    missing = [each for each in wanted if each not in present]
    used = [each for each in wanted if each in present]
    if not used:
        which = f"none of its sequences ({some(wanted)}) is" if missing else "no sequences"
        raise UserError(f"{name}: {which} in {place}: {remedy}")
    return used, {f"missing in {place}": missing}
