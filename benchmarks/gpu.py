"""Tests and measures on a GPU in under 8 minutes: tests marked `cuda`, training, tracking, the loader. Writes one JSON.

Each part is a process with a time limit; what it measured before the limit stays. What fails is noted with its error,
and the others go on. Networks are random but for those that come with weights.

python benchmarks/gpu.py --output FILE [--device cuda] [--parts tests training tracking loader]
python benchmarks/gpu.py --device cpu --small   # tries all of it in about two minutes
"""

import argparse
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import data, tracking
from benchmarks.measuring import report, resident_megabytes, write_clip
from benchmarks.training import make_step
from lib.train.loader import BatchLoader
from lib.utils.device import available_cpus, select_device
from lib.utils.errors import run_command
from lib.utils.workspace import REPOSITORY

Rows = Iterator[dict[str, object]]

LIGHTNING = "stark_lightning_X_trt:baseline_rephead_4_lite_search5"
BATCH = 16
TRAINING = ("stark_s:baseline", "stark_st1:baseline", "stark_st2:baseline", "stark_st1:baseline_R101", LIGHTNING)
# Those that compile come last: each takes a minute of its part's time.
TRAINING_WAYS = ("fp32", "tf32", "bf16", "bf16+compile", "bf16+reduce-overhead")
TRACKING_WAYS = ("torch:fp32", "torch:bf16", "torch:fp16", "onnx:fp32", "tensorrt:bf16", "compile:bf16")
SMALL = "stark_lightning_X_trt:mini"
SECONDS = 1.5  # that a number is measured for


def tests(device: str, small: bool) -> Rows:
    """The tests marked `cuda`: a row for what failed or was skipped, and one for the numbers of each."""
    command = ["env", f"STARK_TEST_DEVICE={device}", sys.executable, "-m", "pytest", "-rfEs", "-m", "cuda"]
    command += ["tests/test_cuda.py", *(["-k", "lightning and outputs"] if small else [])]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as running:
        last = ""
        for line in running.stdout:
            last = line.strip() or last
            if line.startswith(("FAILED", "ERROR", "SKIPPED")):
                yield {"result": line.strip()}
            elif line.startswith("E  "):
                print(line, end="", file=sys.stderr)
    yield {"result": last, "status": running.returncode}


def training(device: str, small: bool) -> Rows:
    """Samples a second and the largest memory of training steps."""
    variants, ways, size = ((SMALL,), ("fp32", "bf16"), 2) if small else (TRAINING, TRAINING_WAYS, BATCH)
    for way in ways:
        for variant in variants:
            with noted({"variant": variant, "way": way}) as row:
                step = None  # the network of the row before
                torch._dynamo.reset()
                gc.collect()
                if device != "cpu":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                step = make_step(f"{variant}:{size}", way, device)
                begun = time.perf_counter()
                for _ in range(1 if small else 4):  # these compile, and choose algorithms
                    step()
                wait(device)
                row["warm-up (s)"] = time.perf_counter() - begun
                row["samples/s"] = size * calls_a_second(step, device, 1 if small else 10)
                megabytes = resident_megabytes() if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
                row["memory (MB)"] = round(megabytes)
            yield row


def calls_a_second(call: Callable[[], object], device: str, least: int) -> float:
    """How often a second something can be done, measured on at least so many calls."""
    count, begun = 0, time.perf_counter()
    while count < least or time.perf_counter() - begun < SECONDS:
        for _ in range(least):  # waiting after each would leave the device without work
            call()
        wait(device)
        count += least
    return count / (time.perf_counter() - begun)


def wait(device: str) -> None:
    """Until the device has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize()


def track(device: str, small: bool) -> Rows:
    """Frames a second of tracking in frames of 1280x720, crops included."""
    variants, ways = ((SMALL,), ("torch:fp32", "onnx:fp32")) if small else (tracking.VARIANTS, TRACKING_WAYS)
    with tempfile.TemporaryDirectory() as folder:
        for way in ways:
            for variant in variants:
                with noted({"variant": variant, "way": way}) as row:
                    burst = tracking.tracking(variant, way, Path(folder), device)
                    burst()
                    milliseconds = 1e3 * float(np.median([burst()[0] for _ in range(2 if small else 8)]))
                    row |= {"ms": milliseconds, "frames/s": 1e3 / milliseconds}
                yield row


def load(device: str, small: bool) -> Rows:
    """Samples a second of the loader alone, of two templates and a search region from frames of 1280x720."""
    workers, batches = (1, 4) if small else (8, 60)
    with tempfile.TemporaryDirectory() as folder, noted({"workers": workers, "cores": available_cpus()}) as row:
        write_clip(Path(folder) / "clips", 2 if small else 6, 24 if small else 48, quality=75)
        samples = data.stream(f"FOLDER:{folder}/clips")
        loader = BatchLoader(samples, BATCH * 3 * batches, BATCH, workers, pin=device != "cpu")
        made = loader.epoch(1)
        for _ in range(batches):  # workers start, and fill their queues
            next(made)
        begun = time.perf_counter()
        for _ in range(batches):
            next(made)
        row["samples/s"] = BATCH * batches / (time.perf_counter() - begun)
    yield row


# Part: what it does, and its time limit in seconds; together under 8 minutes.
PARTS = {"tests": (tests, 130), "training": (training, 160), "tracking": (track, 120), "loader": (load, 50)}


@contextlib.contextmanager
def noted(row: dict[str, object]) -> Iterator[dict[str, object]]:
    """A row, with the error of the block that fills it, if there is one."""
    try:
        yield row
    except Exception as error:  # noqa: BLE001 - the row has it, and what else can be measured is measured
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def run_part(name: str, device: str, small: bool) -> list[dict[str, object]]:
    """The rows of a part, which a process of its own makes; those made within the part's time if it takes longer."""
    limit = PARTS[name][1]
    command = [sys.executable, __file__, "--inside", name, "--device", device, *["--small"] * small]
    with tempfile.TemporaryFile("w+") as made:
        # A session of its own: at the limit its children end, too.
        part = subprocess.Popen(command, stdout=made, start_new_session=True)
        fault = f"stopped after its {limit} seconds"
        try:
            fault = f"ended with status {status}" if (status := part.wait(limit)) else ""
        except subprocess.TimeoutExpired:
            pass
        finally:
            if part.poll() is None:  # also after Ctrl-C, which does not reach it
                os.killpg(part.pid, signal.SIGKILL)
                part.wait()
        made.seek(0)
        rows = [json.loads(line) for line in made if line.startswith("{") and line.endswith("}\n")]
    return [{"part": name} | row for row in [*rows, *([{"error": fault}] if fault else [])]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a little of each part, to try it")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, help="also write the table to this JSON file, after each part")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        for row in PARTS[given.inside][0](given.device, given.small):
            print(json.dumps(row), flush=True)
        return
    device, begun, rows = str(select_device(given.device)), time.perf_counter(), []
    for name in given.parts:
        rows += run_part(name, device, given.small)
        report(f"until {name}: {time.perf_counter() - begun:.0f} seconds", rows, given.output, device)


if __name__ == "__main__":
    run_command(main)
