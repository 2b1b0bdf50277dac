"""Putting a training run together from its configuration."""

from dataclasses import dataclass
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from lib.config import ConfigError, load_config, option
from lib.config.loader import experiment_name
from lib.models import NETWORKS, build_model
from lib.train import distributed
from lib.train.actors.stark import BoxActor, ScoreActor
from lib.train.admin.log import RunLog
from lib.train.data.loader import BatchLoader, SampleStream
from lib.train.data.processing import Processing
from lib.train.data.sampler import FrameSampler
from lib.train.dataset import build_dataset
from lib.train.trainers.checkpoints import CheckpointFolder
from lib.train.trainers.optimisation import Optimisation
from lib.train.trainers.trainer import Trainer
from lib.utils.checkpoint import find_checkpoint, load_checkpoint, load_state
from lib.utils.errors import UserError

TRAINING, VALIDATION = 0, 1


@dataclass(frozen=True)
class RunOptions:
    """What the command line says.

    Attributes:
        script, config: the experiment.
        save_dir: checkpoints, logs and TensorBoard files lie under it.
        script_prv, config_prv: the stage whose weights this one starts from.
        checkpoint_prv: those weights as a file, in place of the two.
        use_lmdb: read data sets from LMDB.
        device: `auto`, `cpu`, `cuda`, `mps`.
        overrides: `KEY.PATH=value` texts.
    """

    script: str
    config: str
    save_dir: Path
    script_prv: str | None = None
    config_prv: str | None = None
    checkpoint_prv: Path | None = None
    use_lmdb: bool = False
    device: str = "auto"
    overrides: tuple[str, ...] = ()


def train(options: RunOptions) -> dict[str, dict[str, float]]:
    """Train an experiment to its last epoch, or go on with it; gives the last means of loss and IoU.

    Raises:
        UserError: a configuration, data set or checkpoint that does not serve.
    """
    cfg = load_config(options.script, options.config, options.overrides)
    device = distributed.setup(options.device)
    name = experiment_name(options.config)
    log = RunLog(options.save_dir, f"{options.script}-{name}", active=distributed.rank() == 0)
    try:
        return build_trainer(options, cfg, device, name, log).fit()
    finally:
        log.close()
        distributed.teardown()


def build_trainer(options: RunOptions, cfg: EasyDict, device: torch.device, name: str, log: RunLog) -> Trainer:
    """All parts of a run, connected."""
    seed = option(cfg, "TRAIN.SEED")
    torch.manual_seed(seed)  # initial weights, alike on all ranks
    loader = build_loader(cfg, TRAINING, seed, options.use_lmdb, device)
    validation = build_loader(cfg, VALIDATION, seed, options.use_lmdb, device) if cfg.DATA.VAL.DATASETS_NAME else None
    folder = options.save_dir / "checkpoints" / "train" / options.script / name
    checkpoints = CheckpointFolder(folder, _net_type(options.script), cfg.TRAIN.EPOCH)
    found = checkpoints.load()
    fresh = found is None
    with_stage = options.script_prv is not None or options.checkpoint_prv is not None
    # Rank 0 alone fetches ImageNet weights; joining the ranks gives every one its values.
    net = build_model(options.script, cfg, pretrained=fresh and not with_stage and distributed.rank() == 0)
    if fresh and with_stage:
        load_previous_stage(net, options)
    elif fresh and cfg.TRAIN.get("TRAIN_CLS", False):
        raise UserError(
            f"{options.script} trains the score head of a network whose boxes are trained: "
            "name that stage with --script_prv stark_st1 --config_prv <config>"
        )
    net = net.to(device, memory_format=torch.channels_last)
    optimisation = Optimisation(net, cfg, device, len(loader))
    actor_type = ScoreActor if cfg.TRAIN.get("TRAIN_CLS", False) else BoxActor
    actor = actor_type(distributed.wrap(net, device), cfg, device)
    settings = {"script_name": options.script, "config_name": name, "seed": seed}
    return Trainer(net, actor, cfg, loader, validation, optimisation, checkpoints, log, settings, found)


def build_loader(cfg: EasyDict, stream: int, seed: int, use_lmdb: bool, device: torch.device) -> BatchLoader:
    """Batches of the training or the validation sets."""
    part = cfg.DATA.TRAIN if stream == TRAINING else cfg.DATA.VAL
    datasets = [build_dataset(name, use_lmdb=use_lmdb) for name in part.DATASETS_NAME]
    intervals = cfg.DATA.MAX_SAMPLE_INTERVAL
    intervals = intervals if isinstance(intervals, list) else [intervals]
    if cfg.DATA.SEARCH.get("NUMBER", 1) != 1:
        raise ConfigError("'DATA.SEARCH.NUMBER' must be 1: the network searches one frame")
    mode, templates = cfg.DATA.get("SAMPLER_MODE", "causal"), cfg.DATA.TEMPLATE.get("NUMBER", 1)
    if templates != (1 if mode == "causal" else 1 + len(intervals)):
        raise ConfigError(
            f"'DATA.TEMPLATE.NUMBER' is {templates}, but SAMPLER_MODE {mode} with MAX_SAMPLE_INTERVAL {intervals} "
            "gives another number: causal one template, the others one more than there are intervals"
        )
    sampler = FrameSampler(
        datasets,
        part.DATASETS_RATIO,
        mode,
        intervals,
        negatives=cfg.TRAIN.get("TRAIN_CLS", False),
    )
    samples = SampleStream(sampler, Processing(cfg, stream == TRAINING), seed, distributed.rank(), stream)
    return BatchLoader(
        samples,
        part.SAMPLE_PER_EPOCH // distributed.world_size(),
        cfg.TRAIN.BATCH_SIZE,
        cfg.TRAIN.NUM_WORKER,
        pin=device.type == "cuda",
    )


def load_previous_stage(net: nn.Module, options: RunOptions) -> None:
    """Start from another stage's weights; its network may lack the score head."""
    path = options.checkpoint_prv
    if path is None:
        folder = (
            options.save_dir
            / "checkpoints"
            / "train"
            / options.script_prv
            / experiment_name(options.config_prv or "baseline")
        )
        path = find_checkpoint(folder, _net_type(options.script_prv))
    load_state(net, load_checkpoint(path), path, allow_missing=("cls_head.",))


def _net_type(script: str) -> str:
    """The class name that a script's checkpoints carry."""
    return NETWORKS[script].__name__
