"""Batches of samples from worker processes; their number does not change the samples."""

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lib.data.images import ImageReadError
from lib.train.processing import Rejected, Sample
from lib.train.sampler import AnnotationError, FrameSampler, SampledFrames
from lib.utils.errors import UserError

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
    template_boxes: Tensor | None = None
    object_masks: Tensor | None = None

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
        processing: makes crops, as `Processing` does.
        seed: of the run.
        stream: tells training (0) from validation (1).
    """

    def __init__(
        self,
        sampler: FrameSampler,
        processing: Callable[[SampledFrames, np.random.Generator], Sample],
        seed: int,
        stream: int,
    ) -> None:
        self.sampler, self.processing = sampler, processing
        self.entropy = (seed, stream)

    def __getitem__(self, key: tuple[int, int]) -> Sample | str:
        """The sample, or, where none can be made, the message to stop with.

        An exception would cross the process border as a page of traceback; the loader raises it.
        """
        rng = np.random.default_rng([*self.entropy, *key])
        failures: list[str] = []
        rejections = 0
        while True:
            try:
                sample = self.processing(self.sampler.sample(rng), rng)
            except (ImageReadError, AnnotationError) as error:
                failures.append(str(error))
                if len(failures) >= MAX_FAILURES:
                    listed = "; ".join(dict.fromkeys(failures))
                    return f"{MAX_FAILURES} files in a row could not be read: {listed}"
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
    """The keys (epoch, index) of one process's samples of an epoch, from `start` on.

    An epoch's samples are numbered over all processes, which take turns: of W, process r has the indices
    r, r + W, r + 2W, … So no two processes see the same sample, and one process with a batch of W * B sees
    in every step what W processes with B see together.

    Args:
        samples: of this process, an epoch.
        rank: this process's number, of `world_size`.
    """

    def __init__(self, samples: int, rank: int = 0, world_size: int = 1) -> None:
        self.samples, self.rank, self.world_size = samples, rank, world_size
        self.epoch, self.start = 1, 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, i * self.world_size + self.rank) for i in range(self.start, self.samples)])

    def __len__(self) -> int:
        return self.samples - self.start


class BatchLoader:
    """The batches of one epoch after the other.

    Args:
        stream: where samples come from.
        samples: an epoch, of all processes together; rounded up to whole steps.
        batch_size: B.
        workers: processes that make samples; 0 makes them in this one.
        pin: page-lock batches for a GPU.
        accumulate: batches that make one step.
        rank: this process's number, of `world_size`.
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
        self.batch_size = batch_size
        self.samples_per_step = batch_size * accumulate * world_size
        self.steps = math.ceil(samples / self.samples_per_step)
        self.batches = self.steps * accumulate
        self.keys = EpochKeys(self.batches * batch_size, rank, world_size)
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
            # Else the loader takes a number from dropout's generator, once a process: a resumed run would differ.
            generator=torch.Generator(),
        )

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (counted from 1), from the `start`-th on (counted from 0).

        Raises:
            UserError: samples cannot be made; the message says why.
        """
        self.keys.epoch, self.keys.start = number, start * self.batch_size
        for batch in self.loader:
            if batch.error is not None:
                raise UserError(batch.error)
            for failure in batch.failures:
                if failure not in self.reported:
                    self.reported.add(failure)
                    log.warning(
                        "%s; another sample takes its place (%d such files so far)", failure, len(self.reported)
                    )
            yield batch


@contextlib.contextmanager
def lost_workers_named() -> Iterator[None]:
    """Say in one line that a worker process died. The loader learns of it by a signal, so anywhere in the body.

    Raises:
        UserError: in place of the loader's error.
    """
    try:
        yield
    except RuntimeError as error:
        # What it interrupts, writing a file say, may trip over it and raise another error.
        cause: BaseException | None = error
        while cause is not None and not str(cause).startswith("DataLoader worker (pid"):
            cause = cause.__context__
        if cause is None:
            raise
        raise UserError(
            f"a process that makes samples died ({' '.join(str(cause).split())}); the system ends processes when "
            "memory runs out: lower TRAIN.NUM_WORKER or TRAIN.BATCH_SIZE; the same command goes on from the last "
            "checkpoint"
        ) from error


def collate(samples: list[Sample | str]) -> Batch:
    """Samples to one batch; an error message among them becomes the batch's."""
    errors = [s for s in samples if isinstance(s, str)]
    if errors:
        empty = torch.empty(0)
        return Batch(empty, None, empty, None, empty, empty, empty, [], [], error=errors[0])

    def stacked(name: str, axis: int = 0) -> Tensor:
        return torch.from_numpy(np.stack([getattr(s, name) for s in samples], axis=axis))

    template_masks, search_mask = stacked("template_masks", 1), stacked("search_mask")
    with_masks = samples[0].object_mask is not None
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
        template_boxes=stacked("template_box") if with_masks else None,
        object_masks=stacked("object_mask") if with_masks else None,
    )


def _init_worker(_: int) -> None:
    """Workers share the machine's cores: one thread each. They end with their trainer, not by the signals sent to it.

    Ctrl-C reaches every process of the terminal's group, and torchrun's signals the trainer's: a trainer whose workers
    died of them could not finish its step.
    """
    os.setpgid(0, 0)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
