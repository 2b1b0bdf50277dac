"""Timing several ways of doing one thing, in turn, so that what else the machine does meets all alike."""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.config import load_config
from lib.test.profiling.latency import describe_machine, machine_line
from lib.test.tracker import SCRIPTS
from lib.test.tracker.engines import choose_engine
from lib.utils.errors import UserError
from lib.utils.files import write_text
from lib.utils.text import ruled_table


def known_variant(text: str) -> str:
    """TRACKER:CONFIG of a command line.

    Raises:
        UserError: there is no such tracker or configuration.
    """
    name, _, config = text.partition(":")
    if name not in SCRIPTS:
        raise UserError(f"'{text}' is not TRACKER:CONFIG; trackers: {', '.join(SCRIPTS)}")
    load_config(SCRIPTS[name], config)
    return text


def known_way(text: str) -> str:
    """ENGINE:PRECISION or ENGINE:PRECISION+PRECISION of a command line.

    Raises:
        UserError: there is no such engine, or it does not compute in that.
    """
    engine, _, precisions = text.partition(":")
    for precision in precisions.split("+"):
        choose_engine(engine, "cpu", precision)
    return text


class Worker:
    """A process that answers one question after the other, so that ways do not share threads and memory.

    Args:
        serve: called there with a connection and `arguments`; it sends None when it is ready, then an answer to each
            question that it receives, until that is None.
    """

    def __init__(self, serve: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def ask(self, question: object) -> Any:
        """The answer to a question."""
        self._connection.send(question)
        return self._receive()

    def end(self) -> None:
        """Let it end."""
        self._connection.send(None)
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise UserError("a process that is measured died; its message is above") from error


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, np.ndarray]:
    """Seconds of every run of every way: (rounds,) each, the ways one after the other in each round."""
    for _ in range(warmup):
        for way in ways.values():
            way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def ratios(seconds: Mapping[str, np.ndarray], plain: str) -> dict[str, float]:
    """How many times as fast as `plain` each way is: the median over rounds, each held against its own round."""
    return {name: float(np.median(seconds[plain] / values)) for name, values in seconds.items()}


def report(title: str, rows: list[dict[str, object]], output: Path | None = None) -> None:
    """Print the machine and the rows as a table, and write both as JSON."""
    machine = describe_machine(torch.device("cpu"))
    print(f"{title}\n{machine_line(machine)}; load: {os.getloadavg()[0]:.1f}")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(ruled_table([columns, *([_cell(row.get(column)) for column in columns] for row in rows)]))
    if output is not None:
        write_text(
            output, json.dumps({"title": title, "command": sys.argv, "machine": machine, "rows": rows}, indent=2)
        )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
