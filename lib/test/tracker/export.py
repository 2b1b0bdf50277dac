"""The command `tracking/export.py`: write a network for an engine, and compare it with PyTorch on real crops.

int8 is quantised after training (Jacob et al., CVPR 2018) by NNCF, OpenVINO's own tool, which measures activations on
clips.
"""

import filecmp
import itertools
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from easydict import EasyDict

from ...config.options import REFINE
from ...data.registry import SAMPLES, find_sample, load_dataset
from ...models.export import export_graphs
from ...utils.crop import region_of
from ...utils.errors import UserError
from ...utils.files import locked, refuse_to_replace, ruled_table
from ...utils.graph_files import ABOUT, REGIONS, SEARCH, TEMPLATE
from . import SCRIPT_OF, exported, find_weights, graphs_folder, graphs_origin, load_network, tracker_config
from .engines import Engine, choose_engine, engine_device, package
from .engines.graphs import graph_engine
from .engines.openvino import INT8_SUFFIX, SUFFIX, first_layers, read_model, save_model
from .engines.pytorch import torch_engine
from .refiner import Refiner
from .stark import BoxEngine, StarkTracker

FORMATS = ("onnx", "openvino", "tensorrt")
# What is compared, and the largest difference that rounding explains in fp32.
BOX, PIXELS, LOGIT = "box (fraction of the crop)", "box (pixels of the frame)", "logit of the confidence"
MASK, OVERLAP = "probability of a pixel", "1 - overlap of the masks"
TOLERANCES = {BOX: 1e-4, MASK: 1e-3}
# Searches of all clips together: that are compared, and that int8 is calibrated on.
_COMPARED, CALIBRATED = 240, 64
_RESTART = 10  # frames, where every frame has its box
_SHIFT, _SCALE = 0.15, 0.15  # errors of a tracker's boxes
# Frames (H, W, 3) uint8 RGB, and a box xywh of each, or of the first alone.
Clip = tuple[Iterable[np.ndarray], Sequence[Sequence[float]]]


def clips_of(dataset: str | None = None) -> list[Clip]:
    """The sequences of a test set, by its name, each from its first frame on.

    Without a name they are the clips that a package ships, each also at half its size.
    """
    if dataset is not None:
        # A generator in place of `map` would read frames of the last sequence, whichever clip they are for.
        return [(map(s.read_frame, range(len(s))), s.truth) for s in load_dataset(dataset)]
    samples = itertools.product(map(find_sample, SAMPLES), (1.0, 0.5))
    return [(_frames(path, scale), [[value * scale for value in sample.box]]) for (path, sample), scale in samples]


def _frames(path: Path, scale: float) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    while (frame := video.read()[1]) is not None:
        yield cv2.cvtColor(cv2.resize(frame, None, fx=scale, fy=scale), cv2.COLOR_BGR2RGB)


