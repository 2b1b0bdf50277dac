"""The check before a training: all problems are collected with their remedies and printed at once."""

import contextlib
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

from lib.config import load_config, option
from lib.data.box_files import box_doubt
from lib.data.dataset import MaskedDataset, TrackingDataset
from lib.data.images import ImageReadError
from lib.data.registry import build_dataset, find_lack, waits_to_be_generated
from lib.models.backbone import has_fast_bf16
from lib.models.pretrained import imagenet_file, resnet_file_name, torch_cache
from lib.train import distributed
from lib.train.checkpoints import run_checkpoints
from lib.train.distillation import check_fit, distills
from lib.train.loader import PREFETCHED
from lib.train.optimiser import compiles
from lib.train.options import MASK_SCRIPT, RunOptions, Stage, build_network, require_unchanged
from lib.train.sampler import MIN_FRAMES, FrameSampler, check_sampling, sample_intervals, sampler_mode
from lib.utils.checkpoint import load_checkpoint, load_state
from lib.utils.device import select_device
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

# Sequences of a data set whose annotation is read, with one image of each.
SAMPLED = 20
# Batches pass from data workers through it; containers have 64 MB by default, and a worker that finds it full dies.
SHARED_MEMORY = Path("/dev/shm")


class Finding(NamedTuple):
    """One result: `ok`, `note` (worth knowing) or `problem` (training cannot start). The text ends with a remedy."""

    state: str
    subject: str
    text: str


@dataclass
class Report:
    """All findings, and the data sets that the check opened, by name."""

    findings: list[Finding] = field(default_factory=list)
    datasets: dict[str, TrackingDataset] = field(default_factory=dict)

    def add(self, state: str, subject: str, text: str) -> None:
        self.findings.append(Finding(state, subject, text))

    @contextlib.contextmanager
    def problems_of(self, subject: str, remedy: str = "") -> Iterator[None]:
        """A UserError in the body becomes a problem, and the check goes on."""
        try:
            yield
        except UserError as error:
            self.add("problem", subject, f"{error}: {remedy}" if remedy else str(error))

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
    _check_settings(report, options, cfg)
    with report.problems_of("device"):
        _check_device(report, options, cfg)
    net: nn.Module | None = None
    with report.problems_of("network"):
        net = outline(options.script, cfg)
        size = sum(parameter.numel() for parameter in net.parameters())
        report.add("ok", "network", f"{type(net).__name__} with {cfg.MODEL.BACKBONE.TYPE}: {size / 1e6:.2f} M weights")
    if not _check_output(report, options, cfg, net):
        _check_start(report, options, cfg, net)
    with report.problems_of("teacher"):
        if distills(options, cfg):
            teacher_cfg = load_config(options.teacher.script, options.teacher.config)
            teacher = outline(options.teacher.script, teacher_cfg)
            check_fit(cfg, teacher_cfg, teacher)
            _check_stage(report, "teacher", options.teacher, options.save_dir, teacher)
    _check_data(report, options, cfg)
    return report


