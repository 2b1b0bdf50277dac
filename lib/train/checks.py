"""The check before a training: all problems are collected with their remedies and printed at once."""

import importlib.util
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from ..config import load_config, option
from ..config.options import REFINE
from ..data.box_files import box_doubt
from ..data.dataset import MaskedDataset, TrackingDataset
from ..data.images import ImageReadError
from ..data.registry import build_dataset, find_lack, load_dataset, waits_to_be_generated
from ..data.sequence import doubt_boxes
from ..models import build_model
from ..models.backbone import RESNETS, has_fast_bf16, imagenet_file, torch_cache
from ..utils.checkpoint import load_checkpoint, load_state
from ..utils.device import select_device
from ..utils.errors import UserError, few
from ..utils.workspace import workspace
from . import distributed
from .checkpoints import CheckpointFolder, run_checkpoints
from .distillation import STUDENT, actor_type, check_fit
from .loader import PREFETCHED
from .optimiser import compiles
from .options import RunOptions, Stage, require_unchanged
from .sampler import MIN_FRAMES, FrameSampler, check_sampling, sample_intervals, sampler_mode

# Sequences of a data set whose annotation is read, with one image of each.
SAMPLED = 20
# Batches pass from data workers through it; containers have 64 MB by default, and a worker that finds it full dies.
SHARED_MEMORY = Path("/dev/shm")

# Of one subject: `ok`, `note` (worth knowing) or `problem` (training cannot start), and a text that ends with a remedy.
Findings = Iterator[tuple[str, str]]


class Finding(NamedTuple):
    """One result; see `Findings`."""

    state: str
    subject: str
    text: str


@dataclass
class Report:
    """All findings, and the data sets that the check opened, by name."""

    findings: list[Finding] = field(default_factory=list)
    datasets: dict[str, TrackingDataset] = field(default_factory=dict)

    def collect(self, subject: str, findings: Findings) -> None:
        """Add the findings of a subject; a UserError among them is a problem, and the last one."""
        try:
            for state, text in findings:
                self.findings.append(Finding(state, subject, text))
        except UserError as error:
            self.findings.append(Finding("problem", subject, str(error)))

    def table(self) -> str:
        """A line a finding; the last line counts problems and notes."""
        width = min(40, max((len(subject) for _, subject, _ in self.findings), default=0))
        lines = [f"{subject:{width}}  {state:7}  {text}" for state, subject, text in self.findings]
        states = [finding.state for finding in self.findings]
        return "\n".join([*lines, f"problems: {states.count('problem')}, notes: {states.count('note')}"])

    def require(self) -> None:
        """Raise the table as a UserError if there are problems."""
        if any(finding.state == "problem" for finding in self.findings):
            raise UserError(f"the training cannot start\n{self.table()}")


def check_run(options: RunOptions, cfg: EasyDict) -> Report:
    """Check everything that a training needs: settings, device, weights, data sets and the output folder.

    Nothing is downloaded and nothing is written, except the annotation caches of data sets.
    """
    warnings.filterwarnings("ignore", message=".*meta parameter.*")  # weights are compared with an `outline`
    report = Report()
    report.collect("configuration", _settings(options, cfg))
    report.collect("device", _device(options, cfg))
    report.collect("LOG.TO", _loggers(option(cfg, "LOG.TO")))
    report.collect("network", _network(options, cfg))
    net = None if report.findings[-1].state == "problem" else outline(options.script, cfg)
    checkpoints = run_checkpoints(options, cfg)
    report.collect("output folder", _output(checkpoints, options, cfg, net))
    if not (checkpoints.latest.is_file() or checkpoints.previous.is_file()):
        if options.previous is not None or cfg.TRAIN.get("TRAIN_CLS", False):
            report.collect("previous stage", _previous(options, net))
        elif option(cfg, "MODEL.BACKBONE.PRETRAINED"):
            report.collect("ImageNet weights", _imagenet(cfg.MODEL.BACKBONE.TYPE))
    report.collect("teacher", _teacher(options, cfg))
    report.collect("best checkpoint", _best(options, cfg, checkpoints.best))
    for part in ("TRAIN", "VAL"):
        for name in dict.fromkeys(cfg.DATA[part].DATASETS_NAME):
            report.collect(f"{part.lower()} {name}", _dataset(name, part, report.datasets, options, cfg))
    return report


