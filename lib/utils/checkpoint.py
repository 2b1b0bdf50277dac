"""Checkpoints: reading them without running anything in them, fitting them into a network, writing them.

A checkpoint is a dictionary with the network's state dict under `net`; published ones and ours also
hold `epoch, actor_type, net_type, net_info, constructor, optimizer, stats, settings`. A `.safetensors` file holds the
state dict alone.

A pickle is a small program that may import and call anything. Here torch's `weights_only` unpickler reads it. It knows
only tensors, containers and the names in `STAND_INS`. Those names are never imported: the file gets an inert class or
function of this module instead. Every other name is refused before it is used.
"""

import importlib
import os
import pickle
import re
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoint_files import CheckpointError, check_archive, check_pickles
from .errors import few
from .files import atomic_path

MAX_DEPTH = 100
_MAX_EXPANDED = 2**20  # elements of a tensor that repeats its storage
LEAVES = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.device, torch.dtype)


class InertObject:
    """The attributes of a pickled object, without its class's behaviour; `to_plain` makes them a dictionary."""

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict or not all(type(name) is str and name.isidentifier() for name in state):
            raise ValueError("an object's state is not a dictionary of attributes")
        vars(self).update(state)


class PickledDtype:
    """Replaces `numpy.dtype`; `numpy_scalar` checks it."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


def numpy_scalar(dtype: PickledDtype, data: bytes) -> bool | int | float | complex:
    """Replaces numpy's `scalar`: a Python number from the bytes of one numpy number."""
    name = f"{dtype.order}{dtype.code}" if type(dtype) is PickledDtype else ""
    if not re.fullmatch(r"[<>=|](b1|[iu][1248]|f[248]|c8|c16)", name):
        raise ValueError(f"numpy type {name:.40} is not a plain number")
    return np.frombuffer(data, np.dtype(name)).item()


_OBJECTS = ("settings.Settings", "local.EnvironmentSettings", "stats.AverageMeter", "stats.StatValue")
# Stand-in, and the name in the file that it replaces: all that published checkpoints, of STARK and of the framework
# that trained Alpha-Refine, hold beside tensors.
STAND_INS = [
    *((InertObject, f"{package}.admin.{name}") for package in ("lib.train", "ltr") for name in _OBJECTS),
    (InertObject, "ltr.admin.model_constructor.NetConstructor"),
    (OrderedDict, "easydict.EasyDict"),
    (PickledDtype, "numpy.dtype"),
    (numpy_scalar, "numpy.core.multiarray.scalar"),
    (numpy_scalar, "numpy._core.multiarray.scalar"),
]
# torch has one list of allowed names for the process: two loads at a time would remove each other's.
_LOCK = threading.Lock()


def read_untrusted(path: Path) -> Any:
    """Read a `torch.save` file (zip, or the older single pickle) onto the CPU, running nothing in it.

    A file whose name ends in `.safetensors` gives its tensors by name.
    Gives tensors, numbers, strings and plain containers; objects of known classes become dictionaries of their
    attributes, numpy numbers Python numbers, an EasyDict a dict. Raises CheckpointError where the file is missing,
    damaged, no such file, or names anything else.
    """
    kind = "safetensors" if path.suffix == ".safetensors" else "torch.save"
    try:
        if kind == "safetensors":
            return _safetensors(path).load(path.read_bytes())
        with _LOCK, torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings(), open(path, "rb") as file:
            head = file.read(40)
            if not head.startswith((b"PK\x03\x04", b"\x80")):
                found = f"a file that starts with {head!r}" if head else "an empty file"
                raise CheckpointError(f"{path} is not a checkpoint: expected a file of torch.save, found {found}")
            file.seek(0)
            if head.startswith(b"PK"):
                with zipfile.ZipFile(file) as archive:
                    check_archive(archive)
                    if damaged := archive.testzip():
                        raise ValueError(f"{damaged} has another checksum than when it was written")
            else:
                check_pickles(file, pickles=5)
            file.seek(0)
            warnings.simplefilter("ignore")
            return to_plain(torch.load(file, map_location="cpu", weights_only=True, mmap=False))
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"checkpoint {path} refused: {_refusal(str(error))}; nothing in it was run") from error
    except Exception as error:  # torch meets damage with errors of any kind
        reason = few([*str(error).strip().splitlines(), type(error).__name__][:1])
        message = f"checkpoint {path} is damaged, truncated or not written by {kind}: {reason}"
        raise CheckpointError(message) from error


def _safetensors(path: str | os.PathLike) -> ModuleType:
    """The functions of the package safetensors, which is optional."""
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise CheckpointError(f"{path} needs the package safetensors: pip install safetensors") from error


