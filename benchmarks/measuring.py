"""Shared by the benchmarks: a clip to measure on, processes that take turns, a table with ratios."""

import argparse
import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import psutil
import torch

from lib.config import load_config
from lib.data.registry import find_sample
from lib.test.tracker import SCRIPT_OF
from lib.test.tracker.engines import choose_engine
from lib.test.video.source import open_source
from lib.utils.device import describe_machine, machine_line
from lib.utils.errors import UserError
from lib.utils.files import write_text

CLIP = "sample:bigbuckbunny"


def benchmark_parser(description: str, rounds: int = 7) -> argparse.ArgumentParser:
    """A command line with the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--output", type=Path, help="also write the table to this JSON file")
    return parser


def known_variant(text: str) -> str:
    """TRACKER:CONFIG of a command line. Raises UserError where one of them does not exist."""
    name, _, config = text.partition(":")
    if name not in SCRIPT_OF:
        raise UserError(f"'{text}' is not TRACKER:CONFIG; trackers: {', '.join(SCRIPT_OF)}")
    load_config(SCRIPT_OF[name], config)
    return text


def known_way(text: str) -> str:
    """ENGINE:PRECISION or ENGINE:PRECISION+PRECISION of a command line. Raises UserError where it does not exist."""
    engine, _, precisions = text.partition(":")
    for precision in precisions.split("+"):
        choose_engine(engine, "cpu", precision)
    return text


def in_processes(
    make: Callable[..., Callable], variant: str, ways: Iterable[str], rounds: int, threads: int, *more: object
) -> dict[str, list[Any]]:
    """The answers of each way in each round. Each has a process of its own, and they take turns.

    `make`, called in the process with variant, way and `more`, gives the function that answers. Its first answer, which
    warms up, is left out.
    """
    spawn, answers = multiprocessing.get_context("spawn"), {way: [] for way in ways}
    pools = {way: ProcessPoolExecutor(1, spawn, _begin, (threads, make, variant, way, *more)) for way in answers}
    for _ in range(1 + rounds):
        for way, pool in pools.items():
            answers[way].append(pool.submit(_answer).result())
    for pool in pools.values():
        pool.shutdown()
    return {way: given[1:] for way, given in answers.items()}


def _begin(threads: int, make: Callable[..., Callable], *arguments: object) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    _answer.function = make(*arguments)


def _answer() -> object:
    return _answer.function()


def table(seconds: Mapping[str, Sequence[float]], unit: str, number: Callable[[float], float]) -> list[dict]:
    """Rows `way`, `unit` (the number of a median over rounds), `ratio`: how many times as fast as the first way.

    A ratio compares the runs of one round.
    """
    rows = {way: {"way": way, unit: number(float(np.median(values)))} for way, values in seconds.items()}
    first = next(iter(seconds.values()))
    return [row | {"ratio": float(np.median(np.divide(first, seconds[way])))} for way, row in rows.items()]


def resident_megabytes() -> float:
    """Memory of this process."""
    return psutil.Process().memory_info().rss / 2**20


def report(title: str, rows: list[dict[str, object]], output: Path | None = None, device: str = "cpu") -> None:
    """Print the machine and the rows as a table, and write both as JSON."""
    machine = describe_machine(torch.device(device))
    print(f"{title}\n{machine_line(machine)}; load: {os.getloadavg()[0]:.1f}")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format, na_rep="-"))
    if output is not None:
        content = {"title": title, "command": sys.argv, "machine": machine, "rows": rows}
        write_text(output, json.dumps(content, indent=2))


def clip_frames(count: int, width: int, height: int) -> list[np.ndarray]:
    """The first frames of the sample clip (height, width, 3) uint8 RGB, at most `count`."""
    frames = open_source(str(find_sample(CLIP)[0])).frames
    return [cv2.resize(frame, (width, height)) for frame in itertools.islice(frames, count)]


def write_clip(root: Path, sequences: int, frames: int, width: int = 1280, height: int = 720, quality: int = 90):
    """Write parts of the sample clip as sequences in GOT-10k layout, with boxes that move and change size.

    The first box is that of the clip. The clip starts anew where it ends.
    """
    found = clip_frames(frames + 4 * sequences, width, height)
    rng, ways = np.random.default_rng(1), np.linspace(0, 1, frames)[:, None]
    first = np.array(find_sample(CLIP)[1].box) * (np.array((width, height) * 2) / (1280, 720, 1280, 720))
    for number in range(sequences):
        folder = root / f"clip{number + 1}"
        folder.mkdir(parents=True)
        for index in range(frames):
            picture = cv2.cvtColor(found[(number * 4 + index) % len(found)], cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / f"{index + 1:08d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        size = first[2:] * np.exp(0.2 * rng.uniform(-1, 1) * ways)
        boxes = np.hstack((first[:2] + (rng.uniform(0.1, 0.7, 2) * (width, height) - first[:2]) * ways, size))
        np.savetxt(folder / "groundtruth.txt", boxes, "%.2f", ",")
    (root / "list.txt").write_text("".join(f"clip{number + 1}\n" for number in range(sequences)))
