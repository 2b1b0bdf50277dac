"""Putting a training run together from its configuration."""

import contextlib
import logging
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from easydict import EasyDict

from ..config import load_config, option
from ..config.options import REFINE, ST1, ST2
from ..data.dataset import TrackingDataset
from ..data.registry import build_dataset
from ..models import build_model
from ..models.inference import prepare_for_tracking
from ..utils.errors import UserError
from ..utils.files import locked
from ..utils.workspace import IN_CHECKOUT, provenance, workspace
from . import distributed
from .checks import Report, check_run, usable_validation
from .loader import BatchLoader, SampleStream
from .log import RunLog
from .loggers import REMEDIES
from .losses import Teacher, actor_type
from .optimiser import Optimisation, choose_arithmetic
from .options import CheckpointFolder, RunOptions, Stage
from .processing import MaskProcessing, Processing
from .sampler import FrameSampler, sample_intervals, sampler_mode
from .trainer import Trainer

# Data workers of a killed run hold its lock until they see that it ended.
SECONDS_FOR_LOCK = 15

log = logging.getLogger(__name__)


def train(options: RunOptions) -> dict[str, dict[str, float]]:
    """Train an experiment to its last epoch, or go on with it; see `Trainer.fit`."""
    cfg = load_config(options.script, options.config, options.overrides)
    with distributed.joined(options.device) as device, _failures_named(), contextlib.ExitStack() as held:
        is_first, report = distributed.rank() == 0, Report()
        if is_first:
            report = check_run(options, cfg)
            report.require()
            try:
                held.enter_context(locked(options.folder, SECONDS_FOR_LOCK))
            except TimeoutError as error:
                remedy = "wait for it, stop it, or choose another --save_dir"
                raise UserError(f"another run writes to {options.folder}: {remedy}") from error
        distributed.gathered(None)  # the others wait for the check
        name, events = f"{options.script}-{options.name}", workspace("train").tensorboard_for(options.save_dir)
        output = RunLog(options.save_dir, name, is_first, events, option(cfg, "LOG.TO"))
        held.push(lambda error, *_: output.close(failed=error is not None))
        log.info(report.table())
        made_by = provenance()
        output.configuration(cfg, made_by)
        trainer = build_trainer(options, cfg, device, output, report, made_by)
        reached = trainer.fit()
        log.info(closing_line(options, cfg, trainer))
        return reached


def closing_line(options: RunOptions, cfg: EasyDict, trainer: Trainer) -> str:
    """The last line of a run that trained to its end: what it reached, where the weights are, the next command."""
    parts = [f"trained {trainer.epoch} epochs"]
    for loader, means in trainer.stats.items():
        measure = next(name for name in ("IoU", *reversed(trainer.actor.measures), *means) if name in means)
        parts.append(f"{measure} {means[measure]:.3f} in {loader}")
    weights = trainer.checkpoints.latest
    if trainer.best and trainer.checkpoints.best.is_file():
        weights = trainer.checkpoints.best
        parts.append(f"best {trainer.best['metric']} {trainer.best['value']:.3f} after epoch {trainer.best['epoch']}")
    if options.script == ST1:
        names = ["--script", ST2, "--config", options.name, "--save_dir", options.save_dir]
        command = ["train", *names, "--script_prv", ST1, "--config_prv", options.config]
        data = [each for each in options.overrides if each.startswith("DATA.")]
        command += ["--use_lmdb", 1] * options.use_lmdb + ["--opts", *data] * bool(data)
    elif options.script == REFINE:
        command = ["video_demo", "VIDEO", "--refine", options.config, "--refine_checkpoint", weights]
    else:
        folders = [name.replace("FOLDER", "folder", 1) for name in cfg.DATA.VAL.DATASETS_NAME if "FOLDER:" in name]
        dataset = [*folders, "got10k_test" if "got10k" in options.name else "lasot"][0]
        tracker = options.script.replace(ST2, "stark_st")
        command = ["test", tracker, options.config, "--dataset", dataset, "--checkpoint", weights]
    program, *words = map(str, command)
    program = ["python", f"tracking/{program}.py"] if IN_CHECKOUT else ["stark", program.replace("video_demo", "track")]
    return f"{', '.join(parts)}; weights: {weights}; next: {shlex.join([*program, *words])}"


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    """Raise a UserError where memory is short, a process that makes samples died, or a logger's package fails."""
    going_on = "the same command goes on from the last checkpoint"
    try:
        yield
    except torch.OutOfMemoryError as error:
        remedy = "lower TRAIN.BATCH_SIZE and raise TRAIN.ACCUM_STEPS, or set TRAIN.AMP=bf16"
        fault = f"out of memory on the device ({str(error).splitlines()[0]})"
        raise UserError(f"{fault}: {remedy}; {going_on}") from error
    except RuntimeError as error:
        # The loader's error comes by a signal, so anywhere, and what it interrupts may raise another one.
        cause: BaseException | None = error
        while cause is not None and not str(cause).startswith("DataLoader worker (pid"):
            cause = cause.__context__
        if cause is None:
            raise
        fault = f"a process that makes samples died, perhaps for lack of memory ({' '.join(str(cause).split())})"
        remedy = "lower TRAIN.NUM_WORKER or TRAIN.BATCH_SIZE, or start the container with --shm-size=2g"
        raise UserError(f"{fault}: {remedy}; {going_on}") from error
    except Exception as error:
        logger = type(error).__module__.partition(".")[0]
        if logger not in REMEDIES:
            raise
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"{logger}: {text}: {REMEDIES[logger]}, or leave {logger} out of LOG.TO") from error


