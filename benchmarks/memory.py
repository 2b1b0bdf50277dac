"""Memory of a process that tracks, by engine and precision: resident after twenty frames, and the most it ever was.

Each way has a process of its own. Engines that run exported graphs are started twice: the first time exports them, with
PyTorch, and the second one is measured. `network` is what a way takes beside Python, NumPy, OpenCV and, where it is
loaded, PyTorch.

python benchmarks/memory.py [--variants stark_s:baseline …] [--ways torch:fp32 openvino:fp32 …] [--output FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import known_variant, known_way, report
from lib.config import load_config
from lib.models import build_model
from lib.test.tracker import SCRIPTS
from lib.utils.checkpoint import save_checkpoint
from lib.utils.errors import UserError, run_command
from lib.utils.workspace import REPOSITORY

WAYS = ("torch:fp32", "onnx:fp32", "openvino:fp32", "openvino:bf16", "openvino:int8")

_TRACK = """
import json, sys
import numpy as np
from benchmarks.resident import resident

name, config, checkpoint, engine, precision = sys.argv[1:]
if engine == "torch":
    import torch
from lib.test.tracker import create_tracker
before = resident()[0]
tracker = create_tracker(name, config, checkpoint=checkpoint, engine=engine, precision=precision)
frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
tracker.initialize(frame, {"init_bbox": [520, 260, 170, 110]})
for _ in range(20):
    tracker.track(frame)
print(json.dumps([before, *resident()]))
"""


def track(variant: str, way: str, checkpoint: Path, save_dir: Path) -> list[float]:
    """MB before there is a network, after twenty frames, and at most, of a new process.

    Raises:
        UserError: it died.
    """
    command = [sys.executable, "-c", _TRACK, *variant.split(":"), str(checkpoint), *way.split(":")]
    environment = os.environ | {"STARK_SAVE_DIR": str(save_dir)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the process with {variant} on {way} died: {' '.join(done.stderr.split())[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(variant: str, way: str, checkpoint: Path, save_dir: Path) -> dict[str, object]:
    """One row of the table."""
    if not way.startswith("torch"):
        track(variant, way, checkpoint, save_dir)
    before, now, most = track(variant, way, checkpoint, save_dir)
    return {"variant": variant, "way": way, "resident (MB)": now, "network (MB)": now - before, "most (MB)": most}


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    variants = ["stark_s:baseline", "stark_lightning_X_trt:mini"]
    parser.add_argument("--variants", nargs="+", type=known_variant, default=variants, metavar="TRACKER:CONFIG")
    parser.add_argument("--ways", nargs="+", type=known_way, metavar="ENGINE:PRECISION", default=WAYS)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = []
    for variant in given.variants:
        name, config = variant.split(":")
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "random.pth.tar"
            model = build_model(SCRIPTS[name], load_config(SCRIPTS[name], config))
            save_checkpoint(checkpoint, {"net": model.state_dict(), "net_type": type(model).__name__})
            rows += [measure(variant, way, checkpoint, Path(folder)) for way in given.ways]
    report("Memory of a tracking process", rows, given.output)


if __name__ == "__main__":
    run_command(main)
