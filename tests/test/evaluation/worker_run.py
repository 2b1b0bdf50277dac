"""A tracker that fails, dies or waits where a test wants it to, and a command that runs it; in a module, so that worker
processes can import it."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data.registry import load_dataset
from lib.test.evaluation.running import Rank, run_sequences
from lib.utils.errors import UserError, run_command
from tests.data.made_sets import moving_boxes, write_sequence

NAMES = "abcdef"
LENGTHS = (4, 9, 6, 8, 3, 5)


def make_set(root: Path) -> list:
    """Sequences a to f; the first box tells which: its y is 30 for a, 31 for b, …"""
    for index, (name, count) in enumerate(zip(NAMES, LENGTHS, strict=True)):
        write_sequence(root, name, count, moving_boxes(count) + [0.5, index, 0, 0])
    return load_dataset(f"folder:{root}")


@dataclass(frozen=True)
class Maker:
    """Makes a tracker that behaves on frame 2 of a sequence as told.

    Attributes:
        diary: a file that gets a line for all that happens.
        raising, dying, waiting: sequences on which it raises, is killed, or waits until `<diary>.go` exists.
        making: "", "dies" or "refuses".
    """

    diary: Path
    raising: str = ""
    dying: str = ""
    waiting: str = ""
    making: str = ""

    def __call__(self, device: str) -> "DiaryTracker":
        self.note(f"make {device}")
        if self.making == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.making == "refuses":
            raise UserError("no such weights")
        return DiaryTracker(self)

    def note(self, what: str) -> None:
        with open(self.diary, "a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def entries(self, what: str) -> list[tuple[str, int]]:
        """What follows a word, and the process that wrote it."""
        lines = self.diary.read_text().splitlines() if self.diary.exists() else []
        return [(line.split()[-2], int(line.split()[-1])) for line in lines if line.startswith(what)]


class DiaryTracker:
    def __init__(self, maker: Maker) -> None:
        self.maker = maker

    def initialize(self, image: np.ndarray, info: dict) -> None:
        self.box, self.index = info["init_bbox"], 0
        self.name = NAMES[round(self.box[1] - 30)]
        self.maker.note(f"start {self.name}")

    def track(self, image: np.ndarray) -> dict:
        self.index += 1
        if self.index == 2:
            if self.name in self.maker.dying:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.name in self.maker.raising:
                raise RuntimeError("lost my way")
            if self.name in self.maker.waiting:
                self.maker.note(f"wait {self.name}")
                while not self.maker.diary.with_suffix(".go").exists():
                    time.sleep(0.02)
        return {"target_bbox": self.box}


def main() -> int:
    """worker_run.py ROOT OUTPUT DIARY PROCESSES [waiting|raising SEQUENCES]"""
    root, output, diary, processes, *behaviour = sys.argv[1:]
    maker = Maker(Path(diary), **dict(zip(behaviour[::2], behaviour[1::2], strict=True)))
    rank = Rank.from_environment()
    devices = ["cpu"] * int(processes)
    report = run_sequences(maker, load_dataset(f"folder:{root}"), Path(output), devices, rank=rank)
    rank.say(str(report))
    return report.status


if __name__ == "__main__":
    run_command(main)
