"""Weights for others: the mean of several checkpoints of one run, without what only training needs."""

from collections.abc import Sequence
from pathlib import Path

import torch

from lib.config import load_config
from lib.models import build_model
from lib.utils.checkpoint import CheckpointError, load_checkpoint, load_state, save_checkpoint


def release_checkpoint(script: str, config: str, checkpoints: Sequence[Path], output: Path) -> None:
    """Write the mean of checkpoints' weights (Izmailov et al., UAI 2018) as a checkpoint with weights alone.

    Args:
        script, config: as `load_config` takes them.
        checkpoints: of one run; late epochs, in which it moves about one minimum. One alone is stripped.
        output: the file to write, which must not exist.

    Raises:
        UserError: an unknown configuration, a checkpoint that is missing, damaged or of another network, or an output
            that exists or cannot be written.
    """
    if output.exists():
        raise CheckpointError(f"{output} exists: move it away, or name another file")
    model = build_model(script, load_config(script, config))
    states = []
    for path in checkpoints:
        load_state(model, load_checkpoint(path), path)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    mean = {}
    for name, last in states[-1].items():  # counters of batches, which are whole numbers, are the last one's
        mean[name] = torch.stack([state[name] for state in states]).mean(dim=0) if last.is_floating_point() else last
    save_checkpoint(output, {"net": mean, "net_type": type(model).__name__})
