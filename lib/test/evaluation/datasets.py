"""Test sets by name.

A test set is a function from the place of all data sets to its sequences; `TEST_SETS` is the registry.
`folder:PATH` reads any folder in GOT-10k layout: one folder a sequence with frames and `groundtruth.txt`;
`list.txt` gives the order where it exists.
"""

import csv
import difflib
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lib.test.evaluation.sequence import FrameRange, Sequence
from lib.utils.errors import UserError
from lib.utils.workspace import Workspace, workspace

FOLDER_PREFIX = "folder:"

_SPECS = Path(__file__).parent / "specs"


def load_dataset(name: str, data_dir: Path | None = None) -> list[Sequence]:
    """The sequences of a test set, in the set's order; at least one.

    Args:
        name: a key of `TEST_SETS`, or `folder:PATH`.
        data_dir: folder of all data sets; the workspace's by default.

    Raises:
        UserError: the name is unknown, the set's folder is missing, or a list in it is malformed.
    """
    if name.startswith(FOLDER_PREFIX):
        root = _folder(name)
        _require_folder(root, "folder", "correct the path")
        return _got10k_layout(root, dataset="folder", subfolder=_folder_label(root))
    if name not in TEST_SETS:
        close = difflib.get_close_matches(name, TEST_SETS, n=1)
        hint = f", did you mean {close[0]}?" if close else ";"
        raise UserError(f"unknown test set {name!r}{hint} known: {', '.join(TEST_SETS)}, folder:PATH")
    place = workspace("test")
    return TEST_SETS[name](place if data_dir is None else place.moved(Path(data_dir)))


def dataset_label(name: str) -> str:
    """A name for files: the test set's own, or `folder_<name>_<hash of its path>`."""
    return _folder_label(_folder(name)) if name.startswith(FOLDER_PREFIX) else name


def dataset_title(name: str) -> str:
    """A name for readers: the test set's own, or the folder's."""
    return _folder(name).resolve().name if name.startswith(FOLDER_PREFIX) else name


def select_sequences(sequences: list[Sequence], choice: str | None) -> list[Sequence]:
    """One sequence by its name or its index from 0, or all of them for None.

    Raises:
        UserError: there is none; the message offers the closest name.
    """
    if choice is None:
        return sequences
    by_name = {sequence.name: sequence for sequence in sequences}
    if choice in by_name:
        return [by_name[choice]]
    if choice.isascii() and choice.isdigit() and int(choice) < len(sequences):
        return [sequences[int(choice)]]
    close = difflib.get_close_matches(choice, by_name, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UserError(f"no sequence {choice!r}: the test set has {len(sequences)}, counted from 0{hint}")


def _folder(name: str) -> Path:
    """The path in `folder:PATH`."""
    path = name.removeprefix(FOLDER_PREFIX)
    if not path:
        raise UserError(f"{name!r} names no folder: expected folder:PATH")
    return Path(path).expanduser()


def _folder_label(root: Path) -> str:
    """Two folders with one name, and sequences with one name in both, must not share results."""
    resolved = root.resolve()
    return f"folder_{resolved.name}_{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"


def _got10k_layout(root: Path, dataset: str, subfolder: str) -> list[Sequence]:
    """Every sequence of a folder in GOT-10k layout."""
    names_file = root / "list.txt"
    if names_file.is_file():
        names = _read_names(names_file)
    else:
        names = sorted(path.parent.name for path in root.glob("*/groundtruth.txt"))
    if not names:
        raise UserError(f"no sequences in {root}: expected list.txt or folders with frames and groundtruth.txt")
    return [
        Sequence(
            name=name,
            dataset=dataset,
            frames_dir=root / name,
            annotation=root / name / "groundtruth.txt",
            subfolder=subfolder,
            object_class=_got10k_class(root / name / "meta_info.ini"),
            hidden_files=tuple(path for path in [root / name / "absence.label"] if path.is_file()),
            cover_file=cover if (cover := root / name / "cover.label").is_file() else None,
        )
        for name in names
    ]


def _got10k_class(meta_file: Path) -> str:
    """`object_class` of a GOT-10k `meta_info.ini`; "" where there is none. It is not an INI file to the letter."""
    if not meta_file.is_file():
        return ""
    for line in meta_file.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "object_class":
            return value.strip()
    return ""


def _got10k(place: Workspace, dataset: str, part: str) -> list[Sequence]:
    root = place.dataset_dir("got10k") / part
    _require_folder(root, dataset, place.dataset_remedy("got10k"))
    return _got10k_layout(root, dataset, subfolder="got10k")


def _table(place: Workspace, dataset: str, table: str, other_folder: str | None = None) -> list[Sequence]:
    """A set whose frame ranges and annotation files only a table tells; its folder may have another usual name."""
    root = place.dataset_dir(dataset)
    if other_folder and not root.is_dir() and root.with_name(other_folder).is_dir():
        root = root.with_name(other_folder)
    _require_folder(root, dataset, place.dataset_remedy(dataset))
    with open(_SPECS / table, encoding="utf-8", newline="") as file:
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
        )
        for row in rows
    ]


def _lasot(place: Workspace) -> list[Sequence]:
    root = place.dataset_dir("lasot")
    _require_folder(root, "lasot", place.dataset_remedy("lasot"))
    sequences = []
    for name in _read_names(_SPECS / "lasot_test.txt"):
        object_class = name.rsplit("-", 1)[0]
        folder = root / object_class / name
        sequences.append(
            Sequence(
                name=name,
                dataset="lasot",
                frames_dir=folder / "img",
                annotation=folder / "groundtruth.txt",
                object_class=object_class,
                hidden_files=(folder / "full_occlusion.txt", folder / "out_of_view.txt"),
            )
        )
    return sequences


def _trackingnet(place: Workspace) -> list[Sequence]:
    root = place.dataset_dir("trackingnet") / "TEST"
    _require_folder(root, "trackingnet", place.dataset_remedy("trackingnet"))
    annotations = sorted((root / "anno").glob("*.txt"))
    if not annotations:
        raise UserError(f"no sequences in {root}: expected anno/<sequence>.txt and frames/<sequence>/")
    return [
        Sequence(path.stem, "trackingnet", root / "frames" / path.stem, path, subfolder="trackingnet")
        for path in annotations
    ]


def _require_folder(root: Path, dataset: str, remedy: str) -> None:
    if not root.is_dir():
        raise UserError(f"test set {dataset}: folder not found: {root}: {remedy}")


def _read_names(path: Path) -> list[str]:
    """Sequence names of a list file, which must be distinct and plain: they become paths of results."""
    names: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        if Path(name).name != name or name in (".", "..") or "\\" in name or "\0" in name:
            raise UserError(f"{path}, line {number}: {name!r} is not the name of a folder")
        if name in names:
            raise UserError(f"{path}, line {number}: {name!r} is listed already in line {names[name]}")
        names[name] = number
    return list(names)


TEST_SETS: dict[str, Callable[[Workspace], list[Sequence]]] = {
    "lasot": _lasot,
    "got10k_test": partial(_got10k, dataset="got10k_test", part="test"),
    "got10k_val": partial(_got10k, dataset="got10k_val", part="val"),
    "trackingnet": _trackingnet,
    "otb": partial(_table, dataset="otb", table="otb100.csv", other_folder="OTB2015"),
    "nfs": partial(_table, dataset="nfs", table="nfs30.csv"),
    "uav": partial(_table, dataset="uav", table="uav123.csv", other_folder="UAV123"),
}
