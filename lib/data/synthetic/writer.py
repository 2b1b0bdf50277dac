"""Generating a set of embedded sequences on disk, in GOT-10k layout."""

import json
import multiprocessing
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib.data.synthetic.crowd import plan_crowded_scene
from lib.data.synthetic.cutouts import real_sprites
from lib.data.synthetic.materials import Materials
from lib.data.synthetic.objects import PaintedSprites
from lib.data.synthetic.photographs import PHOTOGRAPHS, Split, load_photographs
from lib.data.synthetic.render import Frame, Scene
from lib.data.synthetic.scene import plan_scene
from lib.utils.errors import UserError
from lib.utils.files import write_text

# Raised whenever the same arguments give other pictures or boxes.
VERSION = 1

RECORD_NAME = "embedded.json"
_PARTIAL = ".partial-"
_SMALLEST_SIDE = 64


@dataclass(frozen=True)
class EmbeddedSpec:
    """What decides the content of a set, to the last pixel.

    Attributes:
        seed: 0 or more.
        split: whose photographs are shown.
        sequences: number of sequences.
        frames: frames in each.
        size: width and height of every frame; None varies them from sequence to sequence.
        materials: what crowded scenes are made of; None: plain scenes of painted objects.

    Raises:
        UserError: on a value out of its range.
    """

    seed: int
    split: Split
    sequences: int
    frames: int
    size: tuple[int, int] | None = None
    materials: Materials | None = None

    def __post_init__(self) -> None:
        if self.split not in PHOTOGRAPHS:
            raise UserError(f"embedded data: split must be one of {', '.join(PHOTOGRAPHS)}, not {self.split!r}")
        for name, least in (("seed", 0), ("sequences", 1), ("frames", 2)):
            if getattr(self, name) < least:
                raise UserError(f"embedded data: {name} must be at least {least}, not {getattr(self, name)}")
        if self.size is not None and min(self.size) < _SMALLEST_SIDE:
            raise UserError(f"embedded data: a frame must be at least {_SMALLEST_SIDE} pixels a side, not {self.size}")

    def name(self, index: int) -> str:
        """Folder of a sequence, counted from 0."""
        return f"embedded_{self.split}_{index + 1:06d}"

    def scene(self, index: int) -> Scene:
        """Plan sequence `index`; it depends on the seed, the split and the index, and on `frames` and `size`."""
        rng = np.random.default_rng((list(PHOTOGRAPHS).index(self.split), self.seed, index))
        if self.materials is not None:
            return plan_crowded_scene(rng, real_sprites(self.materials), self.frames, self.size)
        return plan_scene(rng, PaintedSprites(self.split), self.split, self.frames, self.size)


