"""Weights for others: the mean of several checkpoints of one run, without what only training needs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import load_config
from lib.models import NETWORKS, build_model
from lib.utils.checkpoint import CheckpointError, load_checkpoint, load_state, save_checkpoint


def release_checkpoint(script: str, config: str, checkpoints: Sequence[Path], output: Path) -> None:
    """Write the mean of checkpoints' weights (Izmailov et al., UAI 2018) as a checkpoint with weights alone.

    Args:
        script, config: as `load_config` takes them.
        checkpoints: of one run; late epochs, in which it moves about one minimum. One alone is stripped.
        output: the file to write; there must be none.

    Raises:
        UserError: an unknown configuration, a checkpoint that is missing, damaged or of another network, or an output
            that exists or cannot be written.
    """
    if output.exists():
        raise CheckpointError(f"{output} exists: move it away, or name another file")
    cfg = load_config(script, config)
    model = mean_weights(script, cfg, checkpoints)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(output, {"net": model.state_dict(), "net_type": NETWORKS[script].__name__})


def mean_weights(script: str, cfg: EasyDict, checkpoints: Sequence[Path]) -> nn.Module:
    """The network with the mean of checkpoints' weights; arguments and errors as of `release_checkpoint`."""
    model = build_model(script, cfg)
    states = []
    for path in checkpoints:
        load_state(model, load_checkpoint(path), path)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    model.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
    return model


def _mean(values: list[Tensor]) -> Tensor:
    """Counters of batches, which are whole numbers, are the last one's."""
    return torch.stack(values).mean(dim=0) if values[0].is_floating_point() else values[-1]
