"""Workspaces of the VOT toolkit on a few drawn frames, and its commands run on them."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml

from lib.utils.workspace import REPOSITORY

FRAMES, HEIGHT, WIDTH = 8, 96, 128


def draw_frame(index: int, objects: int = 1) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """A frame BGR with bright squares that move, and their boxes xywh."""
    rng = np.random.default_rng(5)
    frame = rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    boxes = [(20 + 40 * i + index, 30 + index, 24, 20) for i in range(objects)]
    for i, (x, y, w, h) in enumerate(boxes):
        frame[y : y + h, x : x + w] = (40, 250 - 60 * i, 200)
    return frame, boxes


def as_rectangle(box: tuple[int, int, int, int]) -> str:
    return ",".join(str(value) for value in box)


def as_mask(box: tuple[int, int, int, int]) -> str:
    """An object's mask in the toolkit's text form: offset, size, and lengths of runs that begin with zeros."""
    x, y, w, h = box
    return f"m{x},{y},{w},{h},0,{w * h}"


def write_sequence(
    folder: Path, write_region=as_mask, objects: int = 1, anchors: tuple[int, ...] = (), frames: int = FRAMES
) -> Path:
    """A sequence in the toolkit's form; an anchor is the number of a frame, negative for tracking backwards."""
    (folder / "color").mkdir(parents=True)
    boxes = []
    for i in range(frames):
        frame, found = draw_frame(i, objects)
        cv2.imwrite(str(folder / "color" / f"{i + 1:08d}.jpg"), frame)
        boxes.append(found)
    for i in range(objects):
        name = "groundtruth.txt" if objects == 1 else f"groundtruth_{i}.txt"
        (folder / name).write_text("".join(f"{write_region(found[i])}\n" for found in boxes))
    if anchors:
        values = [0] * frames
        for anchor in anchors:
            values[abs(anchor)] = 1 if anchor >= 0 else -1
        (folder / "anchor.value").write_text("\n".join(str(value) for value in values))
    (folder / "sequence").write_text(
        f"name={folder.name}\nfps=30\nformat=default\nchannel.default=color\nchannels.color=color/%08d.jpg\n"
        f"width={WIDTH}\nheight={HEIGHT}\n"
    )
    return folder


def write_list(sequences: Path) -> None:
    names = sorted(path.name for path in sequences.iterdir() if path.is_dir())
    (sequences / "list.txt").write_text("".join(f"{name}\n" for name in names))


def moving_tracker(kind: str) -> str:
    """An entry of trackers.ini: the tracker `moving`, which needs no network, answers regions of a kind."""
    return (
        f"[moving]\nprotocol = traxpython\npaths = {REPOSITORY}\n"
        f"command = from tests.test.vot20.fake_tracker import main; main('{kind}')\n"
    )


def write_workspace(folder: Path, experiments: dict, trackers: str = "", registry: tuple = ("./trackers.ini",)) -> Path:
    """A workspace around `folder/sequences` with a stack of its own."""
    write_list(folder / "sequences")
    (folder / "stack.yaml").write_text(yaml.safe_dump({"title": "made", "experiments": experiments}))
    (folder / "trackers.ini").write_text(trackers)
    config = {"registry": list(registry), "stack": "./stack.yaml", "sequences": "sequences"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def environment(save_dir: Path, compiled: bool = False) -> dict[str, str]:
    """What the toolkit runs in: no network, one CPU, checkpoints in `save_dir`.

    `compiled` is for analyses of rectangles, which need numba: the first time, compiling takes up to a minute.
    """
    nowhere = "http://127.0.0.1:9"
    return os.environ | {
        "PATH": os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"])),
        "PYTHONPATH": str(REPOSITORY),
        "STARK_SAVE_DIR": str(save_dir),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "NUMBA_DISABLE_JIT": "0" if compiled else "1",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere),
    }


def vot(*arguments: object, save_dir: Path, compiled: bool = False) -> str:
    """Run a command of the toolkit in `save_dir`; it must succeed, and its output is returned."""
    return run([sys.executable, "-m", "vot", *map(str, arguments)], save_dir, environment(save_dir, compiled))


def run(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    """Run a command that must succeed: what it says."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
