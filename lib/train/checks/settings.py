"""What a configuration says, held against itself and the machine."""

import math
import os
from collections.abc import Iterator

import torch
from easydict import EasyDict

from lib.config import ConfigError, option
from lib.models.backbone import has_fast_bf16
from lib.train import distributed
from lib.train.checks.report import Finding, note, ok, problem
from lib.train.optimiser import compiles
from lib.train.options import RunOptions
from lib.utils.device import select_device
from lib.utils.errors import UserError

SUBJECT = "configuration"


def check_sampling(cfg: EasyDict) -> None:
    """The number of templates has to be what the sampler gives, and there is one search frame.

    Raises:
        ConfigError: `SAMPLER_MODE`, `MAX_SAMPLE_INTERVAL` and the numbers of frames contradict each other.
    """
    if cfg.DATA.SEARCH.get("NUMBER", 1) != 1:
        raise ConfigError("'DATA.SEARCH.NUMBER' must be 1: the network searches one frame")
    mode, templates, intervals = sampler_mode(cfg), cfg.DATA.TEMPLATE.get("NUMBER", 1), sample_intervals(cfg)
    if mode == "causal" and len(intervals) != 1:
        raise ConfigError(f"'DATA.MAX_SAMPLE_INTERVAL' is {intervals}, but SAMPLER_MODE causal takes one interval")
    if templates != (1 if mode == "causal" else 1 + len(intervals)):
        raise ConfigError(
            f"'DATA.TEMPLATE.NUMBER' is {templates}, but SAMPLER_MODE {mode} with MAX_SAMPLE_INTERVAL {intervals} "
            "gives another number: causal one template, the others one more than there are intervals"
        )


def sampler_mode(cfg: EasyDict) -> str:
    """DATA.SAMPLER_MODE; configurations without it sample causally."""
    return cfg.DATA.get("SAMPLER_MODE", "causal")


def sample_intervals(cfg: EasyDict) -> list[int]:
    """DATA.MAX_SAMPLE_INTERVAL, which may be one number."""
    intervals = cfg.DATA.MAX_SAMPLE_INTERVAL
    return intervals if isinstance(intervals, list) else [intervals]


def check_device(options: RunOptions, cfg: EasyDict) -> Iterator[Finding]:
    """Whether the device is there and takes to the arithmetic that was asked for."""
    try:
        device = select_device(options.device)
    except UserError as error:
        yield problem("device", str(error))
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _count_of_cores()
    yield ok("device", f"{device}: {name}")
    try:
        compiles(cfg)
    except UserError as error:
        yield problem("device", str(error))
    precision = "fp16" if option(cfg, "TRAIN.AMP") is True else option(cfg, "TRAIN.AMP")
    if precision == "fp16" and device.type not in ("cuda", "cpu"):
        yield problem("device", f"TRAIN.AMP fp16 does not work on {device.type}", "--opts TRAIN.AMP=off, or bf16")
    elif precision == "fp16" and device.type == "cpu":
        yield note("device", "TRAIN.AMP fp16 is slow on a CPU", "--opts TRAIN.AMP=off is faster here")
    elif precision == "bf16" and not has_fast_bf16(device):
        yield note("device", f"this {device.type} only emulates bf16", "--opts TRAIN.AMP=off is faster here")


def check_settings(options: RunOptions, cfg: EasyDict) -> Iterator[Finding]:
    """Options that contradict each other, and what a run of them comes to."""
    yield ok(SUBJECT, f"{options.script}, {options.name}: {_length(cfg)}")
    try:
        check_sampling(cfg)
    except ConfigError as error:
        yield problem(SUBJECT, str(error))
    yield from _check_ratios(cfg)
    processes, workers = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), cfg.TRAIN.NUM_WORKER
    if processes * workers > _cores():
        each = f" for each of {processes} processes" if processes > 1 else ""
        yield note(
            SUBJECT,
            f"{workers} data workers{each} share {_count_of_cores()}",
            f"--opts TRAIN.NUM_WORKER={_cores() // processes} may be faster",
        )


def _length(cfg: EasyDict) -> str:
    """Steps and samples of a run, in words."""
    batches, processes = option(cfg, "TRAIN.ACCUM_STEPS"), distributed.world_size()
    size = cfg.TRAIN.BATCH_SIZE * batches * processes
    steps = math.ceil(cfg.DATA.TRAIN.SAMPLE_PER_EPOCH / size)
    factors = [f"batches of {cfg.TRAIN.BATCH_SIZE}"]
    factors += [f"{batches} of them a step"] * (batches > 1) + [f"{processes} processes"] * (processes > 1)
    return (
        f"{cfg.TRAIN.EPOCH:,} epochs of {steps:,} steps, {', '.join(factors)}: "
        f"{steps * size * cfg.TRAIN.EPOCH:,} samples in all"
    )


def _check_ratios(cfg: EasyDict) -> Iterator[Finding]:
    """A ratio for each data set, not all of them 0."""
    for part in ("TRAIN", "VAL"):
        names, ratios = cfg.DATA[part].DATASETS_NAME, cfg.DATA[part].DATASETS_RATIO
        key = f"DATA.{part}.DATASETS_RATIO"
        alike = f"--opts {key}=[{','.join('1' * len(names))}] draws them equally often"
        if not names and part == "TRAIN":
            yield problem(SUBJECT, "DATA.TRAIN.DATASETS_NAME names no data set", "name one, such as COCO17")
        elif names and len(names) != len(ratios):
            yield problem(SUBJECT, f"'{key}' has {len(ratios)} values for {len(names)} data sets", alike)
        elif names and not sum(ratios):
            yield problem(SUBJECT, f"'{key}' is 0 for every data set", alike)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count_of_cores() -> str:
    return "one core" if _cores() == 1 else f"{_cores()} cores"