def _refusal(message: str) -> str:
    """The refused name, or the last line, of the unpickler's message."""
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

    Tensors lose their gradient history and share their storage with the source; an `InertObject` becomes a dict. A
    TypeError names the place of a value of another type; a ValueError, that of a container that holds itself or more
    than `MAX_DEPTH` levels.
    """
    copies: dict[int, Any] = {}  # each value is copied once, or a file could unfold without end

    def copy(value: Any, where: str, depth: int) -> Any:
        if type(value) in LEAVES:
            return value
        if isinstance(value, np.generic):
            return value.item()
        if id(value) in copies:
            return copies[id(value)]
        if depth > MAX_DEPTH:
            raise ValueError(f"'{where:.80}' holds itself or is nested too deeply")
        if isinstance(value, Tensor) and value.layout is torch.strided and not (value.is_meta or value.is_quantized):
            if value.numel() > max(_MAX_EXPANDED, value.untyped_storage().nbytes() // value.element_size()):
                raise ValueError(f"'{where:.80}' repeats its storage to {value.numel()} elements")
            plain = Tensor.detach(value)
        elif isinstance(value, dict):
            # dict.items: a hostile file can add an attribute `items` to an OrderedDict.
            items = [(key, item, f"{where}.{key!s:.60}".lstrip(".")) for key, item in dict.items(value)]
            plain = {copy(key, where, depth + 1): copy(item, place, depth + 1) for key, item, place in items}
        elif type(value) is InertObject:
            plain = copy(vars(value), where, depth + 1)
        elif isinstance(value, list | tuple | set):
            kind = next(kind for kind in (list, tuple, set) if isinstance(value, kind))
            plain = kind(copy(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value))
        else:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise TypeError(f"'{where or 'the content'}' is of type {kind}: no plain value")
        copies[id(value)] = plain
        return plain

    return copy(value, "", 0)


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, its weights under `net`; errors and values as of `read_untrusted`.

    Accepts a dictionary with the weights under `net` or under `state_dict`, or a bare state dict.
    """
    content = read_untrusted(Path(path))
    if isinstance(content, dict) and "net" not in content:
        if "state_dict" in content:
            content["net"] = content.pop("state_dict")
        elif _is_state_dict(content):
            content = {"net": content}
    if not isinstance(content, dict) or not _is_state_dict(content.get("net")):
        raise CheckpointError(
            f"{path} is not a checkpoint: expected a dictionary with a network's weights under 'net' or 'state_dict', "
            f"or the weights alone, found {_describe(content)}"
        )
    return content


def _is_state_dict(value: Any) -> bool:
    whole = isinstance(value, dict) and len(value) > 0
    return whole and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())


def _describe(content: Any) -> str:
    if isinstance(content, Tensor):
        return f"a tensor of shape {tuple(content.shape)}"
    if not isinstance(content, dict):
        return f"a value of type {type(content).__name__}"
    if "net" in content:
        return f"under 'net' {_describe(content['net'])}"
    return f"a dictionary with {few(list(map(str, content)), 5)}"


def load_state(
    module: nn.Module, checkpoint: Mapping[str, Any], path: str | os.PathLike, *, allow_missing: Sequence[str] = ()
) -> None:
    """Load weights into a module: every name and every shape must fit, or nothing is changed.

    The `module.` that DataParallel puts before every name is removed, and the `_orig_mod.` of `torch.compile`.
    Batch-norm counters (`num_batches_tracked`) may be absent on either side.

    Args:
        checkpoint: from `load_checkpoint`, or a state dict; `path` is where it came from, for messages.
        allow_missing: prefixes of names that keep the module's values if the file lacks them
            (`cls_head.`: stage 2 starts from a stage-1 checkpoint).
    """
    weights = checkpoint["net"] if isinstance(checkpoint.get("net"), Mapping) else checkpoint
    weights = {name.replace("_orig_mod.", ""): tensor for name, tensor in weights.items()}
    if weights and all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    wanted, counter = module.state_dict(), "num_batches_tracked"
    found = {name: tensor for name, tensor in weights.items() if name in wanted or not name.endswith(counter)}
    missing = [name for name in wanted if name not in found and not name.startswith(tuple(allow_missing))]
    shapes = [(name, tuple(wanted[name].shape), tuple(found[name].shape)) for name in found if name in wanted]
    faults = {
        "missing": [name for name in missing if not name.endswith(counter)],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": [f"{name}: expected {ours}, found {file}" for name, ours, file in shapes if ours != file],
    }
    listed = "; ".join(f"{len(names)} {kind} ({few(names)})" for kind, names in faults.items() if names)
    if listed:
        theirs, ours = _variant(weights), _variant(wanted)
        hint = f". The file looks like {theirs}, the model is {ours}" if theirs != ours else ""
        raise CheckpointError(f"checkpoint {path} does not fit the model: {listed}{hint}")
    module.load_state_dict(found, strict=False)


def _variant(names: Mapping[str, Any]) -> str:
    """The variant whose state dict has these names."""
    joined = "\n".join(["", *names])
    if "\ntransformer." not in joined or "\nbox_head." not in joined:
        return "another network"
    if "\ntransformer.decoder." not in joined:
        return "STARK-Lightning" + (" (folded)" if ".rbr_reparam." in joined else "")
    blocks = len(set(re.findall(r"\.layer3\.(\d+)\.", joined)))
    depth = {2: "18", 6: "50" if ".conv3." in joined else "34", 23: "101"}.get(blocks, "?")
    score = "\ncls_head." in joined
    return f"{'STARK-ST' if score else 'STARK-S or STARK-ST stage 1 (no score head)'} with ResNet-{depth}"


def save_checkpoint(path: str | os.PathLike, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all: after a failure the old file is still at `path`.

    Of a path that ends in `.safetensors` the weights alone are written.
    Only plain values are written, so the file loads with `torch.load(weights_only=True)` anywhere; others are a
    TypeError as of `to_plain`. A full disk is a CheckpointError.
    """
    plain = to_plain(dict(checkpoint))
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            if Path(path).suffix == ".safetensors":
                tensors = {name: value.contiguous() for name, value in plain["net"].items()}
                file.write(_safetensors(path).save(tensors, metadata={"format": "pt"}))
            else:
                torch.save(plain, file)
    except (OSError, RuntimeError) as error:
        # torch's zip writer fails in its own way after a failed write; the error before it has the reason.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise CheckpointError(f"cannot write checkpoint {path}: {cause.strerror or cause}") from error
