"""Shared by the benchmarks: a clip to measure on, ways that take turns, processes, a table with ratios."""

import argparse
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
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


class Worker:
    """A process that answers questions, so that ways do not share threads and memory.

    `make`, called in the process with `arguments`, gives the function that answers a question.
    """

    def __init__(self, threads: int, make: Callable[..., Callable], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _begin, (threads, make, arguments))
        self._pool.submit(int).result()  # it has begun

    def ask(self, question: object = None) -> Any:
        """The answer to a question."""
        return self._pool.submit(_answer, question).result()

    def end(self) -> None:
        """End the process."""
        self._pool.shutdown()


def _begin(threads: int, make: Callable[..., Callable], arguments: tuple) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    _answer.function = make(*arguments)


def _answer(question: object) -> object:
    return _answer.function(question)


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1) -> dict[str, np.ndarray]:
    """Seconds of every run of every way: (rounds,) each, the ways one after the other in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(warmup + rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values[warmup:]) for name, values in seconds.items()}


def rate(seconds: Mapping[str, np.ndarray], unit: str, amount: float, seconds_each: bool = False) -> list[dict]:
    """Rows `way`, `unit` (amount a second, or its inverse), `ratio`: how many times as fast as the first way.

    Numbers are medians over rounds; a ratio compares the runs of one round.
    """
    first, rows = next(iter(seconds.values())), []
    for way, values in seconds.items():
        median = float(np.median(values))
        number = median / amount if seconds_each else amount / median
        rows.append({"way": way, unit: number, "ratio": float(np.median(first / values))})
    return rows


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run `count` processes beside that use a core each, until the block ends."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


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
