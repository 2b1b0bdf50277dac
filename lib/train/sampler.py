"""Which frames make a training sample (STARK, sections 3.1 and 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from easydict import EasyDict

from ..config import ConfigError
from ..data.dataset import SequenceInfo, TrackingDataset
from ..utils.errors import UserError

MIN_FRAMES = 20
GAP_STEP = 5
FRAME_TRIES = 20
# Tries without success after which a data set (or a sequence) is given up, with an error.
MAX_TRIES = 1000


class AnnotationError(UserError):
    """A sequence whose annotation cannot be read."""


@dataclass(frozen=True)
class FrameRef:
    """One frame of a data set."""

    dataset: TrackingDataset
    sequence: int
    frame: int

    @property
    def source(self) -> str:
        """Where the frame lies, for messages."""
        return self.dataset.source(self.sequence, self.frame)


@dataclass(frozen=True)
class SampledFrames:
    """The frames of one sample."""

    templates: tuple[FrameRef, ...]  # the first template, then one dynamic template per interval
    search: FrameRef
    positive: bool = True  # the object of the templates is in the search frame
    absent: bool = False  # the search frame is of the templates' video, without the object: it has no box of its own


class FrameSampler:
    """Samples frames from several data sets by `ratios`; with `negatives` half of them do not show the object.

    The mode `causal` takes one template, then the search frame within the interval after it. `trident`, `trident_pro`
    and `stark` take template and search frame anywhere, and for each of `intervals` a dynamic template within that many
    frames of the search frame, on the template's side. The dynamic template must be visible (`trident`), must have a
    valid box (`stark`), or may be any frame (`trident_pro`).
    """

    def __init__(
        self,
        datasets: Sequence[TrackingDataset],
        ratios: Sequence[float],
        mode: str,
        intervals: Sequence[int],
        negatives: bool = False,
    ) -> None:
        self.datasets, self.mode, self.intervals, self.negatives = list(datasets), mode, list(intervals), negatives
        shares = np.cumsum(np.asarray(ratios, np.float64) / float(sum(ratios)))
        self.shares = shares / shares[-1]
        templates = 1 if mode == "causal" else 1 + len(self.intervals)
        self.min_visible = 2 * (templates + 1)

    def sample(self, rng: np.random.Generator) -> SampledFrames:
        """One sample; depends on the generator alone. After an AnnotationError another sample may succeed."""
        for _ in range(MAX_TRIES):
            dataset, sequence, info = self._sequence(rng)
            # Some tries in the same sequence first: else sparse data sets would be sampled less often than their ratio.
            tries = (self._frames(dataset, info, rng) for _ in range(FRAME_TRIES))
            frames = next((f for f in tries if f is not None), None)
            if frames is not None:
                break
        else:
            raise UserError(f"{dataset.name}: no frames for mode '{self.mode}' in {MAX_TRIES} sampled sequences")
        *templates, search = (FrameRef(dataset, sequence, int(f)) for f in frames)
        if self.negatives and rng.random() < 0.5:
            return self._negative(tuple(templates), info, rng)
        return SampledFrames(tuple(templates), search)

    def can_use(self, dataset: TrackingDataset, info: SequenceInfo) -> bool:
        """Whether a sequence has enough frames, and enough of them visible."""
        if not dataset.is_video:
            return bool(info.visible[0])
        return len(info) >= MIN_FRAMES and np.count_nonzero(info.visible) > self.min_visible

    def _sequence(self, rng: np.random.Generator) -> tuple[TrackingDataset, int, SequenceInfo]:
        """A data set by ratio, and a sequence of it with enough visible frames."""
        dataset = self.datasets[int(self.shares.searchsorted(rng.random(), side="right"))]
        for _ in range(MAX_TRIES):
            sequence = int(rng.integers(len(dataset)))
            try:
                info = dataset.info(sequence)
            except UserError as error:
                raise AnnotationError(str(error)) from error
            if self.can_use(dataset, info):
                return dataset, sequence, info
        terms = f"more than {self.min_visible} visible frames and at least {MIN_FRAMES} frames"
        raise UserError(f"{dataset.name}: none of {MAX_TRIES} sequences has {terms}: training needs longer sequences")

    def _frames(self, dataset: TrackingDataset, info: SequenceInfo, rng: np.random.Generator) -> list[int] | None:
        """Frame numbers: templates, then search; None where this sequence has no fitting ones."""
        if not dataset.is_video:
            return [0] * (2 if self.mode == "causal" else 2 + len(self.intervals))
        visible = np.flatnonzero(info.visible)
        if self.mode == "causal":
            template = _one_of(visible[:-1], rng)
            return [template, _within(visible, template + 1, self.intervals[0], rng)]
        template, search = _one_of(visible, rng), _one_of(visible, rng)
        if self.mode == "trident":
            allowed = visible
        else:
            allowed = np.flatnonzero(info.valid) if self.mode == "stark" else np.arange(len(info))
        dynamic = []
        for interval in self.intervals:
            low, high = (search - interval, search) if template < search else (search + 1, search + interval + 1)
            candidates = _between(allowed, low, high)
            if not len(candidates):
                return None
            dynamic.append(_one_of(candidates, rng))
        return [template, *dynamic, search]

    def _negative(self, templates: tuple[FrameRef, ...], info: SequenceInfo, rng: np.random.Generator) -> SampledFrames:
        """A search frame without the object: of the same video, or, where it is always visible, of another."""
        dataset, sequence = templates[0].dataset, templates[0].sequence
        hidden = np.flatnonzero(~info.visible)
        if dataset.is_video and len(hidden):
            search = FrameRef(dataset, sequence, _one_of(hidden, rng))
            return SampledFrames(templates, search, positive=False, absent=True)
        for _ in range(MAX_TRIES):
            other, number, other_info = self._sequence(rng)
            if (other, number) != (dataset, sequence):
                frame = _one_of(np.flatnonzero(other_info.visible), rng)
                return SampledFrames(templates, FrameRef(other, number, frame), positive=False)
        raise UserError(f"{dataset.name}: it has one sequence; the score head needs at least two")


def _between(sorted_ids: np.ndarray, low: int, high: int) -> np.ndarray:
    first, last = np.searchsorted(sorted_ids, (low, high))
    return sorted_ids[first:last]


def _within(visible: np.ndarray, start: int, interval: int, rng: np.random.Generator) -> int:
    """A visible frame in the `interval` frames from `start` on; the interval grows until there is one."""
    nearest = visible[np.searchsorted(visible, start)]
    while start + interval <= nearest:
        interval += GAP_STEP
    return _one_of(_between(visible, start, start + interval), rng)


def _one_of(ids: np.ndarray, rng: np.random.Generator) -> int:
    """One of the ids; the same as the generator's `choice`, which takes longer."""
    return int(ids[rng.integers(len(ids))])