def build_trainer(
    options: RunOptions, cfg: EasyDict, device: torch.device, output: RunLog, report: Report, made_by: Mapping[str, str]
) -> Trainer:
    """All parts of a run, with the data sets that the check opened; checkpoints keep what the run is `made_by`."""
    seed, is_first = option(cfg, "TRAIN.SEED"), distributed.rank() == 0
    torch.manual_seed(seed)  # initial weights, alike on all ranks
    loader, validation = (_build_loader(options, cfg, train, device, report.datasets) for train in (True, False))
    checkpoints = CheckpointFolder(options, cfg)
    if is_first:
        checkpoints.clear_unfinished()
    found = checkpoints.load()
    states = distributed.gathered(found and (found[0]["epoch"], found[0].get("progress")))
    if any(state != states[0] for state in states):
        remedy = "--save_dir must be one storage for all machines; if it is, one saw an older state: start again"
        raise UserError(f"the processes find different checkpoints in {options.folder}: {remedy}")
    # Rank 0 alone fetches ImageNet weights; joining the ranks gives every one its values.
    net = build_model(options.script, cfg, pretrained=found is None and options.previous is None and is_first)
    if found is None and options.previous is not None:
        options.previous.load(net, options.save_dir)
    net = net.to(device, memory_format=torch.channels_last)
    choose_arithmetic(net, cfg, device)
    optimisation = Optimisation(net, cfg, device, loader.steps)
    teacher = [load_teacher(options.teacher, options.save_dir, device)] if options.teacher is not None else []
    actor = actor_type(options, cfg)(distributed.wrap(net, device), cfg, device, *teacher)
    settings = {"script_name": options.script, "config_name": options.name, "seed": seed, "config": cfg, **made_by}
    trainer = Trainer(net, actor, cfg, loader, validation, optimisation, checkpoints, output, settings)
    if found is None:
        output.begin()
    else:
        trainer.resume(*found)
    return trainer


def load_teacher(stage: Stage, save_dir: Path, device: torch.device) -> Teacher:
    """The trained network that a stage names, built as its checkpoint says; errors as of `Stage.load`."""
    cfg = stage.network_config(save_dir)
    net = build_model(stage.script, cfg)
    stage.load(net, save_dir)
    return Teacher(prepare_for_tracking(net).to(device, memory_format=torch.channels_last), cfg, device)


def _build_loader(
    options: RunOptions, cfg: EasyDict, train: bool, device: torch.device, opened: Mapping[str, TrackingDataset]
) -> BatchLoader | None:
    """Batches of the training or the validation sets; None where there are no such sets."""
    part = cfg.DATA.TRAIN if train else cfg.DATA.VAL
    sets = list(zip(part.DATASETS_NAME, part.DATASETS_RATIO, strict=True)) if train else usable_validation(options, cfg)
    if not sets:
        return None
    names, ratios = zip(*sets, strict=True)
    cache = options.save_dir / "cache"
    datasets = [opened.get(name) or build_dataset(name, None, options.use_lmdb, cache) for name in names]
    for dataset in datasets:
        dataset.keep_annotations()
    negatives = cfg.TRAIN.get("TRAIN_CLS", False)
    sampler = FrameSampler(datasets, ratios, sampler_mode(cfg), sample_intervals(cfg), negatives)
    processing = (MaskProcessing if options.script == REFINE else Processing)(cfg, augment=train)
    return BatchLoader(
        SampleStream(sampler, processing, option(cfg, "TRAIN.SEED"), stream=0 if train else 1),
        part.SAMPLE_PER_EPOCH,
        cfg.TRAIN.BATCH_SIZE,
        cfg.TRAIN.NUM_WORKER,
        pin=device.type == "cuda",
        accumulate=option(cfg, "TRAIN.ACCUM_STEPS") if train else 1,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