def _check_settings(report: Report, options: RunOptions, cfg: EasyDict) -> None:
    subject = "configuration"
    size = cfg.TRAIN.BATCH_SIZE * option(cfg, "TRAIN.ACCUM_STEPS") * distributed.world_size()
    steps = math.ceil(cfg.DATA.TRAIN.SAMPLE_PER_EPOCH / size)
    length = f"{cfg.TRAIN.EPOCH:,} epochs of {steps:,} steps of {size} samples"
    report.add("ok", subject, f"{options.script}, {options.name}: {length}")
    with report.problems_of(subject):
        check_sampling(cfg)
    if not cfg.DATA.TRAIN.DATASETS_NAME:
        report.add("problem", subject, "DATA.TRAIN.DATASETS_NAME is empty: name a set such as COCO17")
    for key, part in ((f"DATA.{part}.DATASETS_RATIO", cfg.DATA[part]) for part in ("TRAIN", "VAL")):
        sets, ratios = len(part.DATASETS_NAME), part.DATASETS_RATIO
        if sets and (len(ratios) != sets or not sum(ratios)):
            fault = (
                "is 0 for every data set" if len(ratios) == sets else f"has {len(ratios)} values for {sets} data sets"
            )
            remedy = f"--opts {key}=[{','.join('1' * sets)}] samples them equally often"
            report.add("problem", subject, f"'{key}' {fault}: {remedy}")
    workers = cfg.TRAIN.NUM_WORKER * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    pixels = cfg.DATA.SEARCH.SIZE**2 + cfg.DATA.TEMPLATE.get("NUMBER", 1) * cfg.DATA.TEMPLATE.SIZE**2
    needed = workers * PREFETCHED * cfg.TRAIN.BATCH_SIZE * 4 * pixels  # three colours and a mask
    if SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(SHARED_MEMORY).free) < needed:
        text = f"data workers need {needed / 2**20:.0f} MiB in {SHARED_MEMORY}, which has {free / 2**20:.0f}"
        remedy = "start the container with --shm-size=2g, or --opts TRAIN.NUM_WORKER=0"
        report.add("problem", subject, f"{text}: {remedy}")


def _check_device(report: Report, options: RunOptions, cfg: EasyDict) -> None:
    device = select_device(options.device)
    compiles(cfg)
    report.add("ok", "device", str(device))
    precision = "fp16" if option(cfg, "TRAIN.AMP") is True else option(cfg, "TRAIN.AMP")
    if precision == "fp16" and device.type not in ("cuda", "cpu"):
        raise UserError(f"TRAIN.AMP fp16 does not work on {device.type}: --opts TRAIN.AMP=off, or bf16")
    if precision == "fp16" and device.type == "cpu" or precision == "bf16" and not has_fast_bf16(device):
        report.add("note", "device", f"{precision} is slow on this {device.type}: --opts TRAIN.AMP=off is faster")


def outline(script: str, cfg: EasyDict) -> nn.Module:
    """The network without memory for its weights: their names and shapes."""
    with torch.device("meta"):
        return build_network(script, cfg)


