"""Quantisation to 8-bit integers for the engine openvino: the ranges of activations are measured on frames.

Quantisation after training (Jacob et al., CVPR 2018) by NNCF, OpenVINO's own tool.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from easydict import EasyDict

from lib.data.registry import load_dataset
from lib.data.samples import SAMPLES, find_sample
from lib.test.tracker.engines.base import Context, Engine
from lib.test.tracker.engines.onnx import graph_inputs, package
from lib.test.tracker.engines.openvino import INT8_SUFFIX, OpenVinoEngine, read_model, save_model
from lib.test.tracker.engines.openvino_cut import first_layers
from lib.test.tracker.masks import openvino_mask_engine
from lib.test.tracker.refiner import Refiner
from lib.test.tracker.stark import StarkTracker
from lib.utils.errors import UserError
from lib.utils.files import locked
from lib.utils.graph_files import GraphFiles, Regions

# A sequence to measure on: frames (H, W, 3) uint8 RGB, and a box xywh of each, or of the first alone.
Clip = tuple[Iterable[np.ndarray], Sequence[Sequence[float]]]
# Search regions that are measured on, of all sequences together; of more sequences some are left out.
SEARCHES = 64
_RESTART = 10  # frames, where every frame has its box
# Crops that masks are calibrated on, of all sequences together.
CROPS = 48
_SHIFT, _SCALE = 0.15, 0.15  # errors of a tracker's boxes


class Recorder(Engine):
    """Passes everything on to another engine, and keeps what the network's search part was given.

    Attributes:
        search_inputs: what its graph took, by call.
    """

    def __init__(self, inner: Engine, regions: Regions) -> None:
        super().__init__(regions)
        self.inner, self.name = inner, inner.name
        self.search_inputs: list[list[Any]] = []

    def _template(self, crop: np.ndarray) -> tuple[Any, ...]:
        return self.inner._template(crop)

    def _search(self, crop: np.ndarray, context: Context, kept: list[Any]) -> Sequence[np.ndarray]:
        self.search_inputs.append(graph_inputs(crop.copy(), context, kept))
        return self.inner._search(crop, context, kept)


def is_calibrated(graphs: GraphFiles) -> bool:
    """Whether the int8 graphs of a network are there."""
    return all(graphs.made_of(part, INT8_SUFFIX).is_file() for part in ("template", "search"))


def calibrate(
    graphs: GraphFiles,
    regions: Regions,
    cfg: EasyDict,
    clips: Iterable[Clip] | None = None,
    target: GraphFiles | None = None,
    overwrite: bool = False,
) -> None:
    """Write the int8 graphs of a network; without clips of one's own nothing happens where they are there.

    Args:
        graphs: the exported network.
        regions: of the network.
        cfg: the configuration it was built from.
        clips: sequences like those that will be tracked; by default `sample_clips`.
        target: where the int8 graphs go; beside the others by default.
        overwrite: write them again.

    Raises:
        UserError: a package is missing, the clips show too little, or the files cannot be written.
    """
    target = target or graphs
    with locked(target.folder):  # of several processes that start together one calibrates
        if is_calibrated(target) and clips is None and not overwrite:
            return
        nncf = load_nncf()
        recorder = record(OpenVinoEngine(graphs, regions), regions, cfg, sample_clips() if clips is None else clips)
        print(f"calibrating int8 on {len(recorder.search_inputs)} search regions (about a minute)", flush=True)
        model = read_model(graphs.search)
        exact = [each.get_friendly_name() for each in first_layers(model) if "Convolution" in each.get_type_name()]
        quantised = nncf.quantize(
            model,
            nncf.Dataset(recorder.search_inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(recorder.search_inputs),
            ignored_scope=nncf.IgnoredScope(names=exact),
        )
        # A template is computed once, and all boxes come of it: it stays as it is.
        save_model(read_model(graphs.template), target.made_of("template", INT8_SUFFIX))
        save_model(quantised, target.made_of("search", INT8_SUFFIX))


def record(engine: Engine, regions: Regions, cfg: EasyDict, clips: Iterable[Clip]) -> Recorder:
    """Track clips, and keep what the network was given.

    Raises:
        UserError: there is no frame to track in, or a frame cannot be read.
    """
    recorder, clips = Recorder(engine, regions), spread(clips, SEARCHES)
    tracker = StarkTracker(recorder, cfg)
    for frames, boxes in clips:
        for index, frame in enumerate(islice(frames, SEARCHES // max(1, len(clips)) + 1)):
            if index == 0 or (index % _RESTART == 0 and index < len(boxes) and _is_box(boxes[index])):
                tracker.initialize(frame, {"init_bbox": list(boxes[index])})
                tracker.templates = tracker.templates * regions.templates
            if index:
                tracker.track(frame)
    if not recorder.search_inputs:
        raise UserError("int8 is calibrated on sequences of at least two frames, and there is none")
    return recorder


def spread(clips: Iterable[Clip], most: int) -> list[Clip]:
    """The clips, or so many of them from all over the list."""
    clips = list(clips)
    return clips if len(clips) <= most else [clips[i * len(clips) // most] for i in range(most)]


def _is_box(box: Sequence[float]) -> bool:
    return bool(np.isfinite(box).all()) and box[2] > 0 and box[3] > 0


def clips_of(dataset: str) -> list[Clip]:
    """The sequences of a test set, by its name, each from its first frame on.

    Raises:
        UserError: there is no such set, or it is damaged.
    """
    # A generator in place of `map` would read frames of the last sequence, whichever clip they are for.
    return [(map(s.read_frame, range(len(s))), s.truth) for s in load_dataset(dataset)]


def sample_clips() -> list[Clip]:
    """The clips that a package ships, each also at half its size; for want of anything like the user's own.

    Raises:
        UserError: the package is missing.
    """
    clips = []
    for name in SAMPLES:
        path, sample = find_sample(name)
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


def load_nncf() -> ModuleType:
    """The package, which only this precision needs, told to say errors alone.

    Raises:
        UserError: it is not installed.
    """
    found = package("nncf", "the precision int8")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return found


def calibrate_masks(
    graphs: GraphFiles,
    cfg: EasyDict,
    clips: Iterable[Clip] | None = None,
    target: GraphFiles | None = None,
    overwrite: bool = False,
) -> None:
    """Write the int8 graph of a network's search part; without clips nothing happens where it is there.

    Args: as of `calibrate`.

    Raises:
        UserError: a package is missing, the clips show too little, or the file cannot be written.
    """
    target = target or graphs
    path = target.made_of("search", INT8_SUFFIX)
    with locked(target.folder):  # of several processes that start together one calibrates
        if path.is_file() and clips is None and not overwrite:
            return
        tool = load_nncf()
        recorder = _MaskRecorder(graphs)
        for _ in walk(Refiner(recorder, cfg), sample_clips() if clips is None else clips, CROPS):
            pass
        inputs = recorder.inputs
        print(f"calibrating masks in int8 on {len(inputs)} crops (about a minute)", flush=True)
        model = read_model(graphs.search)
        dataset, preset = tool.Dataset(inputs), tool.QuantizationPreset.MIXED
        # The one bias that it would correct is no layer's: the mask's, a single number after two products of matrices.
        plain = tool.AdvancedQuantizationParameters(disable_bias_correction=True)
        quantised = tool.quantize(model, dataset, preset=preset, subset_size=len(inputs), advanced_parameters=plain)
        save_model(quantised, path)


def walk(refiner: Refiner, clips: Iterable[Clip], crops: int) -> Iterator[np.ndarray]:
    """Masks in the first frames of clips, about boxes that are near the first one, where the object still is.

    Args:
        refiner: makes them.
        clips: sequences; of each the first box is taken.
        crops: how many masks, of all sequences together; of more sequences some are left out.

    Raises:
        UserError: there is no frame, or it cannot be read.
    """
    clips, rng, found = spread(clips, crops), np.random.default_rng(0), 0
    for frames, boxes in clips:
        box = np.asarray(boxes[0], np.float64)
        for index, frame in enumerate(islice(frames, max(1, crops // len(clips)))):
            if index == 0:
                refiner.initialize(frame, box)
            size = box[2:] * np.exp(rng.normal(0, _SCALE, 2))
            centre = box[:2] + box[2:] / 2 + rng.uniform(-_SHIFT, _SHIFT, 2) * box[2:]
            found += 1
            yield refiner.probabilities(frame, [*(centre - size / 2), *size])
    if not found:
        raise UserError("masks are made in sequences, and there is none with a frame")


class _MaskRecorder:
    """A mask engine that keeps what the search part was given, by call, and answers with nothing."""

    name = "recorder"

    def __init__(self, graphs: GraphFiles) -> None:
        self._engine = openvino_mask_engine(graphs.template, graphs.search, "fp32")
        self.inputs: list[list[np.ndarray]] = []

    def encode_reference(self, crop: np.ndarray, box: np.ndarray) -> np.ndarray:
        return self._engine.encode_reference(crop, box)

    def segment(self, kernels: np.ndarray, crop: np.ndarray) -> np.ndarray:
        self.inputs.append([crop[None].copy(), kernels])
        return np.zeros(crop.shape[:2], np.float32)
