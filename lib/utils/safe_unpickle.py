"""Reading `torch.save` files without trusting them.

A pickle is a small program that may import and call anything. Here it is read by torch's
`weights_only` unpickler, which knows only tensors, containers and the names in `STAND_INS`. Those
names are never imported: the file gets a harmless class or function of this module instead, and
what was read is then copied into plain containers. Every other name is refused before it is used.
"""

import pickle
import re
import struct
import threading
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.utils.checkpoint_files import CheckpointError, few

MAX_DEPTH = 100
# What torch raises on a file that is not what it claims to be; too many kinds to be told apart usefully.
MALFORMED = (
    *(EOFError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError),
    *(LookupError, ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile),
)


class InertObject(SimpleNamespace):
    """The attributes of a pickled object (`checkpoint["settings"].env.workspace_dir`), without its class's behaviour.

    `vars(object)` gives them as a dictionary.
    """


class PickledObject:
    """Stands in for a class with ordinary attributes. Slots, so that no attribute can shadow a method."""

    __slots__ = ("attributes",)

    def __new__(cls) -> "PickledObject":
        self = super().__new__(cls)
        self.attributes = {}
        return self

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict or not all(type(name) is str and name.isidentifier() for name in state):
            raise ValueError("an object's state is not a dictionary of attributes")
        self.attributes = state


class PickledDtype:
    """Stands in for `numpy.dtype`, for the types of single numbers only."""

    __slots__ = ("code", "order")

    def __new__(cls, code: str, align: Any = False, copy: Any = True) -> "PickledDtype":
        if type(code) is not str or not re.fullmatch(r"b1|[iu][1248]|f[248]|c8|c16", code):
            raise ValueError(f"numpy type {code!r:.40} is not a plain number")
        self = super().__new__(cls)
        self.code, self.order = code, "="
        return self

    def __setstate__(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("malformed numpy type")
        self.order = state[1]


def numpy_scalar(dtype: PickledDtype, data: bytes) -> bool | int | float | complex:
    """Stands in for numpy's `scalar`: a Python number from the bytes of one numpy number."""
    if type(dtype) is not PickledDtype or type(data) is not bytes:
        raise ValueError("malformed numpy number")
    (value,) = np.frombuffer(data, np.dtype(dtype.order + dtype.code))
    return value.item()


# Classes of the framework that published Alpha-Refine checkpoints were trained with, in its package `ltr.admin`.
_LTR = (
    *("model_constructor.NetConstructor", "settings.Settings", "local.EnvironmentSettings"),
    *("stats.AverageMeter", "stats.StatValue"),
)
# What stands in, and the name in the file that it stands for: all that published checkpoints hold beside tensors.
STAND_INS = [
    (PickledObject, "lib.train.admin.settings.Settings"),
    (PickledObject, "lib.train.admin.local.EnvironmentSettings"),
    (PickledObject, "lib.train.admin.stats.AverageMeter"),
    (PickledObject, "lib.train.admin.stats.StatValue"),
    *((PickledObject, f"ltr.admin.{name}") for name in _LTR),
    (OrderedDict, "easydict.EasyDict"),
    (PickledDtype, "numpy.dtype"),
    (numpy_scalar, "numpy.core.multiarray.scalar"),
    (numpy_scalar, "numpy._core.multiarray.scalar"),
]
# torch keeps one list of allowed names for the process: two loads at a time would remove each other's.
_LOCK = threading.Lock()


def read_untrusted(path: Path) -> Any:
    """Read a `torch.save` file (zip, or the older single pickle) onto the CPU, running nothing of it.

    Returns:
        Tensors, numbers, strings and plain containers; objects of known classes become `InertObject`,
        numpy numbers Python numbers, an EasyDict a dict.

    Raises:
        CheckpointError: the file is missing, is not such a file, is damaged, or names anything else.
    """
    check_file_kind(path)
    try:
        with _LOCK, torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"checkpoint {path} refused: {_refusal(str(error))}; nothing in it was run") from error
    except MALFORMED as error:
        reason = few([*str(error).strip().splitlines(), type(error).__name__][:1])
        message = f"checkpoint {path} is damaged, truncated or not written by torch.save: {reason}"
        raise CheckpointError(message) from error
    try:
        return to_plain(content)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} refused: {error}; nothing in it was run") from error