def _check_output(report: Report, options: RunOptions, cfg: EasyDict, net: nn.Module | None) -> bool:
    """Check the folder that the run writes to; whether there is a checkpoint to go on from."""
    subject = "output folder"
    place = next(path for path in (options.folder.absolute(), *options.folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        report.add("problem", subject, f"cannot write to {place}: {error.strerror}: choose another --save_dir")
        return False
    checkpoints, found = run_checkpoints(options, cfg), None
    with report.problems_of(subject, "use the options with which the run began, or choose another --save_dir"):
        found = checkpoints.load()
        if found is None:
            report.add("ok", subject, f"{options.folder}: a new run")
        else:
            if net is not None:
                load_state(net, *found)
            epoch, end = found[0]["epoch"], cfg.TRAIN.EPOCH
            state, left = ("ok", "training goes on") if epoch < end else ("note", "nothing is left to train")
            report.add(state, subject, f"{found[1]}: epoch {epoch} of {end} is finished: {left}")
    if found is not None:
        with report.problems_of(subject):
            require_unchanged(options, cfg, *found)
    if checkpoints.latest_is_damaged:
        report.add("note", subject, f"{checkpoints.latest} is damaged; the checkpoint before it is used")
    needed = 3 * 4 * sum(value.numel() for value in net.state_dict().values()) if net is not None else 0
    if shutil.disk_usage(place).free < needed:
        text = f"{place} has no room for the weights of three checkpoints, {needed / 2**30:.1f} GiB"
        report.add("problem", subject, f"{text}: make room, or choose another --save_dir")
    return found is not None


def _check_start(report: Report, options: RunOptions, cfg: EasyDict, net: nn.Module | None) -> None:
    """Check the weights that the first step starts from."""
    if options.previous is not None:
        _check_stage(report, "previous stage", options.previous, options.save_dir, net)
    elif cfg.TRAIN.get("TRAIN_CLS", False):
        text = f"{options.script} trains the score head of a network with trained boxes, and none is named"
        report.add("problem", "previous stage", f"{text}: add --script_prv stark_st1 --config_prv <config>")
    elif option(cfg, "MODEL.BACKBONE.PRETRAINED"):
        subject, backbone = "ImageNet weights", cfg.MODEL.BACKBONE.TYPE
        with report.problems_of(subject):
            path = imagenet_file(backbone)
            if path is not None:
                load_checkpoint(path)
                report.add("ok", subject, f"of {backbone}: {path}")
                return
            remedy = f"without a network, put {resnet_file_name(backbone)} into {workspace('train').pretrained_dir}"
            report.add("note", subject, f"of {backbone}: training downloads them to {torch_cache()}: {remedy}")


def _check_stage(report: Report, subject: str, stage: Stage, save_dir: Path, net: nn.Module | None) -> None:
    """Check whether the weights of another run exist and fit; a score head may be missing."""
    command = f"python tracking/train.py --script {stage.script} --config {stage.config}"
    with report.problems_of(subject, "correct the path" if stage.checkpoint is not None else f"`{command}` trains it"):
        checkpoint, path = stage.load(net, save_dir)
        report.add("ok", subject, f"{path}: epoch {checkpoint.get('epoch', 'unknown')}, the weights fit")


def usable_validation(options: RunOptions, cfg: EasyDict) -> tuple[list[str], list[float]]:
    """Names and ratios of the validation sets to use: all, or the ones that exist if some may be missing."""
    names, ratios = cfg.DATA.VAL.DATASETS_NAME, cfg.DATA.VAL.DATASETS_RATIO
    if not options.validation_may_be_missing or len(names) != len(ratios):
        return names, ratios
    there = [i for i, name in enumerate(names) if find_lack(name, use_lmdb=options.use_lmdb) is None]
    if not any(ratios[i] for i in there):
        there = []
    return [names[i] for i in there], [ratios[i] for i in there]


def _check_data(report: Report, options: RunOptions, cfg: EasyDict) -> None:
    """Open every data set of training and validation once, and read some sequences of it."""
    results: dict[str, list[tuple[str, str]]] = {}
    for part in ("TRAIN", "VAL"):
        for name in dict.fromkeys(cfg.DATA[part].DATASETS_NAME):
            subject = f"{part.lower()} {name}"
            with report.problems_of(subject):
                lack = find_lack(name, use_lmdb=options.use_lmdb)
                if lack is not None and part == "VAL" and options.validation_may_be_missing:
                    report.add("note", subject, f"{lack[0]}; training goes on without it: {lack[1]}")
                elif lack is not None:
                    without = ", or train without validation: --opts DATA.VAL.DATASETS_NAME=[]" * (part == "VAL")
                    report.add("problem", subject, f"{lack[0]}: {lack[1]}{without}")
                elif name not in results and waits_to_be_generated(name):
                    report.add("ok", subject, "is generated when training starts")
                else:
                    if name not in results:
                        dataset = build_dataset(name, use_lmdb=options.use_lmdb, cache=options.cache)
                        report.datasets[name], results[name] = dataset, list(_inspect(dataset, options, cfg))
                    report.findings += [Finding(state, subject, text) for state, text in results[name]]


def _inspect(dataset: TrackingDataset, options: RunOptions, cfg: EasyDict) -> Iterator[tuple[str, str]]:
    """Read some sequences of a data set, the same at each call; gives states and texts of findings."""
    if options.script == MASK_SCRIPT and not isinstance(dataset, MaskedDataset):
        yield "problem", "has no masks: name sets with masks, such as COCO17_masks or DAVIS:<path>"
        return
    sampler = FrameSampler([dataset], [1], sampler_mode(cfg), sample_intervals(cfg))
    count = min(SAMPLED, len(dataset))
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
            more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
            text = f"{len(errors)} of {count} {kind} read are unusable: {'; '.join(errors[:3])}{more}"
            state = "problem" if len(errors) * 2 >= count else "note"
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
