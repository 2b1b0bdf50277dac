"""The training loop."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from lib.train import distributed
from lib.train.actors.stark import Actor, NonFiniteError, name_sources
from lib.train.admin.log import Meters, RunLog, Stopwatch
from lib.train.data.loader import BatchLoader
from lib.train.trainers.checkpoints import CheckpointFolder
from lib.train.trainers.optimisation import Optimisation
from lib.utils.checkpoint import load_state


class Trainer:
    """Trains a network for the configured epochs, from where an earlier run of the same kind stopped.

    Args:
        net: the network itself; the actor may hold it wrapped for several processes.
        actor: forward pass and loss.
        cfg: the effective configuration.
        loader: training batches; `validation`: batches to measure on, or None.
        optimisation: optimiser, schedule, mixed precision.
        checkpoints: where states are kept.
        log: where progress is written.
        settings: what names the run, kept in its checkpoints.
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
        self.epoch = 0
        self.stats: dict[str, dict[str, float]] = {}
        if found is not None:
            self.resume(*found)

    def fit(self) -> dict[str, dict[str, float]]:
        """Train to TRAIN.EPOCH; gives the last epoch's means by loader (`train`, `val`)."""
        for epoch in range(self.epoch + 1, self.cfg.TRAIN.EPOCH + 1):
            self.stats["train"] = self.train_epoch(epoch)
            self.log.scalars("train", epoch, self.stats["train"])
            if self.validation is not None and epoch % self.cfg.TRAIN.VAL_EPOCH_INTERVAL == 0:
                self.stats["val"] = self.validate(epoch)
                self.log.scalars("val", epoch, self.stats["val"])
            self.epoch = epoch
            if distributed.rank() == 0:
                self.checkpoints.save(self.state_dict(), epoch)
            distributed.barrier()
        return self.stats

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over SAMPLE_PER_EPOCH samples; gives the means of loss and IoU over it."""
        self.actor.net.train()
        # Dropout's draws follow from seed, rank and epoch, so that a resumed run makes the same.
        torch.manual_seed(
            np.random.SeedSequence([self.settings["seed"], distributed.rank(), epoch]).generate_state(1)[0]
        )
        whole, interval, steps = Meters(), Meters(), len(self.loader)
        watch, samples = Stopwatch(), 0
        with self.log.bar(steps, 0, f"train {epoch}") as bar:
            for step, batch in enumerate(self.loader.epoch(epoch)):
                where = f"epoch {epoch}, step {step + 1}"
                with self.optimisation.autocast():
                    loss, values = self.actor(batch, where)
                try:
                    norm = self.optimisation.step(loss, epoch, step)
                except NonFiniteError as error:
                    raise NonFiniteError(f"{where}: {error}; samples: {name_sources(batch.sources)}") from error
                values = {name: value.item() for name, value in values.items()}
                whole.update(values)
                interval.update(values | {"grad_norm": norm.item()})
                samples += len(batch.sources)
                bar.update()
                if (step + 1) % self.cfg.TRAIN.PRINT_INTERVAL == 0 or step + 1 == steps:
                    speed = samples * distributed.world_size() / watch.lap()
                    self.log.line("train", epoch, step + 1, steps, speed, interval.means())
                    interval.reset()
                    samples = 0
        return whole.means()

    @torch.no_grad()
    def validate(self, epoch: int) -> dict[str, float]:
        """The same measures on the validation sets, without learning. The same samples every time."""
        self.actor.net.eval()
        meters, steps, watch = Meters(), len(self.validation), Stopwatch()
        with self.log.bar(steps, 0, f"val {epoch}") as bar:
            for step, batch in enumerate(self.validation.epoch(1)):
                with self.optimisation.autocast():
                    _, values = self.actor(batch, f"validation after epoch {epoch}, step {step + 1}")
                meters.update({name: distributed.mean_over_ranks(value).item() for name, value in values.items()})
                bar.update()
        samples = steps * self.validation.batch_size * distributed.world_size()
        self.log.line("val", epoch, steps, steps, samples / watch.lap(), meters.means())
        return meters.means()

    def resume(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Go on from a checkpoint of this run."""
        load_state(self.net, checkpoint, path)
        self.optimisation.load_state_dict(checkpoint)
        self.epoch, self.stats = checkpoint["epoch"], checkpoint["stats"]
        done = self.epoch >= self.cfg.TRAIN.EPOCH
        self.log.say(f"{path}: epoch {self.epoch} " + ("was the last: nothing to do" if done else "; going on from it"))

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
            **self.optimisation.state_dict(),
        }
