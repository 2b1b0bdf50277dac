"""Clips that a network is shown outside of evaluation, and the int8 graphs that are calibrated on them.

Quantisation after training (Jacob et al., CVPR 2018) by NNCF, OpenVINO's own tool, which measures activations on clips.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from easydict import EasyDict

from ...data.registry import SAMPLES, find_sample, load_dataset
from ...utils.crop import region_of
from ...utils.errors import UserError
from ...utils.files import locked
from ...utils.graph_files import SEARCH
from .engines import Engine, package
from .engines.graphs import graph_engine
from .engines.openvino import INT8_SUFFIX, first_layers, read_model, save_model
from .refiner import Refiner
from .stark import BoxEngine, StarkTracker

# Frames (H, W, 3) uint8 RGB, and a box xywh of each, or of the first alone.
Clip = tuple[Iterable[np.ndarray], Sequence[Sequence[float]]]
SEARCHES = 64  # that are measured on, of all clips together
_RESTART = 10  # frames, where every frame has its box
_SHIFT, _SCALE = 0.15, 0.15  # errors of a tracker's boxes


def clips_of(dataset: str | None) -> list[Clip]:
    """The sequences of a test set, by its name, each from its first frame on; without a name `sample_clips`."""
    if dataset is None:
        return sample_clips()
    # A generator in place of `map` would read frames of the last sequence, whichever clip they are for.
    return [(map(s.read_frame, range(len(s))), s.truth) for s in load_dataset(dataset)]


def sample_clips() -> list[Clip]:
    """The clips that a package ships, each also at half its size; for want of anything like the user's own."""
    clips = []
    for path, sample in map(find_sample, SAMPLES):
        for scale in (1.0, 0.5):
            clips.append((_frames(path, scale), [[value * scale for value in sample.box]]))
    return clips


def _frames(path: Path, scale: float) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    try:
        while (found := video.read())[0]:
            yield cv2.cvtColor(cv2.resize(found[1], None, fx=scale, fy=scale), cv2.COLOR_BGR2RGB)
    finally:
        video.release()


def follow(engine: Engine, cfg: EasyDict, clips: Iterable[Clip], most: int) -> Iterator[int]:
    """Run both parts of a network over clips, as trackers do; after each frame yield the searched region's side.

    The side is in pixels. `most` is the number of searches of all clips together; of more clips some are left out.
    Raises UserError where a frame cannot be read, or there is none to search in.
    """
    clips = list(clips)
    if len(clips) > most:
        clips = [clips[i * len(clips) // most] for i in range(most)]
    count, walk = 0, _follow_boxes if engine.regions else _make_masks
    for side in walk(engine, cfg, clips, most):
        count += 1
        yield side
    if not count:
        raise UserError("there is no frame to search in: sequences need at least two")


def _follow_boxes(engine: Engine, cfg: EasyDict, clips: list[Clip], most: int) -> Iterator[int]:
    tracker = StarkTracker(BoxEngine(engine), cfg)
    tracker.lost_below = 0.0  # one search a frame
    for frames, boxes in clips:
        for index, frame in enumerate(islice(frames, most // len(clips) + 1)):
            if index == 0 or (index % _RESTART == 0 and index < len(boxes) and _is_box(boxes[index])):
                tracker.initialize(frame, {"init_bbox": list(boxes[index])})
                tracker.templates = tracker.templates * engine.regions.templates
            if index:
                side = region_of(tracker.state, cfg.TEST.SEARCH_FACTOR)[2]
                tracker.track(frame)
                yield side


def _make_masks(engine: Engine, cfg: EasyDict, clips: list[Clip], most: int) -> Iterator[int]:
    """Masks in the first frames of clips, around boxes near the first one, where the object still is."""
    refiner, rng = Refiner(engine, cfg), np.random.default_rng(0)
    for frames, boxes in clips:
        box = np.asarray(boxes[0], np.float64)
        for index, frame in enumerate(islice(frames, max(1, most // len(clips)))):
            if index == 0:
                refiner.initialize(frame, box)
            size = box[2:] * np.exp(rng.normal(0, _SCALE, 2))
            centre = box[:2] + box[2:] / 2 + rng.uniform(-_SHIFT, _SHIFT, 2) * box[2:]
            refiner.probabilities(frame, [*(centre - size / 2), *size])
            yield round(max(size))


def _is_box(box: Sequence[float]) -> bool:
    return bool(np.isfinite(box).all()) and box[2] > 0 and box[3] > 0


def calibrate(
    folder: Path,
    cfg: EasyDict,
    clips: Iterable[Clip] | None = None,
    target: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the int8 graph of the search part, unless it exists and no clips are given; returns its path.

    The template part stays as it is: it runs once, and all boxes depend on it.

    Args:
        folder: the exported graphs.
        clips: sequences like those that will be tracked; by default `sample_clips`.
        target: folder of the int8 graph; by default that of the others.

    Raises:
        UserError: a package is missing, the clips show too little, or the file cannot be written.
    """
    path = (target or folder) / f"search{INT8_SUFFIX}"
    with locked(path.parent):  # of several processes that start together one calibrates
        if path.is_file() and clips is None and not overwrite:
            return path
        nncf = package("nncf", "the precision int8")
        logging.getLogger("nncf").setLevel(logging.ERROR)
        engine = graph_engine("openvino", folder)
        inputs = record(engine, cfg, sample_clips() if clips is None else clips)
        print(f"calibrating int8 on {len(inputs)} search regions (about a minute)", flush=True)
        model = read_model(folder / SEARCH)
        options: dict[str, Any] = {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(inputs)}
        if engine.regions:
            in_fp32 = [each.get_friendly_name() for each in first_layers(model)]
            options |= {"model_type": nncf.ModelType.TRANSFORMER, "ignored_scope": nncf.IgnoredScope(names=in_fp32)}
        else:
            # The one bias that would be corrected is a single number after two products of matrices, no layer's.
            options["advanced_parameters"] = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
        save_model(nncf.quantize(model, nncf.Dataset(inputs), **options), path)
    return path


def record(engine: Engine, cfg: EasyDict, clips: Iterable[Clip]) -> list[list[np.ndarray]]:
    """The inputs of the search part when its network follows clips; errors as of `follow`."""
    inputs: list[list[np.ndarray]] = []

    def search(*given: np.ndarray) -> list[np.ndarray]:
        inputs.append([array.copy() for array in given])
        return engine.search(*given)

    for _ in follow(replace(engine, search=search), cfg, clips, SEARCHES):
        pass
    return inputs
