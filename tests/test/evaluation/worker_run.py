"""A tracker that fails, dies or waits where a test wants it to, and a command that runs it, for worker processes."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.evaluation.running import run_sequences
from lib.test.evaluation.sequences import SequenceResult
from lib.utils.errors import UserError, run_command
from tests.data.made_sets import moving_boxes, write_sequence

LENGTHS = {"a": 4, "b": 9, "c": 6, "d": 8, "e": 3, "f": 5}


def make_set(root: Path, lengths: dict[str, int]) -> list:
    """Sequences of so many frames; the first box tells which: its y is 30 for the first, 31 for the second, …"""
    for index, (name, count) in enumerate(lengths.items()):
        write_sequence(root, name, count, moving_boxes(count) + [0.75, index, 0.3, 0])
    return load_dataset(f"folder:{root}")


@dataclass
class DiaryTracker:
    """Raises, is killed, or waits on frame 2 of the sequences that are named; calling it makes a tracker."""

    diary: Path  # gets a line for all that happens
    raising: str = ""
    dying: str = ""
    waiting: str = ""
    making: str = ""  # "refuses": it ends in an error; "dies": its process is killed

    def __call__(self, device: str) -> "DiaryTracker":
        self.note(f"make {device}")
        if self.making == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.making == "refuses":
            raise UserError("no such weights")
        return self

    def note(self, what: str) -> None:
        with open(self.diary, "a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def entries(self, what: str) -> list[tuple[str, int]]:
        """What follows a word, and the process that wrote it."""
        lines = self.diary.read_text().splitlines() if self.diary.exists() else []
        return [(line.split()[-2], int(line.split()[-1])) for line in lines if line.startswith(what)]

    def initialize(self, image: np.ndarray, info: dict) -> None:
        self.box, self.index = info["init_bbox"], 0
        self.name = "abcdef"[round(self.box[1] - 30)]
        self.note(f"start {self.name}")

    def track(self, image: np.ndarray) -> dict:
        self.index += 1
        if self.index == 2 and self.name in self.dying:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.index == 2 and self.name in self.raising:
            raise RuntimeError("lost my way")
        if self.index == 2 and self.name in self.waiting:
            self.note(f"wait {self.name}")
            time.sleep(600)
        return {"target_bbox": self.box}


def blocked_signals(tracker: DiaryTracker, sequence: Sequence) -> SequenceResult:
    """A result that names the signals which do not reach this process."""
    return SequenceResult(sequence.name, ", ".join(each.name for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())))


def main() -> int:
    """worker_run.py ROOT OUTPUT DIARY PROCESSES WAITING"""
    root, output, diary, processes, waiting = sys.argv[1:]
    tracker = DiaryTracker(Path(diary), waiting=waiting)
    return run_sequences(tracker, load_dataset(f"folder:{root}"), Path(output), ["cpu"] * int(processes)).status


if __name__ == "__main__":
    run_command(main)
