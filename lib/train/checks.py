"""The check before a training: all problems are collected with their remedies and printed at once."""

import importlib.util
import math
import os
import shutil
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
from ..models.layers import MLP
from ..utils.checkpoint import load_checkpoint, load_state
from ..utils.device import select_device
from ..utils.errors import UserError, few
from ..utils.workspace import workspace
from . import distributed
from .loader import PREFETCHED
from .losses import STUDENT, actor_type
from .optimiser import compiles
from .options import CheckpointFolder, RunOptions, Stage, require_unchanged
from .sampler import MIN_FRAMES, FrameSampler, check_sampling, sample_intervals, sampler_mode

# Sequences of a data set whose annotation is read, with one image of each.
SAMPLED = 20

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
    report, checkpoints = Report(), CheckpointFolder(options, cfg)
    report.collect("configuration", _settings(options, cfg))
    report.collect("device", _device(options, cfg))
    report.collect("network", _network(options, cfg))
    if report.findings[-1].state == "ok":
        _check_weights(report, checkpoints, options, cfg)
    report.collect("best checkpoint", _best(options, cfg, checkpoints.best))
    for part in ("TRAIN", "VAL"):
        for name in dict.fromkeys(cfg.DATA[part].DATASETS_NAME):
            report.collect(f"{part.lower()} {name}", _dataset(name, part, report.datasets, options, cfg))
    return report


def _check_weights(report: Report, checkpoints: CheckpointFolder, options: RunOptions, cfg: EasyDict) -> None:
    """Check the output folder, and all weights that the run begins with."""
    net = outline(options.script, cfg)
    report.collect("output folder", _output(checkpoints, options, cfg, net))
    if not (checkpoints.latest.is_file() or checkpoints.previous.is_file()):
        if options.previous is not None:
            report.collect("previous stage", _weights(options.previous, options.save_dir, net))
        elif cfg.TRAIN.get("TRAIN_CLS", False):
            text = f"{options.script} trains the score head of a network with trained boxes, and none is named"
            fault = "problem", f"{text}: add --script_prv stark_st1 --config_prv <config>"
            report.collect("previous stage", iter([fault]))
        elif option(cfg, "MODEL.BACKBONE.PRETRAINED"):
            report.collect("ImageNet weights", _imagenet(cfg.MODEL.BACKBONE.TYPE))
    if options.teacher is not None:
        report.collect("teacher", _teacher(options, cfg))


def outline(script: str, cfg: EasyDict) -> nn.Module:
    """The network without memory for its weights: their names and shapes."""
    with torch.device("meta"):
        return build_model(script, cfg)


