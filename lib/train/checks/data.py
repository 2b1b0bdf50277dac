"""Data sets: which are there, and a sample of what is in them."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from easydict import EasyDict

from lib.data.dataset import MaskedDataset, SequenceInfo, StoredDataset
from lib.data.images import ImageReadError
from lib.data.registry import build_dataset, find_lack, waits_to_be_generated
from lib.data.storage import LmdbStorage
from lib.data.videos import VideoSet
from lib.train.checks.report import Finding, named, note, ok, problem
from lib.train.checks.settings import sample_intervals, sampler_mode
from lib.train.networks import MASK_SCRIPT
from lib.train.options import RunOptions
from lib.train.sampler import MIN_FRAMES, FrameSampler
from lib.utils.errors import UserError

# Sequences of a set whose annotation is read, and an image of each.
SAMPLED = 20


def usable_validation(options: RunOptions, cfg: EasyDict) -> tuple[list[str], list[float]]:
    """Names and ratios of the validation sets to use: all, or those that are there where others may be missing.

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


def check_data(options: RunOptions, cfg: EasyDict) -> Iterator[Finding]:
    """Every data set of training and validation; one that serves for both is read once."""
    inspected: dict[str, Inspection] = {}
    for part in ("TRAIN", "VAL"):
        names = list(dict.fromkeys(cfg.DATA[part].DATASETS_NAME))
        for name in names:
            if name not in inspected:
                inspected[name] = inspect(name, cfg, options.use_lmdb, options.cache, options.script == MASK_SCRIPT)
        may_be_missing = part == "VAL" and options.validation_may_be_missing
        remedy = _without(part, [name for name in names if inspected[name].serves])
        for name in names:
            for finding in inspected[name].findings:
                finding = replace(finding, subject=f"{part.lower()} {name}")
                if inspected[name].missing and may_be_missing:
                    yield _left_out(finding)
                elif finding.state == "problem" and remedy:
                    yield replace(finding, remedy=", or ".join(filter(None, (finding.remedy, remedy))))
                else:
                    yield finding
        if cfg.TRAIN.get("TRAIN_CLS", False):
            yield from _check_negatives(part, cfg, inspected)


@dataclass
class Inspection:
    """What was seen of a data set.

    Attributes:
        findings: without subject.
        missing: there is nothing of it.
        usable: how many of the sequences that were read serve the sampler.
        whole: all of its sequences were read.
        hides: in one of the usable ones the object is hidden at times.
    """

    findings: list[Finding]
    missing: bool = False
    usable: int = 0
    whole: bool = False
    hides: bool = False

    @property
    def serves(self) -> bool:
        """Whether it can be trained on."""
        return all(finding.state != "problem" for finding in self.findings)


def inspect(
    name: str, cfg: EasyDict, use_lmdb: bool = False, cache: Path | None = None, masks: bool = False
) -> Inspection:
    """Open a data set and read some of it, the same at each call.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        cfg: the effective configuration, which says how frames are drawn.
        use_lmdb, cache: see `build_dataset`.
        masks: the training needs masks.
    """
    try:
        lack = find_lack(name, use_lmdb=use_lmdb)
        if lack is not None:
            return Inspection([problem("", *lack)], missing=True)
        if waits_to_be_generated(name):
            return Inspection([ok("", "will be generated when training starts")])
        with _warnings_of_sets() as warnings:
            dataset = build_dataset(name, use_lmdb=use_lmdb, cache=cache)
    except UserError as error:
        return Inspection([problem("", str(error).removeprefix(f"{name}: "))])
    if masks and not isinstance(dataset, MaskedDataset):
        return Inspection([problem("", "has no masks", "name sets that have, such as COCO17_masks or DAVIS:<path>")])
    # The sampler's own figure: how many visible frames a video must have more than.
    needed = FrameSampler([dataset], [1], sampler_mode(cfg), sample_intervals(cfg)).min_visible
    sample = _Sample(dataset, needed)
    count = min(SAMPLED, len(dataset))
    for number in range(count):
        sample.read(int((number + 0.5) / count * len(dataset)), (number + 0.5) / count)
    notes = [note("", text.removeprefix(f"{name}: ")) for text in warnings]
    return Inspection([*sample.findings(), *notes], False, sample.usable, count == len(dataset), sample.hides)


