"""Batches of samples from worker processes; their number does not change the samples."""

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.images import ImageReadError
from ..utils.crop import CropError
from ..utils.errors import UserError
from .processing import Processing, Rejected, Sample
from .sampler import AnnotationError, FrameSampler

# In a row, of one sample: files that cannot be read, and samples that cannot be used.
MAX_FAILURES, MAX_REJECTIONS = 100, 1000
PREFETCHED = 4  # batches of a worker

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
    template_boxes: Tensor | None = None
    object_masks: Tensor | None = None

    def pin_memory(self) -> "Batch":
        """Page-locked copies of all tensors, so that they reach a GPU while it computes."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.pin_memory())
        return self


class SampleStream(Dataset):
    """Samples by (epoch, index): the same key gives the same sample, in any process. Stream 0 trains, 1 validates."""

    def __init__(self, sampler: FrameSampler, processing: Processing, seed: int, stream: int) -> None:
        self.sampler, self.processing = sampler, processing
        self.entropy = (seed, stream)

    def __getitem__(self, key: tuple[int, int]) -> Sample | UserError:
        """The sample, or the error to stop with: raised here, it would leave a worker as a page of traceback."""
        rng = np.random.default_rng([*self.entropy, *key])
        failures, rejections = [], []
        while len(failures) < MAX_FAILURES and len(rejections) < MAX_REJECTIONS:
            try:
                sample = self.processing(self.sampler.sample(rng), rng)
                sample.failures = failures
                return sample
            except (ImageReadError, AnnotationError) as error:
                failures.append(str(error))
            except (CropError, Rejected) as reason:
                rejections.append(str(reason))
            except UserError as error:
                return error
        if len(rejections) == MAX_REJECTIONS:
            return UserError(f"{MAX_REJECTIONS} samples in a row could not be used; the last: {rejections[-1]}")
        listed = "; ".join(dict.fromkeys(failures))
        return UserError(f"{MAX_FAILURES} files in a row could not be read: {listed}")


class BatchLoader:
    """The batches of one epoch after the other, made by so many worker processes; 0 makes them in this one.

    An epoch has so many `samples`, of all processes that train together, rounded up to whole steps of `accumulate`
    batches. `pin` page-locks batches for a GPU.
    """

    def __init__(
        self,
        stream: SampleStream,
        samples: int,
        batch_size: int,
        workers: int,
        pin: bool = False,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.samples_per_step = batch_size * accumulate * world_size
        self.steps = math.ceil(samples / self.samples_per_step)
        self.samples = self.steps * accumulate * batch_size  # of this process
        self.dataset_names = [dataset.name for dataset in stream.sampler.datasets]
        self.keys: list[tuple[int, int]] = []
        self.reported: set[str] = set()
        self.loader = DataLoader(
            stream,
            batch_size,
            sampler=self.keys,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=_init_worker,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCHED if workers > 0 else None,
            pin_memory=pin,
            # Else the loader takes a number from dropout's generator, once a process: a resumed run would differ.
            generator=torch.Generator(),
        )

    def keys_of(self, epoch: int, start: int = 0) -> list[tuple[int, int]]:
        """The keys (epoch, index) of this process's samples of an epoch, from its `start`-th batch on.

        Process r of W has the indices r, r + W, r + 2W, … So no two processes see the same sample, and one process with
        a batch of W * B sees in every step what W processes with B see together.
        """
        return [(epoch, i * self.world_size + self.rank) for i in range(start * self.batch_size, self.samples)]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (counted from 1), from the `start`-th on; a UserError where no sample can be made."""
        self.keys[:] = self.keys_of(number, start)
        for batch in self.loader:
            if isinstance(batch, UserError):
                raise batch
            for failure in dict.fromkeys(batch.failures):
                if failure not in self.reported:
                    self.reported.add(failure)
                    log.warning("%s; another sample takes its place (%d such so far)", failure, len(self.reported))
            yield batch


def collate(samples: list[Sample | UserError]) -> Batch | UserError:
    """Samples to one batch; the first error takes its place."""
    for sample in samples:
        if isinstance(sample, UserError):
            return sample

    def stacked(name: str, axis: int = 0) -> Tensor | None:
        values = [getattr(sample, name) for sample in samples]
        return None if values[0] is None else torch.from_numpy(np.stack(values, axis=axis))

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
        template_boxes=stacked("template_box"),
        object_masks=stacked("object_mask"),
    )


def _init_worker(_: int) -> None:
    """One thread a worker. Signals of the terminal and of torchrun do not reach it: the trainer finishes its step."""
    os.setpgid(0, 0)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
