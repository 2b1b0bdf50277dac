"""Seconds of a training step (forward pass, loss, backward pass, AdamW) of one batch, by arithmetic.

Each way has a process of its own; they take their steps in turn. A way is `fp32`, `tf32` or `bf16`, with `+compile` for
TRAIN.COMPILE=default, or with `+` and another of its modes.

python benchmarks/training.py [--variants stark_s:baseline:4 …] [--ways fp32 bf16 …] [--threads 2] [--output FILE]
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from easydict import EasyDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import benchmark_parser, in_processes, report, resident_megabytes, table
from lib.config import load_config
from lib.models import build_model
from lib.train.loader import Batch
from lib.train.losses import BoxActor, ScoreActor
from lib.train.optimiser import Optimisation, choose_arithmetic
from lib.train.trainer import Trainer
from lib.utils.errors import UserError, run_command

VARIANTS = (
    *("stark_s:baseline:4", "stark_st1:baseline:4", "stark_st2:baseline:4"),
    "stark_lightning_X_trt:baseline_rephead_4_lite_search5:16",
)


def make_batch(cfg: EasyDict, size: int) -> Batch:
    """Random crops, a part of each third row padded."""
    random, templates = torch.Generator().manual_seed(0), cfg.DATA.TEMPLATE.get("NUMBER", 1)

    def crops(side: int, *leading: int) -> tuple[torch.Tensor, torch.Tensor]:
        mask = torch.zeros(*leading, side, side, dtype=torch.bool)
        mask[..., ::3, : side // 4, :] = True
        return torch.randint(0, 256, (*leading, side, side, 3), dtype=torch.uint8, generator=random), mask

    small, small_masks = crops(cfg.DATA.TEMPLATE.SIZE, templates, size)
    search, search_mask = crops(cfg.DATA.SEARCH.SIZE, size)
    boxes = torch.rand(size, 4, generator=random) * 0.2 + 0.25
    labels, brightness = (torch.arange(size) % 2).float(), torch.rand(templates + 1, size, generator=random) * 0.4 + 0.8
    return Batch(small, small_masks, search, search_mask, boxes, labels, brightness, [["random"]] * size, [])


def make_step(variant: str, way: str, device: str = "cpu") -> Callable[[], object]:
    """The training step of a way; the weights change with every call."""
    trainer, batches = make_trainer(variant, way, device)
    return lambda: trainer.train_step(1, batches)


def configured(variant: str, way: str) -> EasyDict:
    """The configuration of a network and its training. Raises UserError where SCRIPT:CONFIG:BATCH or way is unknown."""
    script, config, size = [*variant.split(":"), "", ""][:3]
    if not size.isdecimal():
        raise UserError(f"'{variant}' is not SCRIPT:CONFIG:BATCH")
    precision, *more = way.split("+")
    overrides = [f"TRAIN.BATCH_SIZE={size}", f"TRAIN.TF32={'true' if precision == 'tf32' else 'false'}"]
    overrides += [] if precision in ("fp32", "tf32") else [f"TRAIN.AMP={precision}"]
    overrides += [f"TRAIN.COMPILE={'default' if mode == 'compile' else mode}" for mode in more]
    return load_config(script, config, overrides)


def make_trainer(variant: str, way: str, device: str) -> tuple[Trainer, Iterator[Batch]]:
    """A trainer of a network with random weights, and one batch without end."""
    cfg, script, device = configured(variant, way), variant.split(":")[0], torch.device(device)
    torch.manual_seed(0)
    net = build_model(script, cfg).to(device, memory_format=torch.channels_last).train()
    choose_arithmetic(net, cfg, device)
    optimisation = Optimisation(net, cfg, device, steps_per_epoch=1)
    actor = (ScoreActor if cfg.TRAIN.get("TRAIN_CLS", False) else BoxActor)(net, cfg, device)
    trainer = Trainer(net, actor, cfg, None, None, optimisation, None, None, {"seed": 0})
    batch = make_batch(cfg, cfg.TRAIN.BATCH_SIZE)
    return trainer, itertools.repeat(batch.pin_memory() if device.type == "cuda" else batch)


def stepping(variant: str, way: str) -> Callable[[], tuple[float, float]]:
    """A function that takes a step; it returns its seconds and the resident memory in MB."""
    step = make_step(variant, way)

    def timed() -> tuple[float, float]:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start, resident_megabytes()

    return timed


def measure(variant: str, ways: list[str], threads: int, rounds: int) -> list[dict[str, object]]:
    """One row a way of one variant."""
    answers = in_processes(stepping, variant, ways, rounds, threads)
    seconds = {way: [each[0] for each in given] for way, given in answers.items()}
    rows = table(seconds, "samples/s", lambda median: int(variant.split(":")[2]) / median)
    return [{"variant": variant} | row | {"memory (MB)": round(answers[row["way"]][-1][1])} for row in rows]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, metavar="SCRIPT:CONFIG:BATCH")
    parser.add_argument("--ways", nargs="+", default=("fp32", "bf16"))
    given = parser.parse_args()
    for variant, way in itertools.product(given.variants, given.ways):
        configured(variant, way)  # a mistake is said before the first is measured
    rows = [row for variant in given.variants for row in measure(variant, given.ways, given.threads, given.rounds)]
    report("Training, a step", rows, given.output)


if __name__ == "__main__":
    run_command(main)
