"""The networks: STARK-S, STARK-ST, STARK-Lightning and Alpha-Refine."""

from collections.abc import Sequence
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from ..config import ConfigError, trained_config
from ..config.options import REFINE
from ..utils.checkpoint import CheckpointError, load_checkpoint, load_state, save_checkpoint
from ..utils.checkpoint_files import kept_config
from .alpha_refine import AlphaRefine
from .stark import STARKS, STARKST
from .stark_lightning import STARKLightningXtrt

NETWORKS: dict[str, type[nn.Module]] = {
    "stark_s": STARKS,
    "stark_st1": STARKST,
    "stark_st2": STARKST,
    "stark_lightning_X_trt": STARKLightningXtrt,
    REFINE: AlphaRefine,
}


def build_model(script: str, cfg: EasyDict, pretrained: bool = False) -> nn.Module:
    """Build the network of a script from its effective configuration; a ConfigError where options do not fit together.

    `pretrained` starts the backbone from ImageNet weights. Only training from scratch wants that: a tracker or a
    resumed run loads a checkpoint over it.
    """
    if script not in NETWORKS:
        raise ConfigError(f"unknown script '{script}'; valid: {', '.join(NETWORKS)}")
    if script != REFINE:
        _check(script, cfg)
    return NETWORKS[script](cfg, pretrained)


def _check(script: str, cfg: EasyDict) -> None:
    """Options that contradict each other, said before torch says it less clearly."""
    dim, heads = cfg.MODEL.HIDDEN_DIM, cfg.MODEL.TRANSFORMER.NHEADS
    if dim % heads or dim % 4:
        raise ConfigError(f"'MODEL.HIDDEN_DIM' ({dim}) must be divisible by 'MODEL.TRANSFORMER.NHEADS' ({heads}) and 4")
    lightning = script == "stark_lightning_X_trt"
    for region in ("SEARCH", "TEMPLATE"):
        size = cfg.DATA[region].SIZE
        if size % 16:
            raise ConfigError(f"'DATA.{region}.SIZE' ({size}) must be divisible by 16, the network's stride")
        if "TEST" in cfg and cfg.TEST[f"{region}_SIZE"] != size:
            raise ConfigError(f"'TEST.{region}_SIZE' must be {size} as DATA.{region}.SIZE: the network is built for it")
        if lightning and cfg.DATA[region].FEAT_SIZE * 16 != size:
            raise ConfigError(f"'DATA.{region}.FEAT_SIZE' must be a sixteenth of DATA.{region}.SIZE: {size // 16}")
    if not lightning and cfg.MODEL.HEAD_TYPE == "CENTER":
        raise ConfigError("'MODEL.HEAD_TYPE' CENTER reads no decoder's query: it is for stark_lightning_X_trt")
    if lightning and cfg.MODEL.HEAD_TYPE == "MLP":
        raise ConfigError("'MODEL.HEAD_TYPE' MLP reads a decoder's query, which Lightning has not; use a CORNER head")


def release_checkpoint(script: str, config: str, checkpoints: Sequence[Path], output: Path) -> None:
    """Write the mean of the weights of one run's late checkpoints (Izmailov et al., UAI 2018), without the optimiser.

    The output may be a `.safetensors` file. Raises UserError for a checkpoint that is missing, damaged or of another
    network, and for an output that exists or cannot be written. The configuration is kept as in the last one.
    """
    if output.exists():
        raise CheckpointError(f"{output} exists: move it away, or name another file")
    model = build_model(script, trained_config(script, config, checkpoints[-1])[0])
    states = []
    for path in checkpoints:
        load_state(model, load_checkpoint(path), path)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    mean = {}
    for name, last in states[-1].items():  # counters of batches, which are whole numbers, are the last one's
        mean[name] = torch.stack([state[name] for state in states]).mean(dim=0) if last.is_floating_point() else last
    kept = kept_config(checkpoints[-1])
    settings = {"settings": {"config": kept}} if kept else {}
    save_checkpoint(output, {"net": mean, "net_type": type(model).__name__, **settings})