def check_file_kind(path: Path) -> None:
    """Raise a CheckpointError unless `path` starts like a `torch.save` file, saying what it is instead."""
    if not path.is_file():
        found = "that is a folder" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"cannot read checkpoint {path}: {found}")
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    if head.startswith(b"PK\x03\x04"):
        found = _zip_fault(path)
    elif head.startswith(b"\x80"):
        found = ""
    else:
        found = _foreign_kind(head)
    if found:
        raise CheckpointError(f"{path} is not a checkpoint: expected a file written by torch.save, found {found}")


def _zip_fault(path: Path) -> str:
    """What is wrong with a zip archive as a whole; empty when it looks like torch's."""
    try:
        if not zipfile.is_zipfile(path):
            return "a zip archive without its end (truncated, perhaps a broken download)"
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except MALFORMED:
        return "a damaged zip archive"
    members = {name.rsplit("/", 1)[-1] for name in names}
    if "constants.pkl" in members:
        return "a TorchScript archive"
    if "data.pkl" not in members:
        return f"a zip archive without data.pkl ({few(names)})"
    return ""


def _foreign_kind(head: bytes) -> str:
    """A word for what starts with `head`."""
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (fetch the file itself)"
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "a web page (perhaps a failed download)"
    if not set(head) & set(range(9)):
        return "a text file"
    return f"a file that starts with {head[:8]!r}"


def _refusal(message: str) -> str:
    """What the unpickler refused, out of its many-line message."""
    name = re.search(r"GLOBAL (\S+)", message)
    if name:
        # torch leaves out the module of built-in functions.
        return f"it names {'' if '.' in name[1] else 'builtins.'}{name[1]:.100}, which no checkpoint needs"
    if "Unsupported operand" in message:
        return "its pickle is damaged, or of a protocol that torch.save does not use"
    lines = [line.strip() for line in message.splitlines() if line.strip() and "documentation" not in line]
    return f"it does what no checkpoint needs ({lines[-1].split('WeightsUnpickler error: ')[-1]:.150})"


def to_plain(value: Any) -> Any:
    """Copy nested containers into plain ones: dict, list, tuple, set; numpy numbers become Python's.

    Tensors lose their gradient history but keep (and share) their storage.

    Raises:
        TypeError: a value of another type; the message says where it is.
        ValueError: a container that holds itself, or more than `MAX_DEPTH` levels.
    """
    return _PlainCopy().copy(value, "", 0)


class _PlainCopy:
    """One copy; what the source holds twice is copied once, or a small file could unfold without end."""

    LEAVES = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.device, torch.dtype)

    def __init__(self) -> None:
        self.copies: dict[int, Any] = {}
        self.unfinished: set[int] = set()

    def copy(self, value: Any, where: str, depth: int) -> Any:
        if type(value) in self.LEAVES:
            return value
        if isinstance(value, np.generic):
            return value.item()
        if id(value) in self.copies:
            return self.copies[id(value)]
        if id(value) in self.unfinished or depth > MAX_DEPTH:
            raise ValueError(f"'{where:.80}' holds itself or is nested too deeply")
        self.unfinished.add(id(value))
        self.copies[id(value)] = self._copy_new(value, where, depth + 1)
        return self.copies[id(value)]

    def _copy_new(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        if isinstance(value, dict):
            # dict.items: a hostile file can hang an attribute `items` on an OrderedDict.
            return self._dict(dict.items(value), where, depth)
        if isinstance(value, (list, tuple, set)):
            kind = next(kind for kind in (list, tuple, set) if isinstance(value, kind))
            return kind(self.copy(item, f"{where}[{i}]", depth) for i, item in enumerate(value))
        if type(value) is PickledObject:
            return InertObject(**self._dict(value.attributes.items(), where, depth))
        if type(value) is InertObject:
            return self._dict(vars(value).items(), where, depth)
        raise TypeError(
            f"'{where or 'the content'}' is of type {type(value).__module__}.{type(value).__qualname__}: no plain value"
        )

    def _dict(self, items: Any, where: str, depth: int) -> dict:
        prefix = f"{where}." if where else ""
        return {self.copy(key, where, depth): self.copy(item, f"{prefix}{key!s:.60}", depth) for key, item in items}

    @staticmethod
    def _tensor(tensor: Tensor, where: str) -> Tensor:
        if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_quantized:
            raise TypeError(f"'{where}' is not an ordinary dense tensor")
        return Tensor.detach(tensor)
