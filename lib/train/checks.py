"""The check before a training: all problems are collected with their remedies and printed at once."""

import math
import os
import shutil
import tempfile
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from lib.config import ConfigError, load_config, option
from lib.data.dataset import MaskedDataset, SequenceInfo, TrackingDataset
from lib.data.images import ImageReadError
from lib.data.registry import build_dataset, find_lack, waits_to_be_generated
from lib.models.backbone import has_fast_bf16
from lib.models.pretrained import imagenet_file, resnet_file_name, torch_cache
from lib.train import distributed
from lib.train.checkpoints import run_checkpoints
from lib.train.distillation import check_fit, distills
from lib.train.optimiser import compiles, parameter_groups
from lib.train.options import MASK_SCRIPT, RunOptions, Stage, build_network
from lib.train.sampler import MIN_FRAMES, FrameSampler, check_sampling, sample_intervals, sampler_mode
from lib.utils.checkpoint import CheckpointError, load_checkpoint, load_state
from lib.utils.device import available_cpus, select_device
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

WIDTH = 120
# Sequences of a data set whose annotation is read, with one image of each.
SAMPLED = 20


@dataclass(frozen=True)
class Finding:
    """One result of the check.

    Attributes:
        subject: what was checked.
        state: `ok`, `note` (worth knowing) or `problem` (training cannot start).
        detail: the result, and where.
        remedy: what to do about it; may be empty.
    """

    subject: str
    state: str
    detail: str
    remedy: str = ""

    @property
    def text(self) -> str:
        """Detail and remedy."""
        return f"{self.detail}: {self.remedy}" if self.remedy else self.detail


@dataclass
class Report:
    """All findings, and the data sets that the check opened, by name."""

    findings: list[Finding] = field(default_factory=list)
    datasets: dict[str, TrackingDataset] = field(default_factory=dict)

    def add(self, state: str, subject: str, detail: str, remedy: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(subject, state, detail, remedy))

    @property
    def problems(self) -> list[Finding]:
        """The findings that keep the training from starting."""
        return [finding for finding in self.findings if finding.state == "problem"]

    def table(self) -> str:
        """The findings as lines of `WIDTH` characters; the last line counts problems and notes."""
        width = min(40, max(len(finding.subject) for finding in self.findings))
        lines = []
        for finding in self.findings:
            first = f"{finding.subject:{width}}  {finding.state:7}  "
            wrapped = textwrap.wrap(
                finding.text, max(40, WIDTH - len(first)), break_long_words=False, break_on_hyphens=False
            )
            lines += [first + wrapped[0], *(" " * len(first) + line for line in wrapped[1:])]
        notes = sum(finding.state == "note" for finding in self.findings)
        return "\n".join([*lines, f"problems: {len(self.problems)}, notes: {notes}"])

    def require(self) -> None:
        """Stop if there are problems.

        Raises:
            UserError: all problems, a line each, with their remedies.
        """
        if self.problems:
            lines = [f"- {finding.subject}: {finding.text}" for finding in self.problems]
            raise UserError("\n".join([f"{len(lines)} problem(s) to solve before training:", *lines]))


def check_run(options: RunOptions, cfg: EasyDict) -> Report:
    """Check everything that a training needs: settings, device, weights, data sets and the output folder.

    Nothing is downloaded and nothing is written, except the annotation caches of data sets.
    """
    report = Report()
    _check_settings(report, options, cfg)
    _check_device(report, options, cfg)
    net: nn.Module | None = None
    try:
        net = outline(options.script, cfg)
        size = sum(parameter.numel() for parameter in net.parameters())
        report.add("ok", "network", f"{type(net).__name__} with {cfg.MODEL.BACKBONE.TYPE}: {size / 1e6:.2f} M weights")
    except ConfigError as error:
        report.add("problem", "network", str(error))
    begun = _check_output(report, options, cfg, net)
    _check_start(report, options, cfg, net, begun)
    _check_teacher(report, options, cfg)
    check_data(report, options, cfg)
    return report


