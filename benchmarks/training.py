"""Time of a training step (forward pass, loss, backward pass, AdamW) of one batch, against the plain eager path.

Each way has a process of its own; they take their steps in turn. A way is `plain` (fp32), or `fp32` or `bf16`, with
`+compile` for TRAIN.COMPILE.

python benchmarks/training.py [--variants stark_s:baseline:4 …] [--ways plain fp32 bf16 …] [--threads 2] [--output FILE]
"""

import argparse
import itertools
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ratios, report, take_turns
from benchmarks.plain_training import PlainStep
from benchmarks.resident import resident
from lib.config import load_config
from lib.models import build_model
from lib.train.loader import Batch
from lib.train.losses import BoxActor, ScoreActor
from lib.train.optimiser import Optimisation, choose_arithmetic
from lib.train.trainer import Trainer
from lib.utils.errors import UserError, run_command

VARIANTS = (
    "stark_s:baseline:4",
    "stark_st1:baseline:4",
    "stark_st2:baseline:4",
    "stark_lightning_X_trt:baseline_rephead_4_lite_search5:16",
)
WAYS = ("plain", "fp32", "bf16")


def make_batch(cfg: EasyDict, size: int) -> Batch:
    """Random crops, of which some are padded."""
    random, templates = torch.Generator().manual_seed(0), cfg.DATA.TEMPLATE.get("NUMBER", 1)

    def crops(side: int, *leading: int) -> torch.Tensor:
        return torch.randint(0, 256, (*leading, side, side, 3), dtype=torch.uint8, generator=random)

    def masks(side: int, *leading: int) -> torch.Tensor:
        mask = torch.zeros(*leading, side, side, dtype=torch.bool)
        mask[..., ::3, : side // 4, :] = True
        return mask

    small, large = cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE
    return Batch(
        templates=crops(small, templates, size),
        template_masks=masks(small, templates, size),
        search=crops(large, size),
        search_mask=masks(large, size),
        boxes=torch.rand(size, 4, generator=random) * 0.2 + 0.25,
        labels=(torch.arange(size) % 2).float(),
        brightness=torch.rand(templates + 1, size, generator=random) * 0.4 + 0.8,
        sources=[["random"]] * size,
        failures=[],
    )


def make_step(variant: str, way: str) -> Callable[[], object]:
    """A way's training step; the weights change with every call."""
    script, config, size = variant.split(":")
    precision, *more = way.split("+")
    overrides = [f"TRAIN.BATCH_SIZE={size}"]
    overrides += ["TRAIN.AMP=bf16"] if precision == "bf16" else []
    overrides += ["TRAIN.COMPILE=default"] if "compile" in more else []
    cfg = load_config(script, config, overrides)
    torch.manual_seed(0)
    net, batch, device = build_model(script, cfg), make_batch(cfg, int(size)), torch.device("cpu")
    if way == "plain":
        plain = PlainStep(net, cfg)
        return lambda: plain(batch)
    net = net.to(memory_format=torch.channels_last).train()
    choose_arithmetic(net, cfg, device)
    optimisation = Optimisation(net, cfg, device, steps_per_epoch=1)
    actor = (ScoreActor if cfg.TRAIN.get("TRAIN_CLS", False) else BoxActor)(net, cfg, device)
    trainer = Trainer(net, actor, cfg, None, None, optimisation, None, None, {"seed": 0})
    batches = itertools.repeat(batch)
    return lambda: trainer.train_step(1, batches)


class Worker:
    """A process that takes a way's steps when called."""

    def __init__(self, variant: str, way: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, variant, way, threads), daemon=True)
        self.process.start()
        theirs.close()
        self()  # builds the network; a process at a time

    def __call__(self) -> None:
        """Take a step.

        Raises:
            UserError: the process died.
        """
        try:
            self.pipe.send(True)
            self.memory = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise UserError("a process that measures died; its message is above") from error

    def close(self) -> None:
        """End the process."""
        self.pipe.send(False)
        self.process.join()


def _work(pipe: Connection, variant: str, way: str, threads: int) -> None:
    """In a process of its own: take a step whenever asked, until told to end."""
    torch.set_num_threads(threads)
    step = make_step(variant, way)
    while pipe.recv():
        step()
        pipe.send(resident()[1])


def measure(variant: str, ways: list[str], threads: int, rounds: int) -> list[dict[str, object]]:
    """One row a way of one variant."""
    workers = {way: Worker(variant, way, threads) for way in ways}
    seconds = take_turns(workers, rounds, warmup=1)
    faster, size = ratios(seconds, "plain"), int(variant.split(":")[2])
    rows = []
    for way, values in seconds.items():
        workers[way].close()
        median = float(np.median(values))
        row = {"variant": variant, "way": way, "s a step": median, "samples/s": size / median, "ratio": faster[way]}
        rows.append(row | {"memory (MB)": round(workers[way].memory)})
    return rows


def _known(variant: str) -> str:
    script, config, size = [*variant.split(":"), "", ""][:3]
    if not size.isdecimal():
        raise UserError(f"'{variant}' is not SCRIPT:CONFIG:BATCH")
    load_config(script, config)
    return variant


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", type=_known, default=VARIANTS, metavar="SCRIPT:CONFIG:BATCH")
    parser.add_argument("--ways", nargs="+", default=WAYS, help="`plain` is always one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    ways = list(dict.fromkeys(["plain", *given.ways]))
    rows = [row for variant in given.variants for row in measure(variant, ways, given.threads, given.rounds)]
    report("Training, a step", rows, given.output)


if __name__ == "__main__":
    run_command(main)
