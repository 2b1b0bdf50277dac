"""Test sets by name.

A test set is a function from the place of all data sets to its sequences (`lib.data.layouts`);
`TEST_SETS` is the registry. `folder:PATH` reads any folder in GOT-10k layout, `vot:PATH` one in VOT layout.
"""

import difflib
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lib.data import layouts
from lib.data.sequence import Sequence
from lib.utils.errors import UserError
from lib.utils.workspace import Workspace, workspace

PREFIXES = ("folder:", "vot:")


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
        layouts.require_folder(root, kind, "correct the path")
        layout = layouts.vot_layout if kind == "vot" else layouts.got10k_layout
        return layout(root, dataset=kind, subfolder=_folder_label(name))
    if name not in TEST_SETS:
        close = difflib.get_close_matches(name, TEST_SETS, n=1)
        hint = f", did you mean {close[0]}?" if close else ";"
        raise UserError(f"unknown test set {name!r}{hint} known: {', '.join(TEST_SETS)}, folder:PATH, vot:PATH")
    place = workspace("test")
    return TEST_SETS[name](place if data_dir is None else place.moved(Path(data_dir)))


def dataset_label(name: str) -> str:
    """A name for files: the test set's own, or `folder_<name>_<hash of its path>`."""
    return _folder_label(name) if _prefix(name) else name


def dataset_title(name: str) -> str:
    """A name for readers: the test set's own, or the folder's."""
    return _folder(name).resolve().name if _prefix(name) else name


def select_sequences(sequences: list[Sequence], choice: str | None) -> list[Sequence]:
    """Sequences by name or index from 0, or several of them between commas; all of them for None.

    Raises:
        UserError: there is none; the message offers the closest name.
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
    """A sequence by its name, or else its index."""
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
    prefix = _prefix(name)
    path = name.removeprefix(prefix)
    if not path:
        raise UserError(f"{name!r} names no folder: expected {prefix}PATH")
    return Path(path).expanduser()


def _folder_label(name: str) -> str:
    """Two folders with one name, and sequences with one name in both, must not share results."""
    resolved = _folder(name).resolve()
    digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
    return f"{_prefix(name).removesuffix(':')}_{resolved.name}_{digest}"


TEST_SETS: dict[str, Callable[[Workspace], list[Sequence]]] = {
    "lasot": layouts.lasot,
    "lasot_lmdb": layouts.lasot_lmdb,
    "lasot_ext": layouts.lasot_ext,
    "got10k_test": partial(layouts.got10k, dataset="got10k_test", part="test"),
    "got10k_val": partial(layouts.got10k, dataset="got10k_val", part="val"),
    "got10k_ltrval": layouts.got10k_ltrval,
    "trackingnet": layouts.trackingnet,
    "otb": partial(layouts.table, dataset="otb", spec="otb100.csv", other_folder="OTB2015"),
    "nfs": partial(layouts.table, dataset="nfs", spec="nfs30.csv"),
    "uav": partial(layouts.table, dataset="uav", spec="uav123.csv", other_folder="UAV123"),
    "tc128": layouts.tc128,
    "tc128ce": layouts.tc128ce,
    "tnl2k": layouts.tnl2k,
}