def _settings(options: RunOptions, cfg: EasyDict) -> Findings:
    if not cfg.DATA.TRAIN.DATASETS_NAME:
        yield "problem", "DATA.TRAIN.DATASETS_NAME is empty: name a set such as COCO17"
    for key, part in ((f"DATA.{part}.DATASETS_RATIO", cfg.DATA[part]) for part in ("TRAIN", "VAL")):
        sets, ratios = len(part.DATASETS_NAME), part.DATASETS_RATIO
        if sets and (len(ratios) != sets or not sum(ratios)):
            fault = f"'{key}' is {ratios} for {sets} data sets, but must have a value for each, not all of them 0"
            yield "problem", f"{fault}: --opts {key}=[{','.join('1' * sets)}] samples them equally often"
    for name in option(cfg, "LOG.TO"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # the second: a folder of this name, as wandb makes for its files
            yield "problem", f"LOG.TO: the package {name} is not installed: pip install {name}, or leave {name} out"
    # Batches pass from data workers through it; containers have 64 MB by default, and a worker that finds it full dies.
    shared, workers = Path("/dev/shm"), cfg.TRAIN.NUM_WORKER * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    pixels = cfg.DATA.SEARCH.SIZE**2 + cfg.DATA.TEMPLATE.get("NUMBER", 1) * cfg.DATA.TEMPLATE.SIZE**2
    needed = workers * PREFETCHED * cfg.TRAIN.BATCH_SIZE * 4 * pixels  # three colours and a mask
    if shared.is_dir() and (free := shutil.disk_usage(shared).free) < needed:
        text = f"data workers need {needed / 2**20:.0f} MiB in {shared}, which has {free / 2**20:.0f}"
        yield "problem", f"{text}: start the container with --shm-size=2g, or --opts TRAIN.NUM_WORKER=0"
    check_sampling(cfg)
    size = cfg.TRAIN.BATCH_SIZE * option(cfg, "TRAIN.ACCUM_STEPS") * distributed.world_size()
    steps = math.ceil(cfg.DATA.TRAIN.SAMPLE_PER_EPOCH / size)
    yield "ok", f"{options.script}, {options.name}: {cfg.TRAIN.EPOCH:,} epochs of {steps:,} steps of {size} samples"


def _device(options: RunOptions, cfg: EasyDict) -> Findings:
    device, precision = select_device(options.device), option(cfg, "TRAIN.AMP")
    compiles(cfg)
    yield "ok", str(device)
    is_fp16 = precision in (True, "fp16")
    if is_fp16 and device.type not in ("cuda", "cpu"):
        yield "problem", f"TRAIN.AMP fp16 does not work on {device.type}: --opts TRAIN.AMP=off, or bf16"
    elif is_fp16 and device.type == "cpu" or precision == "bf16" and not has_fast_bf16(device):
        yield "note", f"TRAIN.AMP={precision} is slow on this {device.type}: --opts TRAIN.AMP=off is faster"


def _network(options: RunOptions, cfg: EasyDict) -> Findings:
    yield "ok", f"{type(outline(options.script, cfg)).__name__} with {cfg.MODEL.BACKBONE.TYPE}"


def _output(checkpoints: CheckpointFolder, options: RunOptions, cfg: EasyDict, net: nn.Module) -> Findings:
    """The folder that the run writes to, and the checkpoint that it goes on from."""
    place = next(path for path in (options.folder.absolute(), *options.folder.absolute().parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise UserError(f"cannot write to {place}: choose another --save_dir")
    needed = 3 * 4 * sum(value.numel() for value in net.state_dict().values())
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
    load_state(net, checkpoint, path)
    epoch, end = checkpoint["epoch"], cfg.TRAIN.EPOCH
    state, left = ("ok", "training goes on") if epoch < end else ("note", "nothing is left to train")
    yield state, f"{path}: epoch {epoch} of {end} is finished: {left}"


def _weights(stage: Stage, save_dir: Path, net: nn.Module) -> Findings:
    checkpoint, path = stage.load(net, save_dir)
    yield "ok", f"{path}: epoch {checkpoint.get('epoch', 'unknown')}, the weights fit"


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
    if options.script != STUDENT:
        raise UserError(f"distillation trains {STUDENT}, not {options.script}: leave out --distill")
    if stage.script == STUDENT:
        raise UserError(f"{STUDENT} cannot guide itself: name a spatial one: --script_teacher stark_s, stark_st1, …")
    teacher_cfg = stage.network_config(options.save_dir)
    teacher = outline(stage.script, teacher_cfg)
    check_fit(cfg, teacher_cfg, teacher)
    yield from _weights(stage, options.save_dir, teacher)


def check_fit(cfg: EasyDict, teacher_cfg: EasyDict, teacher: nn.Module) -> None:
    """Raise a UserError unless a teacher gives corner maps of the student's cells, from crops like those it knows."""
    if isinstance(teacher.box_head, MLP):
        raise UserError("the teacher's MODEL.HEAD_TYPE MLP gives no corner maps: name a teacher with a corner head")
    if cfg.MODEL.HEAD_TYPE == "CENTER":
        raise UserError("the student's MODEL.HEAD_TYPE CENTER has no corner maps to guide: give it a corner head")
    side = teacher_cfg.DATA.SEARCH.SIZE // teacher.extractor.stride
    pairs = [("side of the feature map", cfg.DATA.SEARCH.FEAT_SIZE, side)]
    for region, key in (("SEARCH", "SIZE"), ("SEARCH", "FACTOR"), ("TEMPLATE", "SIZE"), ("TEMPLATE", "FACTOR")):
        pairs.append((f"DATA.{region}.{key}", cfg.DATA[region][key], teacher_cfg.DATA[region][key]))
    differ = [f"{name} is {its}, the student's {ours}" for name, ours, its in pairs if ours != its]
    if differ:
        raise UserError(f"the teacher's {'; '.join(differ)}: both see the same crops; name a teacher trained on such")


def _best(options: RunOptions, cfg: EasyDict, path: Path) -> Findings:
    """The measure that TRAIN.KEEP_BEST names."""
    metric = option(cfg, "TRAIN.KEEP_BEST")
    if not metric:
        return
    names = (*actor_type(options, cfg).measures, *["Loss/center"] * (cfg.MODEL.get("HEAD_TYPE") == "CENTER"))
    if metric not in names:
        raise UserError(f"TRAIN.KEEP_BEST is {metric!r}, which no validation reports; valid: {', '.join(names)}")
    if not usable_validation(options, cfg) or cfg.TRAIN.VAL_EPOCH_INTERVAL > cfg.TRAIN.EPOCH:
        remedy = "name sets in DATA.VAL.DATASETS_NAME, and set TRAIN.VAL_EPOCH_INTERVAL to at most TRAIN.EPOCH"
        raise UserError(f"TRAIN.KEEP_BEST needs a validation, and the run has none: {remedy}")
    yield "ok", f"by {metric} of each validation: {path}"


def usable_validation(options: RunOptions, cfg: EasyDict) -> list[tuple[str, float]]:
    """The validation sets to use, with their ratios: all, or the ones that exist if some may be missing."""
    sets = list(zip(cfg.DATA.VAL.DATASETS_NAME, cfg.DATA.VAL.DATASETS_RATIO, strict=False))
    if options.validation_may_be_missing:
        sets = [each for each in sets if find_lack(each[0], use_lmdb=options.use_lmdb) is None]
    return sets if any(ratio for _, ratio in sets) else []


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
        if options.script == REFINE and not isinstance(opened[name], MaskedDataset):
            raise UserError("has no masks: name sets with masks, such as COCO17_masks or DAVIS:<path>")
        yield from _inspect(opened[name], cfg, SAMPLED)


def check_dataset(name: str, use_lmdb: bool = False, everything: bool = False) -> Findings:
    """Open a training set as STARK-S does, and read an image of some sequences, or of `everything`."""
    dataset = build_dataset(name, use_lmdb=use_lmdb)
    yield from _inspect(dataset, load_config("stark_s", "baseline"), len(dataset) if everything else SAMPLED)


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


def _inspect(dataset: TrackingDataset, cfg: EasyDict, most: int) -> Findings:
    """Read at most `most` sequences of a data set, with one image of each; the same at each call."""
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
    boxes, visible, valid = np.sum([(len(i), i.visible.sum(), i.valid.sum()) for i in infos] or [(0, 0, 0)], axis=0)
    what = "sequences" if dataset.is_video else "objects"
    more = f"; visible in {visible:,} of {boxes:,} frames" if dataset.is_video else ""
    more += f"; {boxes - valid:,} boxes are nan or have no area" if valid < boxes else ""
    yield "ok", f"{len(dataset):,} {what} in {dataset.storage.locate()}; {count} read, with an image of each{more}"
    for kind, errors in bad.items():
        if errors:
            state = "problem" if len(errors) * 2 >= count else "note"
            text = f"{len(errors)} of {count} {kind} read are unusable: {few(errors, 3, '; ', 500)}"
            yield state, f"{text}: mend these files, or remove the {what}"
    unused = sum(not sampler.can_use(dataset, info) for info in infos)
    if unused:
        terms = f"a sequence needs more than {sampler.min_visible} visible frames, and {MIN_FRAMES} in all"
        state = "problem" if unused == len(infos) else "note"
        yield state, f"{unused} of {len(infos)} sequences read are never sampled: {terms}: use longer sequences"
    notes = [dataset.report, max(doubts) if sum(map(bool, doubts)) * 2 > len(doubts) else ""]
    if outside:
        notes.append(f"{len(outside):,} of {boxes:,} boxes read are outside their image, {outside[0]} for one")
    yield from (("note", text) for text in notes if text)
