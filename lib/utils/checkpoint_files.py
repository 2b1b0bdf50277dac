"""Checkpoints as files: their names, and which one is meant. Without PyTorch, which is slow to load and large."""

import functools
import hashlib
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError, few

# Script -> the class of its network, by which its checkpoints are named.
NET_TYPES = {
    **{"stark_s": "STARKS", "stark_st1": "STARKST", "stark_st2": "STARKST"},
    **{"stark_lightning_X_trt": "STARKLightningXtrt", "alpha_refine": "AlphaRefine"},
}
_MAX_PICKLE = 2**26  # bytes; STARK-ST101's with its optimiser has 0.3 MB
_MAX_TUPLE = 10**4  # values in a tuple and the tuples in it, which Python visits all whenever it hashes the tuple


class CheckpointError(UserError):
    """A checkpoint that cannot be read, is refused, does not fit or cannot be written.

    Messages quote names out of untrusted files, so anything that could steer a terminal is replaced.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(character if character.isprintable() else "?" for character in message))


def checkpoint_name(net_type: str, which: int | str) -> str:
    """The file name of an epoch's checkpoint, as published, or of the `latest`, the `previous` or the `best` one."""
    return f"{net_type}_{which if isinstance(which, str) else f'ep{which:04d}'}.pth.tar"


def epoch_checkpoints(folder: Path, net_type: str) -> list[Path]:
    """The checkpoints of single epochs in a folder, oldest first."""
    own = re.compile(rf"{re.escape(net_type)}_ep\d{{4,}}\.pth\.tar")
    paths = [path for path in folder.glob("*") if own.fullmatch(path.name) and path.is_file()]
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def find_checkpoint(folder: Path, net_type: str) -> Path:
    """The newest checkpoint of a folder, whole epoch or not; a CheckpointError lists what is there in its place."""
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {folder}: train first, or give a checkpoint file")
    rolling = (folder / checkpoint_name(net_type, which) for which in ("latest", "previous"))
    for path in (*rolling, *epoch_checkpoints(folder, net_type)[-1:]):
        if path.is_file():
            return path
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    raise CheckpointError(f"no checkpoint {net_type}_ep*.pth.tar in {folder}; there: {few(names[::-1], 5)}")


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; a process reads a file once, unless it is written again."""
    try:
        status = path.stat()
        return _digest(path.resolve(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"cannot read the weights {path}: {error.strerror}") from error


@functools.lru_cache(maxsize=8)
def _digest(path: Path, *_: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Ignored(dict):
    """Replaces everything that a checkpoint's pickle names: it takes all and runs nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


class _PlainReader(pickle.Unpickler):
    """Reads a pickle's plain values only; no name in it is imported, no tensor is read."""

    def find_class(self, module: str, name: str) -> type:
        return _Ignored

    def persistent_load(self, pid: Any) -> _Ignored:
        return _Ignored()


def kept_config(path: Path) -> dict[str, Any]:
    """The configuration that a checkpoint of a run here keeps, as nested dictionaries; empty where it keeps none.

    Damage is left to `load_checkpoint` to report.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive)
            (entry,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            return saved_config(_PlainReader(archive.open(entry)).load())
    except Exception:  # noqa: BLE001 - damage, or a file of another kind, which may fail in any way
        return {}


def saved_config(checkpoint: Any) -> dict[str, Any]:
    """The configuration in the `settings` of a checkpoint that was read; empty where there is none."""
    settings = checkpoint.get("settings") if isinstance(checkpoint, dict) else None
    config = settings.get("config") if isinstance(settings, dict) else None
    return config if isinstance(config, dict) else {}


def check_archive(archive: zipfile.ZipFile) -> None:
    """Check a zip of `torch.save` before its pickle is read: sizes, and the pickle. Weights are not read."""
    entries = archive.infolist()
    # torch stores without compression, so no entry can be larger than the file.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise pickle.UnpicklingError("it is compressed")
    for entry in entries:
        if entry.filename.endswith("data.pkl"):
            if entry.file_size > _MAX_PICKLE:
                raise pickle.UnpicklingError(f"its pickle has {entry.file_size} bytes")
            with archive.open(entry) as content:
                check_pickles(content, pickles=1)


def check_pickles(file: BinaryIO, pickles: int) -> None:
    """Refuse pickles that take all memory or time before a name in them is refused.

    Follows the values on the pickle's stack; of each only the size matters: 1, or for a tuple 1 more than its values'.
    """
    for _ in range(pickles):
        stack: list[int | None] = []  # None: a mark
        memo: dict[int, int] = {}
        for code, argument, _ in pickletools.genops(file):
            if code.name == "GLOBAL" and argument.endswith(" bytearray"):
                raise pickle.UnpicklingError("GLOBAL builtins.bytearray")
            if code.name == "MARK":
                stack.append(None)
            elif code.name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif code.name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            else:
                taken = _take(stack, code)
                size = 1 + sum(taken) if "TUPLE" in code.name else 1
                if size > _MAX_TUPLE:
                    raise pickle.UnpicklingError("it nests tuples in tuples")
                stack += [size] * len(code.stack_after)


def _take(stack: list[int | None], code: pickletools.OpcodeInfo) -> list[int]:
    """Remove from the stack what an operation of a pickle uses, the topmost first."""
    names, taken = [each.name for each in code.stack_before], []
    if "mark" in names:
        while (size := stack.pop()) is not None:
            taken.append(size)
    return taken + [stack.pop() for _ in names[: names.index("mark") if "mark" in names else None]]
