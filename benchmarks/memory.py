"""Memory of a process that tracks, by engine and precision: resident after twenty frames, and the most it ever was.

Each way has a process of its own. `import` is what Python, PyTorch and OpenCV take before there is a network.

python benchmarks/memory.py [--variants stark_s:baseline …] [--ways torch:fp32 openvino:fp32 …] [--output FILE]
"""

import argparse
import multiprocessing
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import report
from lib.config import load_config
from lib.models import build_model
from lib.test.tracker import SCRIPTS
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError, run_command

_FRAMES = 20
WAYS = ("torch:fp32", "onnx:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")


def resident() -> tuple[float, float]:
    """MB of this process in memory: now, and at most.

    Raises:
        UserError: the system does not tell.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError as error:
        raise UserError("memory is read from /proc/self/status, which this system does not have") from error
    now, most = (int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024 for key in ("VmRSS", "VmHWM"))
    return now, most


def _track(connection, variant: str, way: str, checkpoint: Path) -> None:
    """In a process of its own: make a tracker, track, tell the memory."""
    from lib.test.tracker import create_tracker

    before, _ = resident()
    engine, precision = way.split(":")
    tracker = create_tracker(*variant.split(":"), checkpoint=checkpoint, engine=engine, precision=precision)
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    tracker.initialize(frame, {"init_bbox": [520, 260, 170, 110]})
    for _ in range(_FRAMES):
        tracker.track(frame)
    connection.send((before, *resident()))


def measure(variant: str, way: str, checkpoint: Path) -> dict[str, object]:
    """One row of the table."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_track, args=(theirs, variant, way, checkpoint))
    process.start()
    theirs.close()
    try:
        before, now, most = ours.recv()
    except EOFError as error:
        raise UserError(f"the process with {variant} on {way} died; its message is above") from error
    process.join()
    return {"variant": variant, "way": way, "import (MB)": before, "resident (MB)": now, "most (MB)": most}


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--variants", nargs="+", default=["stark_s:baseline", "stark_lightning_X_trt:mini"], metavar="TRACKER:CONFIG"
    )
    parser.add_argument("--ways", nargs="+", metavar="ENGINE:PRECISION", default=WAYS)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = []
    for variant in given.variants:
        name, config = variant.split(":")
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "random.pth.tar"
            model = build_model(SCRIPTS[name], load_config(SCRIPTS[name], config))
            save_checkpoint(checkpoint, {"net": model.state_dict(), "net_type": type(model).__name__})
            rows += [measure(variant, way, checkpoint) for way in given.ways]
    report("Memory of a tracking process", rows, given.output)


if __name__ == "__main__":
    run_command(main)
