"""Workspaces of the VOT toolkit on a few drawn frames, its commands run on them, and a tracker without a network."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml

from lib.test.vot20.stark_vot20 import serve
from lib.utils.errors import run_command
from lib.utils.workspace import REPOSITORY

FRAMES, HEIGHT, WIDTH = 8, 96, 128


def write_sequence(folder: Path, rectangles: bool = False, anchors: tuple[int, ...] = ()) -> None:
    """A sequence in the toolkit's form, of a bright square that moves one pixel right and down a frame.

    It has masks or rectangles, and `anchors` at frames, negative for tracking backwards.
    """
    (folder / "color").mkdir(parents=True)
    regions, (w, h) = [], (24, 20)
    for i in range(FRAMES):
        x, y = 20 + i, 30 + i
        frame = np.random.default_rng(5).integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        frame[y : y + h, x : x + w] = (40, 250, 200)
        cv2.imwrite(str(folder / "color" / f"{i + 1:08d}.jpg"), frame)
        # A mask is its offset, its size, and lengths of runs that begin with zeros.
        regions.append(f"{x},{y},{w},{h}\n" if rectangles else f"m{x},{y},{w},{h},0,{w * h}\n")
    (folder / "groundtruth.txt").write_text("".join(regions))
    if anchors:
        values = {abs(anchor): 1 if anchor >= 0 else -1 for anchor in anchors}
        (folder / "anchor.value").write_text("\n".join(str(values.get(i, 0)) for i in range(FRAMES)))
    (folder / "sequence").write_text(
        f"name={folder.name}\nfps=30\nformat=default\nchannel.default=color\nchannels.color=color/%08d.jpg\n"
        f"width={WIDTH}\nheight={HEIGHT}\n"
    )
    (folder.parent / "list.txt").write_text(f"{folder.name}\n")


def write_workspace(folder: Path, experiments: dict, kind: str = "", registry: str = "./trackers.ini") -> None:
    """A workspace around `folder/sequences`, whose tracker `moving` needs no network and answers regions of a kind."""
    (folder / "stack.yaml").write_text(yaml.safe_dump({"title": "made", "experiments": experiments}))
    (folder / "trackers.ini").write_text(
        f"[moving]\nprotocol = traxpython\npaths = {REPOSITORY}\n"
        f"command = from tests.test.vot20.made_workspaces import main; main('{kind}')\n"
    )
    config = {"registry": [registry], "stack": "./stack.yaml", "sequences": "sequences"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def vot(command: str, workspace: Path, *arguments: str) -> str:
    """Run a command of the toolkit; see `run`."""
    return run([sys.executable, "-m", "vot", command, "--workspace", str(workspace), *arguments], workspace)


def run(command: list[str], save_dir: Path) -> str:
    """Run a command that must succeed, with checkpoints in `save_dir`, and no network; gives what it prints."""
    environment = os.environ | {
        "PATH": os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"])),
        "PYTHONPATH": str(REPOSITORY),
        "STARK_SAVE_DIR": str(save_dir),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        # Analyses of rectangles need numba: the first time, compiling takes up to a minute.
        "NUMBA_DISABLE_JIT": str(int("analysis" not in command)),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    }
    done = subprocess.run(
        command, cwd=save_dir, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class MovingTracker:
    """Moves one pixel right and down a frame, as the drawn objects do, and grows less sure."""

    def initialize(self, image, info):
        self.box, self.confidence = list(info["init_bbox"]), 1.0

    def track(self, image):
        self.box = [self.box[0] + 1, self.box[1] + 1, *self.box[2:]]
        self.confidence -= 0.05
        return {"target_bbox": list(self.box), "conf_score": self.confidence}


def main(kind):
    run_command(lambda: serve(MovingTracker, kind, "moving"))