def outline(script: str, cfg: EasyDict) -> nn.Module:
    """The network without memory for its weights: their names and shapes."""
    with torch.device("meta"):
        return build_model(script, cfg)


def _settings(options: RunOptions, cfg: EasyDict) -> Findings:
    size = cfg.TRAIN.BATCH_SIZE * option(cfg, "TRAIN.ACCUM_STEPS") * distributed.world_size()
    steps = math.ceil(cfg.DATA.TRAIN.SAMPLE_PER_EPOCH / size)
    yield "ok", f"{options.script}, {options.name}: {cfg.TRAIN.EPOCH:,} epochs of {steps:,} steps of {size} samples"
    if not cfg.DATA.TRAIN.DATASETS_NAME:
        yield "problem", "DATA.TRAIN.DATASETS_NAME is empty: name a set such as COCO17"
    for key, part in ((f"DATA.{part}.DATASETS_RATIO", cfg.DATA[part]) for part in ("TRAIN", "VAL")):
        sets, ratios = len(part.DATASETS_NAME), part.DATASETS_RATIO
        if sets and (len(ratios) != sets or not sum(ratios)):
            fault = f"'{key}' is {ratios} for {sets} data sets, but must have a value for each, not all of them 0"
            yield "problem", f"{fault}: --opts {key}=[{','.join('1' * sets)}] samples them equally often"
    workers = cfg.TRAIN.NUM_WORKER * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    pixels = cfg.DATA.SEARCH.SIZE**2 + cfg.DATA.TEMPLATE.get("NUMBER", 1) * cfg.DATA.TEMPLATE.SIZE**2
    needed = workers * PREFETCHED * cfg.TRAIN.BATCH_SIZE * 4 * pixels  # three colours and a mask
    if SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(SHARED_MEMORY).free) < needed:
        text = f"data workers need {needed / 2**20:.0f} MiB in {SHARED_MEMORY}, which has {free / 2**20:.0f}"
        yield "problem", f"{text}: start the container with --shm-size=2g, or --opts TRAIN.NUM_WORKER=0"
    check_sampling(cfg)


def _device(options: RunOptions, cfg: EasyDict) -> Findings:
    device = select_device(options.device)
    compiles(cfg)
    yield "ok", str(device)
    precision = "fp16" if option(cfg, "TRAIN.AMP") is True else option(cfg, "TRAIN.AMP")
    if precision == "fp16" and device.type not in ("cuda", "cpu"):
        yield "problem", f"TRAIN.AMP fp16 does not work on {device.type}: --opts TRAIN.AMP=off, or bf16"
    elif precision == "fp16" and device.type == "cpu" or precision == "bf16" and not has_fast_bf16(device):
        yield "note", f"{precision} is slow on this {device.type}: --opts TRAIN.AMP=off is faster"


def _loggers(names: list[str]) -> Findings:
    for name in names:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # the second: a folder of this name, as wandb makes for its files
            yield "problem", f"the package {name} is not installed: pip install {name}, or leave {name} out"


def _network(options: RunOptions, cfg: EasyDict) -> Findings:
    net = outline(options.script, cfg)
    size = sum(parameter.numel() for parameter in net.parameters())
    yield "ok", f"{type(net).__name__} with {cfg.MODEL.BACKBONE.TYPE}: {size / 1e6:.2f} M weights"


