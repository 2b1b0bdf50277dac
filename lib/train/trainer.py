"""The training loop."""

import logging
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from ..config import option
from ..utils.checkpoint import CheckpointError, load_state, save_checkpoint
from . import distributed
from .loader import Batch, BatchLoader
from .log import PANEL, Meters, RunLog, memory_use
from .losses import Actor
from .optimiser import Optimisation
from .options import CheckpointFolder

log = logging.getLogger(__name__)


@dataclass
class Trainer:
    """Trains a network for the configured epochs; after `resume`, from where an earlier run of the same kind stopped.

    A step follows from the weights, the optimiser's state and (seed, rank, epoch, step) alone, so a checkpoint says
    after how many samples of which epoch it was made, and nothing else is needed to go on.
    """

    net: nn.Module
    actor: Actor  # its network may be wrapped for several processes
    cfg: EasyDict
    loader: BatchLoader
    validation: BatchLoader | None
    optimisation: Optimisation
    checkpoints: CheckpointFolder
    output: RunLog
    settings: dict[str, Any]  # saved in checkpoints
    epoch: int = 0  # finished ones
    step: int = 0  # finished ones of the epoch after them
    meters: Meters = field(default_factory=Meters)  # means over that epoch
    stats: dict[str, dict[str, float]] = field(default_factory=dict)  # the last epoch's means by loader, `train`, `val`
    best: dict[str, Any] = field(default_factory=dict)  # `metric`, `sets`, `value` and `epoch` of the best validation
    stop: distributed.StopRequest = field(default_factory=distributed.StopRequest)

    def fit(self) -> dict[str, dict[str, float]]:
        """Train to TRAIN.EPOCH; gives `stats`.

        Raises:
            SystemExit: the run was asked to stop, and its state is saved; the status is 128 and the signal's number.
            UserError: it cannot go on; the last checkpoint is intact.
        """
        with self.stop.watching():
            try:
                for epoch in range(self.epoch + 1, self.cfg.TRAIN.EPOCH + 1):
                    self.train_epoch(epoch)
                    is_best = False
                    if self.validation is not None and epoch % self.cfg.TRAIN.VAL_EPOCH_INTERVAL == 0:
                        self.save()  # validation may take long, and the epoch is trained
                        self.validate(epoch)
                        is_best = self.note_best(epoch)
                    self.epoch, self.step, self.meters = epoch, 0, Meters()
                    self.save(epoch_is_done=True, is_best=is_best)
            except distributed.NoBatchError:
                if distributed.world_size() == 1:  # other ranks wait in the middle of a step, and cannot save
                    self.save()
                self.end(self.stop.signal, "while its data workers hang")
        return self.stats

    def train_epoch(self, epoch: int) -> None:
        """The rest of one pass over SAMPLE_PER_EPOCH samples."""
        self.actor.net.train()
        steps, save_every = self.loader.steps, option(self.cfg, "TRAIN.SAVE_EVERY_STEPS")
        batches = self.loader.epoch(epoch, self.step * option(self.cfg, "TRAIN.ACCUM_STEPS"))
        interval, waiting, start, since = Meters(), 0.0, time.perf_counter(), self.step
        with self.output.bar(steps, self.step, f"train {epoch}") as bar:
            while self.step < steps:
                values, waited = self.train_step(epoch, batches)
                self.step += 1
                self.meters.update(values)
                interval.update(values)
                waiting += waited
                bar.update()
                if self.step % self.cfg.TRAIN.PRINT_INTERVAL == 0 or self.step == steps:
                    self.actor.checks.require()
                    seconds = time.perf_counter() - start
                    values = {"samples_per_second": (self.step - since) * self.loader.samples_per_step / seconds}
                    values |= distributed.mean_over_ranks(interval.means())
                    values |= {"lr": self.optimisation.rates(), "data_wait": waiting / seconds}
                    self.output.interval("train", epoch, self.step, steps, values | memory_use(self.actor.device))
                    interval, waiting, start, since = Meters(), 0.0, time.perf_counter(), self.step
                if save_every and self.step % save_every == 0 and self.step < steps:
                    self.save()
                self.end_if_asked()
        self.stats["train"] = distributed.mean_over_ranks(self.meters.means())
        self.output.curves("train", epoch, self.stats["train"])

    def train_step(self, epoch: int, batches: Iterator[Batch]) -> tuple[dict[str, Tensor], float]:
        """Change the weights once, by ACCUM_STEPS batches.

        Gives the means of loss and IoU over the batches, with the gradient's norm, on the device; and seconds waited
        for data. A step whose prediction or gradient is nan or infinite leaves the weights as they were; the actor's
        `checks` know of it.
        """
        where, values, waited, sources = f"epoch {epoch}, step {self.step + 1}", {}, 0.0, []
        count = option(self.cfg, "TRAIN.ACCUM_STEPS")
        for part in range(count):
            start = time.perf_counter()
            batch = self.stop.next_of(batches)
            waited += time.perf_counter() - start
            sources += batch.sources
            # Dropout follows from these numbers, so that a resumed run has the same.
            entropy = [self.settings["seed"], distributed.rank(), epoch, self.step * count + part]
            torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
            with distributed.without_exchange(self.actor.net, part + 1 < count):
                with self.optimisation.autocast():
                    outcome = self.actor(batch, where)
                self.optimisation.backward(outcome.loss / count)
            for name, value in outcome.values.items():
                values[name] = values.get(name, 0) + value.detach() / count
        norm = self.optimisation.step(epoch, self.step)
        if norm is None:
            return values, waited
        self.actor.checks.note(norm.expand(len(sources), 1), f"{where}: the gradient", sources)
        return values | {"grad_norm": norm}, waited

    @torch.no_grad()
    def validate(self, epoch: int) -> None:
        """The same measures on the validation sets, without learning. The same samples every time."""
        self.actor.net.eval()
        meters, steps, start, shown = Meters(), self.validation.steps, time.perf_counter(), []
        with self.output.bar(steps, 0, f"val {epoch}") as bar:
            batches = self.validation.epoch(1)
            for step in range(1, steps + 1):
                batch = self.stop.next_of(batches)
                is_shown = len(shown) * len(batch.search) < PANEL
                with self.optimisation.autocast():
                    compute = self.actor.explained if is_shown else self.actor
                    outcome = compute(batch, f"validation after epoch {epoch}, step {step}")
                if is_shown:
                    shown.append((batch, outcome))
                meters.update(outcome.values)
                bar.update()
                self.end_if_asked()
        self.actor.checks.require()
        self.output.pictures("val", epoch, shown)
        self.stats["val"] = distributed.mean_over_ranks(meters.means())
        speed = steps * self.validation.samples_per_step / (time.perf_counter() - start)
        self.output.interval("val", epoch, steps, steps, {"samples_per_second": speed, **self.stats["val"]})
        self.output.curves("val", epoch, self.stats["val"])

    def note_best(self, epoch: int) -> bool:
        """Remember the last validation if it is the best so far by TRAIN.KEEP_BEST, on the same sets; whether it is.

        Sets count that were found: values before and after one of them came do not compare.
        """
        metric, sets = option(self.cfg, "TRAIN.KEEP_BEST"), self.validation.dataset_names
        if not metric:
            return False
        value, sign = self.stats["val"][metric], -1 if "loss" in metric.lower() else 1
        comparable = (self.best.get("metric"), self.best.get("sets")) == (metric, sets)
        if comparable and sign * value <= sign * self.best["value"]:
            return False
        self.best = {"metric": metric, "sets": sets, "value": value, "epoch": epoch}
        return True

    def end_if_asked(self) -> None:
        """Where any process was asked to stop, all save and end after the same step."""
        if number := distributed.maximum(self.stop.signal):
            self.save()
            self.end(number, f"after epoch {self.epoch} and {self.step} steps of the next")

    def end(self, number: int, where: str) -> None:
        """End this process for a signal. Its data workers may hang, and it would wait for them: they are killed."""
        log.info("stopped by signal %d %s; the same command goes on from here", number, where)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises where a worker is killed
        for child in multiprocessing.active_children():
            child.kill()
        raise SystemExit(128 + number)

    def save(self, epoch_is_done: bool = False, is_best: bool = False) -> None:
        """Write the state; all processes wait for the one that does. A UserError if a value since was not finite."""
        self.actor.checks.require()
        # Means over all processes, here as in the run that goes on from it.
        self.meters.sums = distributed.mean_over_ranks(self.meters.totals())
        if distributed.rank() == 0:
            state = self.state_dict()
            if is_best:  # before the others: a run that is killed between them validates again
                save_checkpoint(self.checkpoints.best, state)
                log.info("best so far, %s %.5f: %s", self.best["metric"], self.best["value"], self.checkpoints.best)
            self.checkpoints.save(state)
            if epoch_is_done:
                self.checkpoints.keep_epoch(state, self.epoch)
        distributed.gathered(None)

    def resume(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Go on from a checkpoint of this run.

        Within an epoch that began with another number of processes, or another batch, the samples that were seen count.
        """
        load_state(self.net, checkpoint, path)
        try:
            self.optimisation.load_state_dict(checkpoint)
            self.epoch, self.stats = checkpoint["epoch"], dict(checkpoint["stats"])
            progress = checkpoint.get("progress", {"samples": 0, "meters": {}})
            self.step = min(self.loader.steps, -(-progress["samples"] // self.loader.samples_per_step))
            self.meters = Meters(**progress["meters"])
            self.best = dict(checkpoint.get("best", {}))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is not of a run here ({error!r}): choose another --save_dir") from error
        if distributed.rank() == 0 and self.epoch and not self.step:
            # The run may have been killed between the rolling checkpoint and the epoch's own.
            self.checkpoints.keep_epoch(checkpoint, self.epoch)
        if self.epoch >= self.cfg.TRAIN.EPOCH:
            log.info("%s: epoch %d was the last: nothing to do", path, self.epoch)
        else:
            self.output.rewind(self.epoch + 1, self.step, self.loader.steps)
            log.info("%s: going on after epoch %d and %d steps of the next", path, self.epoch, self.step)

    def state_dict(self) -> dict[str, Any]:
        """A checkpoint: the published keys, and what an exact resume needs beyond them."""
        return {
            "epoch": self.epoch,
            "actor_type": type(self.actor).__name__,
            "net_type": type(self.net).__name__,
            "net": self.net.state_dict(),
            "net_info": None,
            "constructor": None,
            "stats": self.stats,
            "best": self.best,
            "settings": self.settings,
            "progress": {"samples": self.step * self.loader.samples_per_step, "meters": asdict(self.meters)},
            **self.optimisation.state_dict(),
        }
