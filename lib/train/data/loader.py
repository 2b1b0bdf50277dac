"""Batches of samples, made by worker processes, the same whatever their number."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lib.train.data.processing import Processing, Rejected, Sample
from lib.train.data.sampler import FrameSampler
from lib.utils.errors import UserError
from lib.utils.image import ImageReadError

MAX_FAILURES = 100
MAX_REJECTIONS = 1000

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """B samples with T templates each; attributes as in `Sample`, with leading dimensions (T, B) or (B).

    A mask is None where no crop of its kind is padded anywhere.
    """

    templates: Tensor
    template_masks: Tensor | None
    search: Tensor
    search_mask: Tensor | None
    boxes: Tensor
    labels: Tensor
    brightness: Tensor
    sources: list[list[str]]
    failures: list[str]
    error: str | None = None

    def pin_memory(self) -> "Batch":
        """Page-locked copies of all tensors, so that they reach a GPU while it computes."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.pin_memory())
        return self


class SampleStream(Dataset):
    """Samples by (epoch, index): the same key gives the same sample, in any process.

    Args:
        sampler: chooses frames.
        processing: makes crops.
        seed: of the run, and `rank` of the process: no two ranks draw the same stream.
        stream: tells training (0) from validation (1).
    """

    def __init__(self, sampler: FrameSampler, processing: Processing, seed: int, rank: int, stream: int) -> None:
        self.sampler, self.processing = sampler, processing
        self.entropy = (seed, rank, stream)

    def __getitem__(self, key: tuple[int, int]) -> Sample | str:
        """The sample, or, where none can be made, the message to stop with.

        An exception would cross the process border as a page of traceback; the loader raises it.
        """
        rng = np.random.default_rng([*self.entropy, *key])
        failures: list[str] = []
        rejections = 0
        while True:
            try:
                sample = self.processing(self.sampler.draw(rng), rng)
            except ImageReadError as error:
                failures.append(str(error))
                if len(failures) >= MAX_FAILURES:
                    listed = "; ".join(dict.fromkeys(failures))
                    return f"{MAX_FAILURES} frames in a row could not be read: {listed}"
            except Rejected as reason:
                rejections += 1
                if rejections >= MAX_REJECTIONS:
                    return f"{MAX_REJECTIONS} samples in a row could not be used; the last: {reason}"
            except UserError as error:
                return str(error)
            else:
                sample.failures = failures
                return sample


class EpochKeys(Sampler):
    """The keys of one epoch, from `start` on (a resumed epoch skips what it has seen)."""

    def __init__(self, samples: int) -> None:
        self.samples, self.epoch, self.start = samples, 1, 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, index) for index in range(self.start, self.samples)])

    def __len__(self) -> int:
        return self.samples - self.start


class BatchLoader:
    """The batches of one epoch after the other.

    Args:
        stream: where samples come from.
        samples: per epoch and rank; the rest that does not fill a batch is left out.
        batch_size: B.
        workers: processes that make samples; 0 makes them in this one.
        pin: page-lock batches for a GPU.
    """

    def __init__(self, stream: SampleStream, samples: int, batch_size: int, workers: int, pin: bool = False) -> None:
        if samples < batch_size:
            raise UserError(
                f"an epoch of {samples} samples a process is less than one batch of {batch_size}: "
                "raise SAMPLE_PER_EPOCH or lower TRAIN.BATCH_SIZE"
            )
        self.keys = EpochKeys(samples // batch_size * batch_size)
        self.batch_size = batch_size
        self.reported: set[str] = set()
        self.loader = DataLoader(
            stream,
            batch_size,
            sampler=self.keys,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=_init_worker,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers > 0 else None,
            pin_memory=pin,
            # Else the loader draws from the generator that dropout uses, once a process: a resumed run would differ.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return self.keys.samples // self.batch_size

    def epoch(self, number: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (counted from 1), from a step on.

        Raises:
            UserError: samples cannot be made; the message says why.
        """
        self.keys.epoch, self.keys.start = number, start_step * self.batch_size
        for batch in self.loader:
            if batch.error is not None:
                raise UserError(batch.error)
            for failure in batch.failures:
                if failure not in self.reported:
                    self.reported.add(failure)
                    log.warning("%s; another sample was drawn (%d such files so far)", failure, len(self.reported))
            yield batch


def collate(samples: list[Sample | str]) -> Batch:
    """Samples to one batch; an error message among them becomes the batch's."""
    errors = [s for s in samples if isinstance(s, str)]
    if errors:
        empty = torch.empty(0)
        return Batch(empty, None, empty, None, empty, empty, empty, [], [], error=errors[0])

    def stacked(name: str, axis: int = 0) -> Tensor:
        return torch.from_numpy(np.stack([getattr(s, name) for s in samples], axis=axis))

    template_masks, search_mask = stacked("template_masks", 1), stacked("search_mask")
    return Batch(
        templates=stacked("templates", 1),
        template_masks=template_masks if template_masks.any() else None,
        search=stacked("search"),
        search_mask=search_mask if search_mask.any() else None,
        boxes=stacked("box"),
        labels=torch.tensor([s.label for s in samples]),
        brightness=stacked("brightness", 1),
        sources=[s.sources for s in samples],
        failures=[f for s in samples for f in s.failures],
    )


def _init_worker(_: int) -> None:
    """Workers share the machine's cores: one thread each."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
