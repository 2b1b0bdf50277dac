"""The command `tracking/export.py`: write a network for an engine, and compare it with PyTorch on real crops."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from easydict import EasyDict

from ...config.options import REFINE
from ...models.export import export_graphs
from ...utils.errors import UserError
from ...utils.files import refuse_to_replace, ruled_table
from ...utils.graph_files import ABOUT, REGIONS, SEARCH, TEMPLATE
from . import (
    SCRIPT_OF,
    exported,
    find_weights,
    graphs_folder,
    graphs_origin,
    load_network,
    tracker_config,
)
from .engines import Engine, choose_engine, engine_device
from .engines.graphs import graph_engine
from .engines.openvino import INT8_SUFFIX, SUFFIX, read_model, save_model
from .engines.pytorch import torch_engine
from .quantise import Clip, calibrate, clips_of, follow

FORMATS = ("onnx", "openvino", "tensorrt")
# Largest difference that rounding explains in fp32: of a box, in fractions of the crop; of a pixel's probability.
BOX, PIXELS, LOGIT = "box (fraction of the crop)", "box (pixels of the frame)", "logit of the confidence"
MASK, OVERLAP = "probability of a pixel", "1 - overlap of the masks"
TOLERANCES = {BOX: 1e-4, MASK: 1e-3}
_SEARCHES = 240  # that are compared, of all clips together


def compare_engines(
    reference: Engine, other: Engine, cfg: EasyDict, clips: Iterable[Clip], most: int = _SEARCHES
) -> dict[str, list[float]]:
    """Follow clips with one engine, and compute the same crops with another one; errors as of `follow`.

    Returns:
        The largest difference in each search: of boxes in fractions of the crop (`BOX`), and in pixels of the frame;
        of the logit, where there is one; of masks in probabilities (`MASK`), and 1 - IoU.
    """
    pairs: list[list[list[np.ndarray]]] = []

    def template(*inputs: np.ndarray) -> list[tuple]:
        return list(zip(reference.template(*inputs), other.template(*inputs), strict=True))

    def search(*inputs: np.ndarray | tuple) -> list[np.ndarray]:
        each = enumerate((reference, other))
        pairs.append([e.search(*(x[i] if isinstance(x, tuple) else x for x in inputs)) for i, e in each])
        return pairs[-1][0]

    sides: list[int] = []
    for side in follow(Engine("both", template, search, reference.regions), cfg, clips, most):
        sides += [side] * (len(pairs) - len(sides))  # a region that shows nothing is not searched
    threshold = None if reference.regions else cfg.TEST.MASK_THRESHOLD
    rows = [_differences(*pair, side, threshold) for side, pair in zip(sides, pairs, strict=True)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _differences(
    expected: list[np.ndarray], found: list[np.ndarray], side: int, threshold: float | None
) -> dict[str, float]:
    """One row of `compare_engines`; `threshold` is that of masks."""
    largest = [float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True)]
    if threshold is None:
        return dict(zip((BOX, PIXELS, LOGIT), (largest[0], largest[0] * side, *largest[1:]), strict=False))
    a, b = expected[0] > threshold, found[0] > threshold
    return {MASK: largest[0], OVERLAP: 1 - float((a & b).sum() / (a | b).sum()) if (a | b).any() else 0.0}


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

    Args:
        script: of a tracker: `stark_s`, `stark_st2` or `stark_lightning_X_trt`; or `alpha_refine`.
        config, checkpoint, overrides: as `lib.test.tracker.create_tracker` takes them.
        format: one of `FORMATS`; `precision` is one that the engine of that name knows.
        output: folder for the files; by default where trackers look for them.
        calibration: test set by name whose sequences int8 is calibrated on; the samples' clips by default.
        frames: test set by name whose frames are compared on; the samples' clips by default.
        device: for TensorRT, the CUDA device that it builds for.

    Returns:
        0, or 1 where fp32 differs by more than rounding explains.

    Raises:
        UserError: an unknown name, a missing checkpoint or package, a file that stands in the way.
    """
    require_tracked(script, REFINE)
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'; valid: {', '.join(FORMATS)}")
    choose_engine(format, device, precision)
    target, weights = engine_device(format, device), find_weights(script, config, checkpoint, overrides)
    cfg = tracker_config(script, config, weights, overrides)
    names = _file_names(format, precision)
    if output is not None and not overwrite:
        refuse_to_replace([output / name for name in names])
    folder, model = exported(script, config, cfg, weights), load_network(script, cfg, weights)
    if names == (TEMPLATE, SEARCH) and (output is not None or overwrite):
        export_graphs(model, cfg, output or folder, graphs_origin(script, config, folder, weights))
    elif output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for each in (REGIONS, ABOUT, *((TEMPLATE, SEARCH) if format == "tensorrt" else ())):
            if (folder / each).is_file():
                shutil.copyfile(folder / each, output / each)
    output = output or folder
    if format == "openvino":
        save_model(read_model(folder / TEMPLATE), output / names[0])
        if precision == "int8":
            calibrate(folder, cfg, clips_of(calibration) if calibration else None, output, overwrite)
        else:
            save_model(read_model(folder / SEARCH), output / names[1])
    other = graph_engine(format, output, target, precision, SUFFIX if format == "openvino" else ".onnx")
    written = [output / name for name in names] or sorted(output.glob(f"*.{precision}.plan"))
    print("\n".join(f"wrote {path}" for path in written))
    return _report(compare_engines(torch_engine(model, cfg), other, cfg, clips_of(frames)), other.name, precision)


def export_shipped(script: str, config: str, weights: Path) -> Path:
    """Write graphs of weights beside them, as come with a configuration for machines without PyTorch; their folder."""
    cfg, folder = tracker_config(script, config, weights), weights.with_name(f"{weights.name.split('.')[0]}.graphs")
    origin = graphs_origin(script, config, graphs_folder(script, config, cfg, weights), weights)
    export_graphs(load_network(script, cfg, weights), cfg, folder, origin, half=True)
    return folder


def _file_names(format: str, precision: str) -> tuple[str, ...]:
    """Of the two graphs, in ONNX or the engine's own format; none of TensorRT's, which are named by the GPU."""
    if format == "openvino":
        return f"template{SUFFIX}", f"search{INT8_SUFFIX if precision == 'int8' else SUFFIX}"
    return () if format == "tensorrt" else (TEMPLATE, SEARCH)


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