def follow(engine: Engine, cfg: EasyDict, clips: Iterable[Clip], most: int) -> Iterator[tuple[int, tuple, list]]:
    """Run both parts of a network over clips, as trackers do.

    After each search yield the region's side in pixels of the frame, and what the search part took and gave. `most` is
    the number of searches of all clips together; of more clips some are left out. Raises UserError where a frame cannot
    be read, or there is none to search in.
    """
    clips, seen = list(clips), []
    if len(clips) > most:
        clips = [clips[i * len(clips) // most] for i in range(most)]

    def search(*inputs: np.ndarray) -> list[np.ndarray]:
        seen.append((inputs, engine.search(*inputs)))
        return seen[-1][1]

    walk, count = _follow_boxes if engine.regions else _make_masks, 0
    for side in walk(replace(engine, search=search), cfg, clips, most):
        while seen:  # a region that shows nothing is not searched
            count += 1
            yield side, *seen.pop()
    if not count:
        raise UserError("there is no frame to search in: sequences need at least two")


def _follow_boxes(engine: Engine, cfg: EasyDict, clips: list[Clip], most: int) -> Iterator[int]:
    tracker = StarkTracker(BoxEngine(engine), cfg)
    tracker.lost_below = 0.0  # one search a frame
    for frames, boxes in clips:
        for index, frame in enumerate(itertools.islice(frames, most // len(clips) + 1)):
            if index == 0 or (index % _RESTART == 0 and index < len(boxes) and np.min(boxes[index][2:]) > 0):
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
        for index, frame in enumerate(itertools.islice(frames, max(1, most // len(clips)))):
            if index == 0:
                refiner.initialize(frame, box)
            size = box[2:] * np.exp(rng.normal(0, _SCALE, 2))
            centre = box[:2] + box[2:] / 2 + rng.uniform(-_SHIFT, _SHIFT, 2) * box[2:]
            refiner.mask(frame, [*(centre - size / 2), *size])
            yield round(max(size))


def compare_engines(
    reference: Engine, other: Engine, cfg: EasyDict, clips: Iterable[Clip], most: int = _COMPARED
) -> dict[str, list[float]]:
    """Follow clips with one engine, and compute the same crops with another one; errors as of `follow`.

    Returns:
        The largest difference in each search: of boxes in fractions of the crop (`BOX`), and in pixels of the frame;
        of the logit, where there is one; of masks in probabilities (`MASK`), and 1 - IoU.
    """

    def template(*inputs: np.ndarray) -> list[tuple]:
        return list(zip(reference.template(*inputs), other.template(*inputs), strict=True))

    def search(which: int, *inputs: np.ndarray | tuple) -> list[np.ndarray]:
        """With one engine, on the features that its own template part made."""
        return (reference, other)[which].search(*(x[which] if isinstance(x, tuple) else x for x in inputs))

    both = Engine("both", template, partial(search, 0), reference.regions)
    rows = []
    for side, inputs, expected in follow(both, cfg, clips, most):
        found = search(1, *inputs)
        differences = [float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True)]
        if reference.regions:
            box, *logit = differences
            rows.append(dict(zip((BOX, PIXELS, LOGIT), (box, box * side, *logit), strict=False)))
        else:
            a, b = expected[0] > cfg.TEST.MASK_THRESHOLD, found[0] > cfg.TEST.MASK_THRESHOLD
            rows.append({MASK: differences[0], OVERLAP: float(np.sum(a ^ b) / max(np.sum(a | b), 1))})
    return {name: [row[name] for row in rows] for name in rows[0]}


def calibrate(folder: Path, cfg: EasyDict, clips: Iterable[Clip], target: Path | None = None) -> None:
    """Write the int8 graph of the search part; the template part runs once, and all boxes depend on it.

    It goes beside the exported graphs in `folder`, or into `target`. The clips should be like those that will be
    tracked. Raises UserError where a package is missing, they show too little, or the file cannot be written.
    """
    nncf = package("nncf", "the precision int8")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    engine = graph_engine("openvino", folder)
    inputs = [list(given) for _, given, _ in follow(engine, cfg, clips, CALIBRATED)]
    print(f"calibrating int8 on {len(inputs)} search regions (about a minute)", flush=True)
    model = read_model(folder / SEARCH)
    options: dict[str, Any] = {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(inputs)}
    if engine.regions:
        in_fp32 = [each.get_friendly_name() for each in first_layers(model)]
        options |= {"model_type": nncf.ModelType.TRANSFORMER, "ignored_scope": nncf.IgnoredScope(names=in_fp32)}
    else:
        # The one bias that would be corrected is a single number after two products of matrices, no layer's.
        options["advanced_parameters"] = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    save_model(nncf.quantize(model, nncf.Dataset(inputs), **options), (target or folder) / f"search{INT8_SUFFIX}")


def export(
    script: str,
    config: str,
    checkpoint: str | None = None,
    format: str = "onnx",
    precision: str = "fp32",
    output: Path | None = None,
    overwrite: bool = False,
    calibration: str | None = None,
    frames: str | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
) -> int:
    """Write both graphs of a network for an engine, and print how its boxes or masks differ from PyTorch's.

    The arguments are the options of `tracking/export.py`. Gives 0, or 1 where fp32 differs by more than rounding
    explains. Raises UserError for an unknown name, a missing checkpoint or package, a file that stands in the way.
    """
    require_tracked(script, REFINE)
    choose_engine(format, device, precision)
    target, weights = engine_device(format, device), find_weights(script, config, checkpoint, overrides)
    cfg = tracker_config(script, config, weights, overrides)
    names, suffix = (TEMPLATE, SEARCH), ".onnx"
    if format == "openvino":
        names, suffix = (f"template{SUFFIX}", f"search{INT8_SUFFIX if precision == 'int8' else SUFFIX}"), SUFFIX
    if output is not None and not overwrite:
        refuse_to_replace([output / name for name in names])
    folder, model = exported(script, config, cfg, weights), load_network(script, cfg, weights)
    if output is not None and not overwrite:  # nor what describes another network
        refuse_to_replace([output / name for name in filecmp.cmpfiles(folder, output, (REGIONS, ABOUT), False)[1]])
    place, kept = output or folder, False
    if format == "openvino":
        place.mkdir(parents=True, exist_ok=True)
        for each in (REGIONS, ABOUT):
            if place != folder and (folder / each).is_file():
                shutil.copyfile(folder / each, place / each)
        save_model(read_model(folder / TEMPLATE), place / names[0])
        if precision == "int8":
            with locked(place):  # of several processes that start together one calibrates
                kept = not calibration and not overwrite and (place / names[1]).is_file()
                if not kept:
                    calibrate(folder, cfg, clips_of(calibration), place)
        else:
            save_model(read_model(folder / SEARCH), place / names[1])
    elif output is not None or overwrite:
        export_graphs(model, cfg, place, graphs_origin(script, config, folder, weights))
    other = graph_engine(format, place, target, precision, suffix)
    for path in (*(place / name for name in names), *sorted(place.glob("tensorrt-*/*"))):
        print(f"{'kept (--overwrite calibrates anew)' if kept and path.name == names[1] else 'wrote'} {path}")
    return _report(compare_engines(torch_engine(model, cfg), other, cfg, clips_of(frames)), other.name, precision)


def export_shipped(script: str, config: str, weights: Path) -> Path:
    """Write graphs of weights beside them, as come with a configuration for machines without PyTorch; their folder."""
    cfg, folder = tracker_config(script, config, weights), weights.with_name(f"{weights.name.split('.')[0]}.graphs")
    origin = graphs_origin(script, config, graphs_folder(script, config, cfg, weights), weights)
    export_graphs(load_network(script, cfg, weights), cfg, folder, origin, half=True)
    return folder


def require_tracked(script: str, *others: str) -> None:
    """Raise a UserError for a script whose networks no tracker runs, unless it is one of `others`."""
    valid = [*SCRIPT_OF.values(), *others]
    if script not in valid:
        raise UserError(f"no tracker runs networks of '{script}'; valid: {', '.join(valid)}")


def _report(found: dict[str, list[float]], name: str, precision: str) -> int:
    """Print differences; 1 where those of fp32 are more than rounding explains."""
    rows = [["difference to PyTorch in fp32", "mean", "95 %", "largest"]]
    for what, values in found.items():
        numbers = np.mean(values), np.percentile(values, 95), np.max(values)
        rows.append([what, *(f"{number:.2e}" for number in numbers)])
    what, differences = next(iter(found.items()))
    print(f"{name}: {len(differences)} search regions of real frames\n{ruled_table(rows)}")
    if precision == "fp32" and not np.max(differences) <= TOLERANCES[what]:
        print(f"{what}: differs by more than {TOLERANCES[what]:.0e}, which rounding does not explain")
        return 1
    return 0
