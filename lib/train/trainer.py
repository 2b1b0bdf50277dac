"""The training loop."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from lib.config import option
from lib.train import distributed
from lib.train.checkpoints import CheckpointFolder
from lib.train.loader import Batch, BatchLoader
from lib.train.log import Meters, Number, RunLog, memory_use
from lib.train.losses import Actor
from lib.train.optimiser import Optimisation
from lib.utils.checkpoint import load_state


class Trainer:
    """Trains a network for the configured epochs, from where an earlier run of the same kind stopped.

    What a step does follows from the weights, the optimiser's state and (seed, rank, epoch, step) alone,
    so a checkpoint says after how many samples of which epoch it was made, and nothing else is needed to go on.

    Args:
        net: the network itself; the actor may hold it wrapped for several processes.
        actor: forward pass and loss.
        cfg: the effective configuration.
        loader: training batches; `validation`: batches to measure on, or None.
        optimisation: optimiser, schedule, mixed precision.
        checkpoints: the folder of checkpoints.
        log: where progress is written.
        settings: the names of the run, saved in its checkpoints.
        found: the checkpoint to go on from and its path, or None for a new run.
    """

    def __init__(
        self,
        net: nn.Module,
        actor: Actor,
        cfg: EasyDict,
        loader: BatchLoader,
        validation: BatchLoader | None,
        optimisation: Optimisation,
        checkpoints: CheckpointFolder,
        log: RunLog,
        settings: dict[str, Any],
        found: tuple[dict[str, Any], Path] | None = None,
    ) -> None:
        self.net, self.actor, self.cfg = net, actor, cfg
        self.loader, self.validation = loader, validation
        self.optimisation, self.checkpoints, self.log = optimisation, checkpoints, log
        self.settings = settings
        self.accumulate = option(cfg, "TRAIN.ACCUM_STEPS")
        self.save_every = option(cfg, "TRAIN.SAVE_EVERY_STEPS")
        self.epoch = 0  # finished ones
        self.step = 0  # done in the epoch after them
        self.meters = Meters()  # means over that epoch
        self.stats: dict[str, dict[str, float]] = {}
        self.stop = distributed.StopRequest()
        if found is not None:
            self.resume(*found)

    def fit(self) -> dict[str, dict[str, float]]:
        """Train to TRAIN.EPOCH; gives the last epoch's means by loader (`train`, `val`).

        Raises:
            SystemExit: the run was asked to stop, and its state is saved; the status is 128 and the signal's number.
            UserError: it cannot go on; the last checkpoint is intact.
        """
        with self.stop.watching():
            for epoch in range(self.epoch + 1, self.cfg.TRAIN.EPOCH + 1):
                self.train_epoch(epoch)
                if self.validation is not None and epoch % self.cfg.TRAIN.VAL_EPOCH_INTERVAL == 0:
                    self.save()  # validation may take long, and the epoch is trained
                    self.validate(epoch)
                self.epoch, self.step = epoch, 0
                self.meters.reset()
                self.save(epoch_is_done=True)
        return self.stats

    def train_epoch(self, epoch: int) -> None:
        """The rest of one pass over SAMPLE_PER_EPOCH samples."""
        self.actor.net.train()
        steps, interval, waiting = self.loader.steps, Meters(), 0.0
        start, since = time.perf_counter(), self.step
        batches = self.loader.epoch(epoch, self.step * self.accumulate)
        with self.log.bar(steps, self.step, f"train {epoch}") as bar:
            while self.step < steps:
                values, waited = self.train_step(epoch, batches)
                waiting += waited
                self.step += 1
                self.meters.update(values)
                interval.update(values)
                bar.update()
                if self.step % self.cfg.TRAIN.PRINT_INTERVAL == 0 or self.step == steps:
                    self.actor.checks.settle()
                    seconds = time.perf_counter() - start
                    speed = (self.step - since) * self.loader.samples_per_step / seconds
                    numbers = {"lr": self.optimisation.rates(), "data_wait": waiting / seconds}
                    numbers |= memory_use(self.actor.device)
                    self.log.interval(
                        "train", epoch, self.step, steps, speed, distributed.mean_over_ranks(interval.means()), numbers
                    )
                    interval.reset()
                    waiting, start, since = 0.0, time.perf_counter(), self.step
                if self.save_every and self.step % self.save_every == 0 and self.step < steps:
                    self.save()
                self.end_if_asked()
        self.stats["train"] = distributed.mean_over_ranks(self.meters.means())
        self.log.scalars("train", epoch, self.stats["train"])

    def train_step(self, epoch: int, batches: Iterator[Batch]) -> tuple[dict[str, Number], float]:
        """Change the weights once, by ACCUM_STEPS batches.

        Returns:
            Means of loss and IoU over the batches, the gradient norm among them; and seconds waited for data.
        """
        where, meters, waited, sources = f"epoch {epoch}, step {self.step + 1}", Meters(), 0.0, []
        for part in range(self.accumulate):
            start = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - start
            sources += batch.sources
            self.seed_dropout(epoch, self.step * self.accumulate + part)
            with distributed.without_exchange(self.actor.net, part + 1 < self.accumulate):
                with self.optimisation.autocast():
                    outcome = self.actor(batch, where)
                self.optimisation.backward(outcome.loss / self.accumulate)
            meters.update(outcome.values)
        norm = self.optimisation.step(epoch, self.step)
        if not self.optimisation.may_skip:
            self.actor.checks.require(norm.expand(len(sources), 1), f"{where}: the gradient", sources)
        values = meters.means()
        if not self.optimisation.may_skip or torch.isfinite(norm):  # a skipped step says nothing of the norm
            values["grad_norm"] = norm
        return values, waited

    def seed_dropout(self, epoch: int, batch: int) -> None:
        """Dropout follows from seed, rank, epoch and batch, so that a resumed run has the same."""
        entropy = [self.settings["seed"], distributed.rank(), epoch, batch]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    @torch.no_grad()
    def validate(self, epoch: int) -> None:
        """The same measures on the validation sets, without learning. The same samples every time."""
        self.actor.net.eval()
        meters, steps, start = Meters(), self.validation.batches, time.perf_counter()
        with self.log.bar(steps, 0, f"val {epoch}") as bar:
            for step, batch in enumerate(self.validation.epoch(1)):
                with self.optimisation.autocast():
                    outcome = self.actor(batch, f"validation after epoch {epoch}, step {step + 1}")
                if step == 0:
                    self.log.pictures("val", epoch, batch, outcome)
                meters.update(outcome.values)
                bar.update()
                self.end_if_asked()
        self.actor.checks.settle()
        self.stats["val"] = distributed.mean_over_ranks(meters.means())
        speed = self.validation.steps * self.validation.samples_per_step / (time.perf_counter() - start)
        self.log.interval("val", epoch, steps, steps, speed, self.stats["val"])
        self.log.scalars("val", epoch, self.stats["val"])

    def end_if_asked(self) -> None:
        """Where any process was asked to stop, all save and end after the same step."""
        number = distributed.maximum(self.stop.signal)
        if number:
            self.save()
            self.log.say(f"stopped by signal {number} {self.where()}; saved, and the same command goes on from here")
            raise SystemExit(128 + number)

    def where(self) -> str:
        """How far the run is, in words."""
        return f"after epoch {self.epoch}" + (f" and {self.step} steps of the next" if self.step else "")

    def save(self, epoch_is_done: bool = False) -> None:
        """Write the state; all processes wait for the one that does."""
        self.actor.checks.settle()
        # Means over all processes, here as in the run that goes on from it.
        self.meters.sums = distributed.mean_over_ranks(self.meters.read())
        if distributed.rank() == 0:
            if epoch_is_done:
                self.checkpoints.save_epoch(self.state_dict(), self.epoch)
            else:
                self.checkpoints.save(self.state_dict())
        distributed.barrier()

    def resume(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Go on from a checkpoint of this run.

        Within an epoch that was begun with another number of processes, or another batch, as many samples count as
        seen as were.
        """
        load_state(self.net, checkpoint, path)
        self.optimisation.load_state_dict(checkpoint)
        self.epoch, self.stats = checkpoint["epoch"], checkpoint["stats"]
        progress = checkpoint.get("progress", {"samples": 0, "meters": self.meters.state_dict()})
        self.step = min(self.loader.steps, -(-progress["samples"] // self.loader.samples_per_step))
        self.meters.load_state_dict(progress["meters"])
        if distributed.rank() == 0 and self.epoch and not self.step:
            # The run may have been killed between the rolling checkpoint and the epoch's own.
            self.checkpoints.keep_missing(checkpoint, self.epoch)
        if self.epoch >= self.cfg.TRAIN.EPOCH:
            self.log.say(f"{path}: epoch {self.epoch} was the last: nothing to do")
            return
        self.log.rewind(self.epoch + 1, self.step)
        self.log.say(f"{path}: going on {self.where()}")

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
            "settings": self.settings,
            "progress": {"samples": self.step * self.loader.samples_per_step, "meters": self.meters.state_dict()},
            **self.optimisation.state_dict(),
        }
