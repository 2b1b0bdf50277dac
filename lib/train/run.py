"""Putting a training run together from its configuration."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from easydict import EasyDict
from torch import nn

from lib.config import load_config, option
from lib.data.dataset import TrackingDataset
from lib.data.registry import build_dataset
from lib.train import distributed
from lib.train.checkpoints import run_checkpoints
from lib.train.checks import Report, check_run, usable_validation
from lib.train.distillation import DistillActor, distills, load_teacher
from lib.train.loader import BatchLoader, SampleStream, lost_workers_named
from lib.train.log import RunLog
from lib.train.losses import Actor, BoxActor, MaskActor, ScoreActor
from lib.train.optimiser import Optimisation, choose_arithmetic
from lib.train.options import MASK_SCRIPT, RunOptions, build_network
from lib.train.processing import MaskProcessing, Processing
from lib.train.sampler import FrameSampler, check_sampling, sample_intervals, sampler_mode
from lib.train.trainer import Trainer
from lib.utils.checkpoint import load_checkpoint, load_state
from lib.utils.errors import UserError
from lib.utils.files import locked
from lib.utils.workspace import workspace

TRAINING, VALIDATION = 0, 1
# Data workers of a killed run hold its lock until they see that it ended.
SECONDS_FOR_LOCK = 15


def train(options: RunOptions) -> dict[str, dict[str, float]]:
    """Train an experiment to its last epoch, or go on with it; gives the last means of loss and IoU.

    Raises:
        UserError: a configuration, data set or checkpoint that does not serve.
        SystemExit: the run was asked to stop and saved its state.
    """
    cfg = load_config(options.script, options.config, options.overrides)
    with distributed.joined(options.device) as device, lost_workers_named(), _memory_named():
        report = check_run(options, cfg) if distributed.rank() == 0 else Report()
        if report.problems:
            print(report.table())
        report.require()
        with _locked_folder(options):
            events = workspace("train").tensorboard_for(options.save_dir)
            name, writes = f"{options.script}-{options.name}", distributed.rank() == 0
            log = RunLog(options.save_dir, name, writes, events)
            try:
                if report.findings:
                    log.say(report.table())
                return build_trainer(options, cfg, device, log, report.datasets).fit()
            finally:
                log.close()


@contextlib.contextmanager
def _memory_named() -> Iterator[None]:
    """Say in one line that the device's memory does not suffice.

    Raises:
        UserError: in place of torch's error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of memory on the device ({str(error).splitlines()[0]}): lower TRAIN.BATCH_SIZE and raise "
            "TRAIN.ACCUM_STEPS, or set TRAIN.AMP=bf16; the same command goes on from the last checkpoint"
        ) from error


@contextlib.contextmanager
def _locked_folder(options: RunOptions) -> Iterator[None]:
    """Rank 0 locks the run's folder; the others wait here for its check."""
    with contextlib.ExitStack() as stack:
        if distributed.rank() == 0:
            try:
                stack.enter_context(locked(options.folder, SECONDS_FOR_LOCK))
            except TimeoutError as error:
                raise UserError(
                    f"another run writes to {options.folder}: wait for it, stop it, or choose another --save_dir"
                ) from error
            except OSError as error:
                raise UserError(f"cannot write to {options.folder}: {error}; choose another --save_dir") from error
        distributed.barrier()
        yield


def build_trainer(
    options: RunOptions, cfg: EasyDict, device: torch.device, log: RunLog, opened: Mapping[str, TrackingDataset]
) -> Trainer:
    """All parts of a run, connected; data sets that the check `opened` are not opened again."""
    seed = option(cfg, "TRAIN.SEED")
    torch.manual_seed(seed)  # initial weights, alike on all ranks
    validation_sets = usable_validation(options, cfg)
    training_sets = cfg.DATA.TRAIN.DATASETS_NAME, cfg.DATA.TRAIN.DATASETS_RATIO

    def build_loader(stream: int, names: Sequence[str], ratios: Sequence[float]) -> BatchLoader:
        datasets = [
            opened.get(name) or build_dataset(name, use_lmdb=options.use_lmdb, cache=options.cache) for name in names
        ]
        return make_loader(cfg, stream, datasets, ratios, seed, device, options.script == MASK_SCRIPT)

    loader = build_loader(TRAINING, *training_sets)
    validation = build_loader(VALIDATION, *validation_sets) if validation_sets[0] else None
    checkpoints = run_checkpoints(options, cfg)
    if distributed.rank() == 0:
        checkpoints.clear_unfinished()
    found = checkpoints.load()
    fresh = found is None
    if not distributed.agree(-1 if fresh else found[0]["epoch"] << 40 | found[0].get("progress", {}).get("samples", 0)):
        raise UserError(
            f"the processes find different checkpoints in {options.folder}: --save_dir must be the same storage for "
            "all machines; if it is, one of them saw an older state: start again"
        )
    # Rank 0 alone fetches ImageNet weights; joining the ranks gives every one its values.
    net = build_network(options.script, cfg, pretrained=fresh and options.previous is None and distributed.rank() == 0)
    if fresh and options.previous is not None:
        load_previous_stage(net, options)
    net = net.to(device, memory_format=torch.channels_last)
    choose_arithmetic(net, cfg, device)
    optimisation = Optimisation(net, cfg, device, loader.steps)
    actor = _build_actor(options, cfg, distributed.wrap(net, device), device)
    settings = {"script_name": options.script, "config_name": options.name, "seed": seed}
    return Trainer(net, actor, cfg, loader, validation, optimisation, checkpoints, log, settings, found)


def _build_actor(options: RunOptions, cfg: EasyDict, net: nn.Module, device: torch.device) -> Actor:
    """Forward pass and loss of the kind of training that the options ask for."""
    if distills(options, cfg):
        return DistillActor(net, cfg, device, load_teacher(options.teacher, options.save_dir, device))
    if options.script == MASK_SCRIPT:
        return MaskActor(net, cfg, device)
    actor = ScoreActor if cfg.TRAIN.get("TRAIN_CLS", False) else BoxActor
    return actor(net, cfg, device)


def make_loader(
    cfg: EasyDict,
    stream: int,
    datasets: Sequence[TrackingDataset],
    ratios: Sequence[float],
    seed: int,
    device: torch.device,
    masks: bool = False,
) -> BatchLoader:
    """Batches of the training or the validation sets, as `stream` says; with `masks` for Alpha-Refine."""
    check_sampling(cfg)
    for dataset in datasets:
        dataset.keep_annotations()
    sampler = FrameSampler(
        datasets,
        ratios,
        sampler_mode(cfg),
        sample_intervals(cfg),
        negatives=cfg.TRAIN.get("TRAIN_CLS", False),
    )
    part = cfg.DATA.TRAIN if stream == TRAINING else cfg.DATA.VAL
    processing = (MaskProcessing if masks else Processing)(cfg, stream == TRAINING)
    samples = SampleStream(sampler, processing, seed, stream)
    return BatchLoader(
        samples,
        part.SAMPLE_PER_EPOCH,
        cfg.TRAIN.BATCH_SIZE,
        cfg.TRAIN.NUM_WORKER,
        pin=device.type == "cuda",
        accumulate=option(cfg, "TRAIN.ACCUM_STEPS") if stream == TRAINING else 1,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def load_previous_stage(net: nn.Module, options: RunOptions) -> None:
    """Start from another stage's weights; its network may lack the score head."""
    path = options.previous.find(options.save_dir)
    load_state(net, load_checkpoint(path), path, allow_missing=("cls_head.",))