@dataclass
class _Sample:
    """What some sequences of a data set are like, counted.

    Attributes:
        dataset: what they are of.
        needed: a usable video has more visible frames than so many.
    """

    dataset: StoredDataset
    needed: int
    sequences: int = 0
    usable: int = 0
    hides: bool = False
    boxes: int = 0
    visible: int = 0
    nan: int = 0
    without_area: int = 0
    outside: list[str] = field(default_factory=list)
    bad_annotations: list[str] = field(default_factory=list)
    bad_images: list[str] = field(default_factory=list)

    def read(self, sequence: int, share: float) -> None:
        """Read a sequence's annotation, and the image at a share in [0, 1) of the frames that show the object."""
        self.sequences += 1
        try:
            info = self.dataset.info(sequence)
        except UserError as error:
            self.bad_annotations.append(str(error))
            return
        seen = np.flatnonzero(info.visible)
        if not self.dataset.is_video or (len(seen) > self.needed and len(info) >= MIN_FRAMES):
            self.usable += 1
            self.hides |= len(seen) < len(info)
        self.boxes += len(info)
        self.visible += len(seen)
        self._count_unmarked(sequence, info)
        frames = seen if len(seen) else np.arange(len(info))
        try:
            height, width = self.dataset.image(sequence, int(frames[int(share * len(frames))])).shape[:2]
        except ImageReadError as error:
            self.bad_images.append(str(error))
            return
        # The frames of a video have one size.
        outside = np.flatnonzero(info.visible & is_outside(info, width, height))
        self.outside += [f"{self.dataset.source(sequence, int(frame))}" for frame in outside]

    def findings(self) -> Iterator[Finding]:
        """The counts in words."""
        storage, total = self.dataset.storage, len(self.dataset)
        kind = "LMDB" if isinstance(storage, LmdbStorage) else "folder"
        what = "sequences" if self.dataset.is_video else "objects"
        read = "all" if self.sequences == total else f"{self.sequences} of them"
        seen = f"; visible in {self.visible:,} of {self.boxes:,} frames" if self.dataset.is_video else ""
        yield ok("", f"{total:,} {what} in {kind} {storage.locate()}; {read} read, with an image of each{seen}")
        yield from self._unusable("annotations", self.bad_annotations, "mend these files, or take their sequences out")
        yield from self._unusable("images", self.bad_images, "copy or unpack these files anew")
        yield from self._too_short()
        if self.nan or self.without_area:
            counts = [f"{self.nan:,} are nan"] * (self.nan > 0)
            counts += [f"{self.without_area:,} have no area"] * (self.without_area > 0)
            yield note("", f"of {self.boxes:,} boxes read, {' and '.join(counts)}: taken as frames without the object")
        if self.outside:
            yield note(
                "",
                f"of {self.boxes:,} boxes read, {len(self.outside):,} lie wholly outside their image "
                f"({self.outside[0]} for one), though the object counts as visible",
            )

    def _unusable(self, what: str, errors: list[str], remedy: str) -> Iterator[Finding]:
        """Files that cannot be read. Training draws others in the place of a few; many are a mistake in the whole."""
        if not errors:
            return
        detail = f"{len(errors)} of {self.sequences} {what} read are unusable: {named(len(errors), errors)}"
        if len(errors) * 2 >= self.sequences:
            yield problem("", detail, remedy)
        else:
            yield note("", detail, f"others will be drawn in their place; better {remedy}")

    def _too_short(self) -> Iterator[Finding]:
        """What is said of sequences that the sampler does not draw."""
        readable = self.sequences - len(self.bad_annotations)
        terms = f"more than {self.needed} visible frames, and {MIN_FRAMES} in all"
        if readable and not self.usable:
            yield problem("", f"none of the {readable} sequences read has {terms}", "use longer sequences")
        elif self.usable < readable:
            yield note("", f"{readable - self.usable} of {readable} sequences read are never drawn: they lack {terms}")

    def _count_unmarked(self, sequence: int, info: SequenceInfo) -> None:
        """Count frames that have no box and no label that says why; only files of boxes have such frames."""
        if not isinstance(self.dataset, VideoSet):
            return
        video = self.dataset.sequences[sequence]
        boxes = video.read_boxes()
        visible = video.read_visible(len(boxes))
        unmarked = ~info.valid if visible is None else ~info.valid & visible
        nan = np.isnan(boxes).any(axis=1) & unmarked
        self.nan += int(nan.sum())
        self.without_area += int((unmarked & ~nan).sum())


def is_outside(info: SequenceInfo, width: int, height: int) -> np.ndarray:
    """(N,) bool, whether a box has no pixel in an image of that size."""
    x, y, w, h = info.boxes.T
    return (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)


def _without(part: str, serving: Sequence[str]) -> str:
    """The override that takes only the data sets that serve; empty where training would have none."""
    if not serving:
        return "train without validation: --opts DATA.VAL.DATASETS_NAME=[]" if part == "VAL" else ""
    names = ",".join(f"'{name}'" if ":" in name else name for name in serving)
    what = "train on what is there" if part == "TRAIN" else "validate on what is there"
    return f'{what}: --opts "DATA.{part}.DATASETS_NAME=[{names}]"'


def _left_out(finding: Finding) -> Finding:
    """The note in place of the problem, where a validation set may be missing."""
    return note(
        finding.subject,
        f"{finding.detail}; training goes on without it",
        "--opts DATA.VAL.DATASETS_NAME=[] silences this",
    )


def _check_negatives(part: str, cfg: EasyDict, inspected: dict[str, Inspection]) -> Iterator[Finding]:
    """Half of stage 2's samples search where the object is not: hidden, or in another sequence."""
    names, ratios = cfg.DATA[part].DATASETS_NAME, cfg.DATA[part].DATASETS_RATIO
    drawn = [inspected[name] for name, ratio in zip(names, ratios, strict=False) if ratio]
    if all(one.whole for one in drawn) and sum(one.usable for one in drawn) == 1 and not any(o.hides for o in drawn):
        yield problem(
            f"{part.lower()} sets",
            "there is one usable sequence in all, but the score head also learns from frames of another",
            "add a sequence or a data set",
        )


@contextlib.contextmanager
def _warnings_of_sets() -> Iterator[list[str]]:
    """What data sets warn of, gathered for the table; training says it again."""
    texts: list[str] = []
    handler, log = logging.Handler(), logging.getLogger("lib.data")
    handler.setLevel(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())
    propagates, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield texts
    finally:
        log.removeHandler(handler)
        log.propagate = propagates