def render_sequence(
    seed: int, index: int, *, split: Split, frames: int, size: tuple[int, int] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Render one sequence in memory: what `generate` writes for (seed, index), before JPEG compression.

    Yields:
        For each frame its picture (H, W, 3) uint8 RGB, the box (4,) xywh in pixels and the
        visible part of the object, 0..1 (see `Frame`).
    """
    scene = EmbeddedSpec(seed, split, index + 1, frames, size).scene(index)
    for t in range(len(scene)):
        frame = scene.render(t)
        yield frame.image, frame.box, frame.visible_ratio


def generate(
    output: Path,
    *,
    seed: int,
    sequences: int,
    frames: int,
    split: Split,
    size: tuple[int, int] | None = None,
    materials: Materials | None = None,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write a set of sequences in GOT-10k layout; the number of workers has no influence on its content.

    `absence.label` is 1 where less than 2 % of the object shows: hidden, or out of the image. The box of such
    a frame is the extent of the object behind what hides it, and 0,0,0,0 where it is out of the image: readers
    go by `absence.label`. `cover.label` holds eighths of the object that show, 0 where it is absent.

    A set that was interrupted is continued and one that is complete is left as it is. One run at a time may
    write to a folder.

    Args:
        output: the folder; made if missing.
        seed: sets of different seeds or splits have no sequence in common.
        sequences: number of sequences.
        frames: frames in each sequence.
        split: "train" and "test" show different photographs.
        size: width and height of every frame; None varies them.
        materials: pictures for crowded scenes; None: plain scenes of painted objects.
        workers: number of processes.
        progress: show a progress bar.

    Returns:
        `output`.

    Raises:
        UserError: `output` holds anything but this very set, or cannot be written; an argument is out of range.
    """
    spec = EmbeddedSpec(seed, split, sequences, frames, size, materials)
    if workers < 1:
        raise UserError(f"embedded data: workers must be at least 1, not {workers}")
    output = Path(output)
    load_photographs(split)  # Tells of a missing package before anything is written.
    try:
        _claim(output, spec)
        missing = [index for index in range(sequences) if not (output / spec.name(index)).is_dir()]
        if not missing and (output / "list.txt").is_file():
            return output
        with tqdm(
            desc=f"embedded {split}",
            total=sequences,
            initial=sequences - len(missing),
            unit="seq",
            disable=not progress,
        ) as bar:
            for _ in _write_all(output, spec, missing, workers):
                bar.update()
        write_text(output / "list.txt", "".join(f"{spec.name(index)}\n" for index in range(sequences)))
    except OSError as error:
        raise UserError(f"cannot write the embedded data to {output}: {error.strerror or error}") from error
    return output


def _claim(output: Path, spec: EmbeddedSpec) -> None:
    """Make sure that `output` is new, empty or a set of just this kind; clear what an interruption left there."""
    record = {"generator": "embedded", "version": VERSION, **asdict(spec)}
    text = json.dumps(record, indent=1) + "\n"
    path = output / RECORD_NAME
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is not a folder: choose another place for the embedded data")
    if not output.exists() or not any(output.iterdir()):
        write_text(path, text)
        return
    if not path.is_file():
        raise UserError(f"{output} holds something else than embedded data: choose an empty or a new folder")
    found = _read_record(path)
    record = json.loads(text)
    for key in ("generator", "version", *(field.name for field in fields(spec))):
        if found.get(key) != record[key]:
            raise UserError(
                f"{output} holds embedded data of {key} {found.get(key)}, not {record[key]}: "
                "choose another folder or remove this one"
            )
    for leftover in output.glob(f"{_PARTIAL}*"):
        shutil.rmtree(leftover)


def _read_record(path: Path) -> dict:
    """The arguments a set was made with."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"cannot read {path} ({error}): choose another folder for the embedded data") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} does not describe embedded data: choose another folder")
    return record


def _write_all(output: Path, spec: EmbeddedSpec, indices: list[int], workers: int) -> Iterator[None]:
    """Write the sequences, yielding after each."""
    workers = min(workers, len(indices))
    if workers <= 1:
        for index in indices:
            yield _write_sequence(output, spec, index)
        return
    # Spawned, not forked: a fork of a process with threads (OpenCV's, PyTorch's) may hang.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        for future in as_completed([executor.submit(_write_sequence, output, spec, index) for index in indices]):
            yield future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """One thread a worker; Ctrl-C is the parent's to handle."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_sequence(output: Path, spec: EmbeddedSpec, index: int) -> None:
    """Write a sequence under a temporary name and rename it when it is whole."""
    scene = spec.scene(index)
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=output))
    try:
        partial.chmod(output.stat().st_mode & 0o777)  # mkdtemp's own mode shuts other users out.
        frames = [_write_frame(partial, scene, t) for t in range(len(scene))]
        _write_labels(partial, scene, frames)
        partial.rename(output / spec.name(index))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_frame(folder: Path, scene: Scene, t: int) -> Frame:
    """Render and write frame `t`."""
    frame = scene.render(t)
    bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, scene.jpeg_quality))
    (folder / f"{t + 1:08d}.jpg").write_bytes(data.tobytes())
    return frame


def _write_labels(folder: Path, scene: Scene, frames: list[Frame]) -> None:
    """Write the annotation files, one line a frame, and meta_info.ini."""
    columns = {
        "groundtruth.txt": [",".join(f"{value:.2f}" for value in frame.box) for frame in frames],
        "absence.label": [int(frame.absent) for frame in frames],
        "cover.label": [0 if frame.absent else max(1, round(8 * frame.visible_ratio)) for frame in frames],
        "cut_by_image.label": [int(frame.cut) for frame in frames],
    }
    for name, lines in columns.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    meta = {
        "url": "-",
        "begin": "00:00:00",
        "end": f"00:{len(frames) // 600:02d}:{len(frames) // 10 % 60:02d}",
        "anno_fps": "10Hz",
        "object_class": scene.target.sprite.name,
        "motion_class": "-",
        "major_class": "-",
        "root_class": "-",
        "motion": "-",
        "resolution": scene.size,
    }
    lines = "".join(f"{key}: {value}\n" for key, value in meta.items())
    (folder / "meta_info.ini").write_text(f"[METAINFO]\n{lines}", encoding="utf-8")