def _check_settings(report: Report, options: RunOptions, cfg: EasyDict) -> None:
    size = cfg.TRAIN.BATCH_SIZE * option(cfg, "TRAIN.ACCUM_STEPS") * distributed.world_size()
    steps = math.ceil(cfg.DATA.TRAIN.SAMPLE_PER_EPOCH / size)
    length = f"{cfg.TRAIN.EPOCH:,} epochs of {steps:,} steps of {size} samples"
    report.add("ok", "configuration", f"{options.script}, {options.name}: {length}")
    try:
        check_sampling(cfg)
    except ConfigError as error:
        report.add("problem", "configuration", str(error))
    for part in ("TRAIN", "VAL"):
        names, ratios = cfg.DATA[part].DATASETS_NAME, cfg.DATA[part].DATASETS_RATIO
        key = f"DATA.{part}.DATASETS_RATIO"
        remedy = f"--opts {key}=[{','.join('1' * len(names))}] samples them equally often"
        if not names and part == "TRAIN":
            report.add("problem", "configuration", "DATA.TRAIN.DATASETS_NAME is empty", "name a set such as COCO17")
        elif names and len(names) != len(ratios):
            detail = f"'{key}' has {len(ratios)} values for {len(names)} data sets"
            report.add("problem", "configuration", detail, remedy)
        elif names and not sum(ratios):
            report.add("problem", "configuration", f"'{key}' is 0 for every data set", remedy)
    processes, workers, cpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), cfg.TRAIN.NUM_WORKER, available_cpus()
    if processes * workers > cpus:
        detail = f"{workers} data workers for each of {processes} process(es) share {cpus} cores"
        report.add("note", "configuration", detail, f"--opts TRAIN.NUM_WORKER={cpus // processes} may be faster")


def _check_device(report: Report, options: RunOptions, cfg: EasyDict) -> None:
    try:
        device = select_device(options.device)
        compiles(cfg)
    except UserError as error:
        report.add("problem", "device", str(error))
        return
    report.add("ok", "device", str(device))
    precision = "fp16" if option(cfg, "TRAIN.AMP") is True else option(cfg, "TRAIN.AMP")
    if precision == "fp16" and device.type not in ("cuda", "cpu"):
        report.add(
            "problem", "device", f"TRAIN.AMP fp16 does not work on {device.type}", "--opts TRAIN.AMP=off, or bf16"
        )
    elif precision == "fp16" and device.type == "cpu" or precision == "bf16" and not has_fast_bf16(device):
        report.add(
            "note", "device", f"{precision} is slow on this {device.type}", "--opts TRAIN.AMP=off is faster here"
        )


def outline(script: str, cfg: EasyDict) -> nn.Module:
    """The network without memory for its weights: their names and shapes.

    Raises:
        ConfigError: options that contradict each other.
    """
    with torch.device("meta"):
        return build_network(script, cfg)