def check_sampling(cfg: EasyDict) -> None:
    """Raise a ConfigError where SAMPLER_MODE, MAX_SAMPLE_INTERVAL and the numbers of frames contradict each other."""
    if cfg.DATA.SEARCH.get("NUMBER", 1) != 1:
        raise ConfigError("'DATA.SEARCH.NUMBER' must be 1: the network searches one frame")
    mode, templates, intervals = sampler_mode(cfg), cfg.DATA.TEMPLATE.get("NUMBER", 1), sample_intervals(cfg)
    fits = templates == len(intervals) == 1 if mode == "causal" else templates == 1 + len(intervals)
    if not fits:
        fault = f"'DATA.TEMPLATE.NUMBER' is {templates} with SAMPLER_MODE {mode} and MAX_SAMPLE_INTERVAL {intervals}"
        remedy = "causal takes one template and one interval, the others one template more than there are intervals"
        raise ConfigError(f"{fault}: {remedy}")


def sampler_mode(cfg: EasyDict) -> str:
    """DATA.SAMPLER_MODE; configurations without it sample causally."""
    return cfg.DATA.get("SAMPLER_MODE", "causal")


def sample_intervals(cfg: EasyDict) -> list[int]:
    """DATA.MAX_SAMPLE_INTERVAL, which may be one number."""
    intervals = cfg.DATA.MAX_SAMPLE_INTERVAL
    return intervals if isinstance(intervals, list) else [intervals]