def _output(checkpoints: CheckpointFolder, options: RunOptions, cfg: EasyDict, net: nn.Module | None) -> Findings:
    """The folder that the run writes to, and the checkpoint that it goes on from."""
    place = next(path for path in (options.folder.absolute(), *options.folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {place}: {error.strerror}: choose another --save_dir") from error
    needed = 3 * 4 * sum(value.numel() for value in net.state_dict().values()) if net is not None else 0
    if shutil.disk_usage(place).free < needed:
        text = f"{place} has no room for the weights of three checkpoints, {needed / 2**30:.1f} GiB"
        yield "problem", f"{text}: make room, or choose another --save_dir"
    found = checkpoints.load()
    if found is None:
        yield "ok", f"{options.folder}: a new run"
        return
    checkpoint, path = found
    if checkpoints.latest_is_damaged:
        yield "note", f"{checkpoints.latest} is damaged; the checkpoint before it is used"
    require_unchanged(options, cfg, checkpoint, path)
    if net is not None:
        load_state(net, checkpoint, path)
    epoch, end = checkpoint["epoch"], cfg.TRAIN.EPOCH
    state, left = ("ok", "training goes on") if epoch < end else ("note", "nothing is left to train")
    yield state, f"{path}: epoch {epoch} of {end} is finished: {left}"


def _previous(options: RunOptions, net: nn.Module | None) -> Findings:
    if options.previous is None:
        text = f"{options.script} trains the score head of a network with trained boxes, and none is named"
        raise UserError(f"{text}: add --script_prv stark_st1 --config_prv <config>")
    yield _weights(options.previous, options.save_dir, net)


def _weights(stage: Stage, save_dir: Path, net: nn.Module | None) -> tuple[str, str]:
    checkpoint, path = stage.load(net, save_dir)
    return "ok", f"{path}: epoch {checkpoint.get('epoch', 'unknown')}, the weights fit"


def _imagenet(backbone: str) -> Findings:
    path = imagenet_file(backbone)
    if path is None:
        remedy = f"without a network, put {RESNETS[backbone][2]} into {workspace('train').pretrained_dir}"
        yield "note", f"of {backbone}: training downloads them to {torch_cache()}: {remedy}"
    else:
        load_checkpoint(path)
        yield "ok", f"of {backbone}: {path}"


def _teacher(options: RunOptions, cfg: EasyDict) -> Findings:
    stage = options.teacher
    if stage is None:
        if cfg.TRAIN.get("DISTILL", False):
            remedy = "add --script_teacher stark_s --config_teacher <config>, or --opts TRAIN.DISTILL=false"
            raise UserError(f"TRAIN.DISTILL is true, and no teacher is named: {remedy}")
        return
    if options.script != STUDENT:
        raise UserError(f"distillation trains {STUDENT}, not {options.script}: leave out --distill")
    if stage.script == STUDENT:
        raise UserError(f"{STUDENT} cannot guide itself: name a spatial one: --script_teacher stark_s, stark_st1, …")
    teacher_cfg = stage.network_config(options.save_dir)
    teacher = outline(stage.script, teacher_cfg)
    check_fit(cfg, teacher_cfg, teacher)
    yield _weights(stage, options.save_dir, teacher)


def _best(options: RunOptions, cfg: EasyDict, path: Path) -> Findings:
    """The measure that TRAIN.KEEP_BEST names."""
    metric = option(cfg, "TRAIN.KEEP_BEST")
    if not metric:
        return
    names = (*actor_type(options, cfg).measures, *["Loss/center"] * (cfg.MODEL.get("HEAD_TYPE") == "CENTER"))
    if metric not in names:
        raise UserError(f"TRAIN.KEEP_BEST is {metric!r}, which no validation reports; valid: {', '.join(names)}")
    if not usable_validation(options, cfg)[0] or cfg.TRAIN.VAL_EPOCH_INTERVAL > cfg.TRAIN.EPOCH:
        remedy = "name sets in DATA.VAL.DATASETS_NAME, and set TRAIN.VAL_EPOCH_INTERVAL to at most TRAIN.EPOCH"
        raise UserError(f"TRAIN.KEEP_BEST needs a validation, and the run has none: {remedy}")
    yield "ok", f"by {metric} of each validation: {path}"


def usable_validation(options: RunOptions, cfg: EasyDict) -> tuple[list[str], list[float]]:
    """Names and ratios of the validation sets to use: all, or the ones that exist if some may be missing."""
    names, ratios = cfg.DATA.VAL.DATASETS_NAME, cfg.DATA.VAL.DATASETS_RATIO
    if not options.validation_may_be_missing or len(names) != len(ratios):
        return names, ratios
    there = [i for i, name in enumerate(names) if find_lack(name, use_lmdb=options.use_lmdb) is None]
    if not any(ratios[i] for i in there):
        there = []
    return [names[i] for i in there], [ratios[i] for i in there]


def check_dataset(name: str, use_lmdb: bool = False, everything: bool = False) -> Findings:
    """Open a training set as STARK-S does, and read an image of some sequences, or of `everything`."""
    options = RunOptions("stark_s", "baseline", Path(), use_lmdb=use_lmdb)
    lack = find_lack(name, use_lmdb=use_lmdb)
    if lack is not None:
        yield "problem", ": ".join(lack)
        return
    dataset = build_dataset(name, use_lmdb=use_lmdb)
    yield from _inspect(dataset, options, load_config("stark_s", "baseline"), len(dataset) if everything else SAMPLED)


def check_test_set(name: str, everything: bool = False) -> Findings:
    """Open a test set, and read the annotation and the first image of some sequences, or of `everything`."""
    sequences = load_dataset(name)
    step = 1 if everything else -(-len(sequences) // SAMPLED)
    bad = []
    for sequence in sequences[::step]:
        try:
            sequence.check_lengths()
            sequence.read_frame(0)
        except UserError as error:
            bad.append(str(error))
    yield "ok", f"{len(sequences):,} sequences; {len(sequences[::step])} read, with an image of each"
    if bad:
        yield "problem", f"{len(bad)} sequences read are unusable: {few(bad, separator='; ')}"
    notes = (sequences.report, doubt_boxes(sequences))
    yield from (("note", text) for text in notes if text)


def _dataset(name: str, part: str, opened: dict[str, TrackingDataset], options: RunOptions, cfg: EasyDict) -> Findings:
    """Open a data set of `part`, `TRAIN` or `VAL`, unless it is `opened`, and read some sequences of it."""
    lack = find_lack(name, use_lmdb=options.use_lmdb)
    if lack is not None and part == "VAL" and options.validation_may_be_missing:
        yield "note", f"{lack[0]}; training goes on without it: {lack[1]}"
    elif lack is not None:
        without = ", or train without validation: --opts DATA.VAL.DATASETS_NAME=[]" * (part == "VAL")
        yield "problem", f"{lack[0]}: {lack[1]}{without}"
    elif waits_to_be_generated(name):
        yield "ok", "is generated when training starts"
    else:
        if name not in opened:
            opened[name] = build_dataset(name, use_lmdb=options.use_lmdb, cache=options.save_dir / "cache")
        yield from _inspect(opened[name], options, cfg)


def _inspect(dataset: TrackingDataset, options: RunOptions, cfg: EasyDict, most: int = SAMPLED) -> Findings:
    """Read at most `most` sequences of a data set, the same at each call."""
    if options.script == REFINE and not isinstance(dataset, MaskedDataset):
        raise UserError("has no masks: name sets with masks, such as COCO17_masks or DAVIS:<path>")
    sampler = FrameSampler([dataset], [1], sampler_mode(cfg), sample_intervals(cfg))
    count = min(most, len(dataset))
    infos, outside, doubts = [], [], []
    bad: dict[str, list[str]] = {"annotations": [], "images": []}
    for share in (np.arange(count) + 0.5) / count:
        sequence = int(share * len(dataset))
        try:
            info = dataset.info(sequence)
            infos.append(info)
            frames = np.flatnonzero(info.visible) if info.visible.any() else np.arange(len(info))
            height, width = dataset.image(sequence, int(frames[int(share * len(frames))])).shape[:2]
        except UserError as error:
            bad["images" if isinstance(error, ImageReadError) else "annotations"].append(str(error))
            continue
        x, y, w, h = info.boxes.T
        off = info.visible & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0))
        outside += [dataset.source(sequence, int(frame)) for frame in np.flatnonzero(off)]
        doubts.append(box_doubt(info.boxes[info.visible], width, height))
    boxes, visible = sum(map(len, infos)), sum(int(info.visible.sum()) for info in infos)
    invalid = boxes - sum(int(info.valid.sum()) for info in infos)
    what = "sequences" if dataset.is_video else "objects"
    more = f"; visible in {visible:,} of {boxes:,} frames" if dataset.is_video else ""
    more += f"; {invalid:,} boxes are nan or have no area" if invalid else ""
    yield "ok", f"{len(dataset):,} {what} in {dataset.storage.locate()}; {count} read, with an image of each{more}"
    for kind, errors in bad.items():
        if errors:
            state = "problem" if len(errors) * 2 >= count else "note"
            text = f"{len(errors)} of {count} {kind} read are unusable: {few(errors, 3, '; ', 500)}"
            yield state, f"{text}: mend these files, or remove their sequences"
    unused = sum(not sampler.can_use(dataset, info) for info in infos)
    if unused:
        terms = f"a sequence needs more than {sampler.min_visible} visible frames, and {MIN_FRAMES} in all"
        state = "problem" if unused == len(infos) else "note"
        yield state, f"{unused} of {len(infos)} sequences read are never sampled: {terms}: use longer sequences"
    if outside:
        yield "note", f"{len(outside):,} of {boxes:,} boxes read are outside their image, {outside[0]} for one"
    if sum(map(bool, doubts)) * 2 > len(doubts):
        yield "note", max(doubts)
    if dataset.report:
        yield "note", dataset.report
