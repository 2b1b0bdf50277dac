"""Checkpoints: reading them without running anything in them, fitting them into a network, writing them.

A checkpoint is a dictionary with the network's state dict under `net`; published ones and ours also
hold `epoch, actor_type, net_type, net_info, constructor, optimizer, stats, settings`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.utils.checkpoint_files import CheckpointError, few
from lib.utils.files import atomic_path
from lib.utils.safe_unpickle import read_untrusted, to_plain


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

    The `module.` that DataParallel puts before every name is removed, and batch-norm counters
    (`num_batches_tracked`) may be absent on either side.

    Args:
        checkpoint: what `load_checkpoint` returned, or a state dict; `path` is where it came from, for messages.
        allow_missing: prefixes of names that keep the module's values if the file lacks them
            (`cls_head.`: stage 2 starts from a stage-1 checkpoint).

    Raises:
        CheckpointError: names or shapes that differ; a few of each are listed.
    """
    weights = checkpoint["net"] if isinstance(checkpoint.get("net"), Mapping) else checkpoint
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

    Only plain values are written, so the file loads with `torch.load(weights_only=True)` anywhere: subclasses of
    dict (EasyDict) become dict, numpy numbers Python numbers.

    Raises:
        CheckpointError: the disk is full or the place cannot be written.
        TypeError: a value that is no tensor, number, string or plain container; the message names its place.
    """
    plain = to_plain(dict(checkpoint))
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(plain, file)
    except (OSError, RuntimeError) as error:
        # torch's zip writer fails in its own way after a failed write; the error before it has the reason.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise CheckpointError(f"cannot write checkpoint {path}: {cause.strerror or cause}") from error