def _fit(net: nn.Module, checkpoint: dict[str, Any], path: Path, allow_missing: Sequence[str] = ()) -> None:
    """Compare a checkpoint with an `outline`; raises CheckpointError if names or shapes differ."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*meta parameter.*")
        load_state(net, checkpoint, path, allow_missing=allow_missing)


def _check_output(report: Report, options: RunOptions, cfg: EasyDict, net: nn.Module | None) -> bool:
    """Check the folder that the run writes to; whether there is a checkpoint to go on from."""
    subject = "output folder"
    place = next(path for path in (options.folder.absolute(), *options.folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        report.add("problem", subject, f"cannot write to {place}: {error.strerror}", "choose another --save_dir")
        return False
    checkpoints = run_checkpoints(options, cfg)
    try:
        found = checkpoints.load()
        if found is not None and net is not None:
            _fit(net, *found)
    except CheckpointError as error:
        remedy = "use the options with which the run began, or choose another --save_dir"
        report.add("problem", subject, str(error), remedy)
        return False
    if found is None:
        report.add("ok", subject, f"{options.folder}: a new run")
    elif found[0]["epoch"] >= cfg.TRAIN.EPOCH:
        report.add("note", subject, f"{found[1]}: epoch {found[0]['epoch']} was the last, nothing is left to train")
    else:
        report.add("ok", subject, f"{found[1]}: goes on after epoch {found[0]['epoch']} of {cfg.TRAIN.EPOCH}")
    if checkpoints.latest_is_damaged:
        report.add("note", subject, f"{checkpoints.latest} is damaged; the checkpoint before it is used")
    if net is not None:
        # The weights, and AdamW's two means of those that learn; the third checkpoint exists while it is written.
        learning = sum(p.numel() for group in parameter_groups(net, cfg) for p in group["params"])
        needed = 3 * (4 * sum(value.numel() for value in net.state_dict().values()) + 8 * learning)
        if (free := shutil.disk_usage(place).free) < needed:
            detail = f"{free / 2**30:.1f} GiB free, three checkpoints take {needed / 2**30:.1f} GiB"
            report.add("problem", subject, detail, "make room, or choose another --save_dir")
    return found is not None


def _check_start(report: Report, options: RunOptions, cfg: EasyDict, net: nn.Module | None, begun: bool) -> None:
    """Check the weights that the first step starts from."""
    if begun:
        return
    if options.previous is not None:
        _check_stage(report, "previous stage", options.previous, options.save_dir, net)
    elif cfg.TRAIN.get("TRAIN_CLS", False):
        detail = f"{options.script} trains the score head of a network with trained boxes, and none is named"
        report.add("problem", "previous stage", detail, "add --script_prv stark_st1 --config_prv <config>")
    elif option(cfg, "MODEL.BACKBONE.PRETRAINED"):
        backbone = cfg.MODEL.BACKBONE.TYPE
        try:
            path = imagenet_file(backbone)
            if path is not None:
                load_checkpoint(path)
                report.add("ok", "ImageNet weights", f"of {backbone}: {path}")
                return
        except UserError as error:
            report.add("problem", "ImageNet weights", str(error))
            return
        remedy = f"without a network, put {resnet_file_name(backbone)} into {workspace('train').pretrained_dir}"
        report.add("note", "ImageNet weights", f"of {backbone}: training downloads them to {torch_cache()}", remedy)


def _check_teacher(report: Report, options: RunOptions, cfg: EasyDict) -> None:
    try:
        if not distills(options, cfg):
            return
        teacher_cfg = load_config(options.teacher.script, options.teacher.config)
        net = outline(options.teacher.script, teacher_cfg)
        check_fit(cfg, teacher_cfg, net)
    except UserError as error:
        report.add("problem", "teacher", str(error))
        return
    _check_stage(report, "teacher", options.teacher, options.save_dir, net)


def _check_stage(report: Report, subject: str, stage: Stage, save_dir: Path, net: nn.Module | None) -> None:
    """Check whether the weights of another run exist and fit; a score head may be missing."""
    try:
        path = stage.find(save_dir)
        checkpoint = load_checkpoint(path)
        if net is not None:
            _fit(net, checkpoint, path, allow_missing=("cls_head.",))
    except CheckpointError as error:
        command = f"python tracking/train.py --script {stage.script} --config {stage.config}"
        remedy = "correct the path" if stage.checkpoint is not None else f"`{command}` trains it"
        report.add("problem", subject, str(error), remedy)
        return
    report.add("ok", subject, f"{path}: epoch {checkpoint.get('epoch', 'unknown')}, the weights fit")


def usable_validation(options: RunOptions, cfg: EasyDict) -> tuple[list[str], list[float]]:
    """Names and ratios of the validation sets to use: all, or the ones that exist if some may be missing.

    Raises:
        UserError: the name of one is unknown.
    """
    names, ratios = cfg.DATA.VAL.DATASETS_NAME, cfg.DATA.VAL.DATASETS_RATIO
    if not options.validation_may_be_missing or len(names) != len(ratios):
        return names, ratios
    there = [i for i, name in enumerate(names) if find_lack(name, use_lmdb=options.use_lmdb) is None]
    if not any(ratios[i] for i in there):
        return [], []
    return [names[i] for i in there], [ratios[i] for i in there]


def check_data(report: Report, options: RunOptions, cfg: EasyDict) -> None:
    """Open every data set of training and validation once, and read some sequences of it."""
    results: dict[str, list[Finding]] = {}
    for part in ("TRAIN", "VAL"):
        for name in dict.fromkeys(cfg.DATA[part].DATASETS_NAME):
            subject, optional = f"{part.lower()} {name}", part == "VAL" and options.validation_may_be_missing
            try:
                lack = find_lack(name, use_lmdb=options.use_lmdb)
                if lack is not None:
                    remedy = lack[1] + (
                        ", or train without validation: --opts DATA.VAL.DATASETS_NAME=[]" * (part == "VAL")
                    )
                    detail = f"{lack[0]}; training goes on without it" if optional else lack[0]
                    report.add("note" if optional else "problem", subject, detail, remedy)
                elif name not in results and waits_to_be_generated(name):
                    report.add("ok", subject, "is generated when training starts")
                else:
                    if name not in results:
                        dataset = build_dataset(name, use_lmdb=options.use_lmdb, cache=options.cache)
                        report.datasets[name] = dataset
                        results[name] = list(_inspect(dataset, options, cfg))
                    report.findings += [Finding(subject, *found) for found in results[name]]
            except UserError as error:
                report.add("problem", subject, str(error).removeprefix(f"{name}: "))


def _inspect(dataset: TrackingDataset, options: RunOptions, cfg: EasyDict) -> Iterator[tuple[str, ...]]:
    """Read some sequences of a data set, the same at each call; gives (state, detail, remedy)."""
    if options.script == MASK_SCRIPT and not isinstance(dataset, MaskedDataset):
        yield "problem", "has no masks", "name sets with masks, such as COCO17_masks or DAVIS:<path>"
        return
    needed = FrameSampler([dataset], [1], sampler_mode(cfg), sample_intervals(cfg)).min_visible
    count = min(SAMPLED, len(dataset))
    bad_annotations, bad_images, outside = [], [], []
    usable = boxes = visible = invalid = 0
    for number in range(count):
        share = (number + 0.5) / count
        sequence = int(share * len(dataset))
        try:
            info = dataset.info(sequence)
        except UserError as error:
            bad_annotations.append(str(error))
            continue
        seen = np.flatnonzero(info.visible)
        usable += not dataset.is_video or (len(seen) > needed and len(info) >= MIN_FRAMES)
        boxes, visible = boxes + len(info), visible + len(seen)
        invalid += np.count_nonzero(~info.valid)
        frames = seen if len(seen) else np.arange(len(info))
        try:
            height, width = dataset.image(sequence, int(frames[int(share * len(frames))])).shape[:2]
        except ImageReadError as error:
            bad_images.append(str(error))
            continue
        outside += [dataset.source(sequence, int(frame)) for frame in _outside(info, width, height)]
    what = "sequences" if dataset.is_video else "objects"
    seen_in = f"; visible in {visible:,} of {boxes:,} frames" if dataset.is_video else ""
    seen_in += f"; {invalid:,} boxes are nan or have no area" if invalid else ""
    yield "ok", f"{len(dataset):,} {what} in {dataset.storage.locate()}; {count} read, with an image of each{seen_in}"
    for kind, errors, remedy in (
        ("annotations", bad_annotations, "mend these files, or remove their sequences"),
        ("images", bad_images, "copy or unpack these files again"),
    ):
        if errors:
            state = "problem" if len(errors) * 2 >= count else "note"
            more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
            yield state, f"{len(errors)} of {count} {kind} read are unusable: {'; '.join(errors[:3])}{more}", remedy
    readable = count - len(bad_annotations)
    terms = f"more than {needed} visible frames, and {MIN_FRAMES} in all"
    if readable and not usable:
        yield "problem", f"none of the {readable} sequences read has {terms}", "use longer sequences"
    elif usable < readable:
        yield "note", f"{readable - usable} of {readable} sequences read are never sampled: a sequence needs {terms}"
    if outside:
        yield "note", f"{len(outside):,} of {boxes:,} boxes read are outside their image, {outside[0]} for one"


def _outside(info: SequenceInfo, width: int, height: int) -> np.ndarray:
    """The visible frames whose box has no pixel in an image of that size."""
    x, y, w, h = info.boxes.T
    return np.flatnonzero(info.visible & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)))
