"""Generated videos: training and testing without a download.

Textured objects move, turn, change size and deform over moving backgrounds, pass behind obstacles and past
look-alikes, and leave the image; the boxes are exact. Everything follows from a seed.
"""

import json
import multiprocessing
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...utils.errors import UserError
from ...utils.files import locked, read_text, write_text
from ...utils.progress import progress_bar
from ..images import encode_jpeg
from ..layouts import LIST
from .pictures import PHOTOGRAPHS, Materials, Split, load_photographs
from .planner import CROWDED, PLAIN, Planner
from .scene import Scene
from .sprites import SpriteSource

# Split -> arguments of `generate` where a user chooses none.
DEFAULT_SETS = {
    "train": {"seed": 1, "sequences": 150, "frames": 48},
    "test": {"seed": 2, "sequences": 12, "frames": 70},
}
VERSION = 3  # raised whenever the same arguments give other pictures or boxes
RECORD_NAME = "embedded.json"


@dataclass(frozen=True)
class EmbeddedSpec:
    """All that decides the content of a set, to the last pixel."""

    seed: int  # sets of different seeds or splits have no sequence in common
    split: Split  # they show different photographs
    sequences: int
    frames: int  # of each sequence
    size: tuple[int, int] | None = None  # width and height of every frame; None varies them
    materials: Materials | None = None  # pictures for crowded scenes; None: plain scenes of painted objects

    def __post_init__(self) -> None:
        if self.split not in PHOTOGRAPHS:
            raise UserError(f"embedded data: split must be one of {', '.join(PHOTOGRAPHS)}, not {self.split!r}")
        given = {"seed": self.seed, "sequences": self.sequences, "frames": self.frames, "size": min(self.size or (64,))}
        for name, least in {"seed": 0, "sequences": 1, "frames": 2, "size": 64}.items():
            if given[name] < least:
                raise UserError(f"embedded data: {name} must be at least {least}, not {given[name]}")

    def name(self, index: int) -> str:
        """Folder of a sequence, counted from 0."""
        return f"embedded_{self.split}_{index + 1:06d}"

    def scene(self, index: int) -> Scene:
        """Plan sequence `index`; it does not depend on the number of sequences."""
        rng = np.random.default_rng((list(PHOTOGRAPHS).index(self.split), self.seed, index))
        sprites = _sprite_source(self.split, self.materials or Materials())
        return Planner(rng, CROWDED if self.materials else PLAIN, sprites, self.frames, self.size).plan()


_sprite_source = lru_cache(maxsize=2)(SpriteSource)


def generate(output: Path, *, workers: int = 2, progress: bool = True, **chosen: Any) -> Path:
    """Write a set of sequences in GOT-10k layout, `chosen` by the attributes of `EmbeddedSpec`.

    `absence.label` is 1 where less than 2 % of the object shows: hidden, or out of the image. The box of a hidden
    object is its extent behind the occluder; the box of an object out of the image is 0,0,0,0. `cover.label` holds
    the visible eighths of the object, 0 where it is absent.

    Existing sequences stay as they are, so that an interrupted run is continued. A UserError where `output` holds
    other files, or an argument is out of range; an OSError where it cannot be written.
    """
    spec, output = EmbeddedSpec(**chosen), Path(output)
    load_photographs(spec.split)  # Reports a missing package before anything is written.
    _begin(output, spec)
    missing = [index for index in range(spec.sequences) if not (output / spec.name(index)).is_dir()]
    write, workers = partial(_write_sequence, output, spec), min(workers, len(missing))
    with ExitStack() as stack:
        written = map(write, missing)
        if workers > 1:
            # Spawned, not forked: a fork of a process with threads (OpenCV's, PyTorch's) may hang.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,)))
            ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # workers inherit it: Ctrl-C is for this process
            written = pool.map(write, missing)
            signal.signal(signal.SIGINT, ours)
        for _ in progress_bar(f"embedded {spec.split}", "sequences", written, len(missing), disable=not progress):
            pass
    if not is_whole(output):
        write_text(output / LIST, "".join(f"{spec.name(index)}\n" for index in range(spec.sequences)))
    return output


def ensure_embedded(root: Path, split: Split) -> None:
    """Generate the default set of a split in folder `root` if it is missing; one process does, others wait."""
    with locked(root):
        generate(root, split=split, **DEFAULT_SETS[split])


def is_whole(root: Path) -> bool:
    """Whether a set was generated to its end."""
    return (root / LIST).is_file()


def _begin(output: Path, spec: EmbeddedSpec) -> None:
    """Write the record into a new or empty folder; refuse a folder of another set."""
    path = output / RECORD_NAME
    record = json.loads(json.dumps({"generator": "embedded", "version": VERSION, **asdict(spec)}))
    # A run that was killed while it wrote the record leaves a hidden file.
    if not output.exists() or all(place.match(f".{path.stem}.*{path.suffix}") for place in output.iterdir()):
        write_text(path, json.dumps(record, indent=1) + "\n")
        return
    try:
        found = json.loads(read_text(path))
        other = [(key, found.get(key), value) for key, value in record.items() if found.get(key) != value]
    except (ValueError, AttributeError, UserError) as error:
        raise UserError(f"{output} holds something else than embedded data: choose another folder") from error
    for key, value, wanted in other:
        remedy = "choose another folder or remove this one"
        raise UserError(f"{output} holds embedded data of {key} {value}, not {wanted}: {remedy}")


def _write_sequence(output: Path, spec: EmbeddedSpec, index: int) -> None:
    """Write a sequence under a temporary name and rename it when it is whole."""
    scene, folder = spec.scene(index), output / f".partial-{index}"
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    folder.mkdir()
    try:
        frames = [scene.render(t) for t in range(len(scene))]
        for t, frame in enumerate(frames):
            (folder / f"{t + 1:08d}.jpg").write_bytes(encode_jpeg(frame.image, scene.jpeg_quality))
        files = {
            "groundtruth.txt": [",".join(f"{value:.2f}" for value in frame.box) for frame in frames],
            "absence.label": [int(frame.absent) for frame in frames],
            "cover.label": [0 if frame.absent else max(1, round(8 * frame.visible_ratio)) for frame in frames],
            "cut_by_image.label": [int(frame.cut) for frame in frames],
            "meta_info.ini": ["[METAINFO]", f"object_class: {scene.target.sprite.kind}", f"resolution: {scene.size}"],
        }
        for name, lines in files.items():
            (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        folder.rename(output / spec.name(index))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
