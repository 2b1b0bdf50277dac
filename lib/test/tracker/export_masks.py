"""`tracking/export.py` for Alpha-Refine: write its graphs, and compare their masks with PyTorch's."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch

from lib.models.alpha_refine import SCRIPT
from lib.models.export import GraphFiles
from lib.test.tracker import graphs_dir
from lib.test.tracker.engines import choose_engine, engine_device
from lib.test.tracker.engines.openvino import INT8_SUFFIX, SUFFIX, read_model, save_model
from lib.test.tracker.mask_graphs import export_mask_graphs, kept_mask_graphs, mask_graphs_in
from lib.test.tracker.masks import create_mask_engine, onnx_mask_engine, openvino_mask_engine, tensorrt_mask_engine
from lib.test.tracker.quantise import Clip, calibrate_masks, clips_of, sample_clips, spread, walk
from lib.test.tracker.refiner import Refiner, load_refiner
from lib.test.utils.arguments import refuse_to_replace
from lib.utils.text import ruled_table

# Largest difference of an fp32 probability that rounding explains.
TOLERANCE = 1e-3
_MASKS = 40  # that are compared


def export_masks(
    config: str,
    checkpoint: str | None,
    format: str,
    precision: str,
    output: Path | None,
    overwrite: bool,
    calibration: str | None,
    frames: str | None,
    device: str,
) -> int:
    """As `lib.test.tracker.export.export` for the script `alpha_refine`; what is compared are masks, not boxes."""
    choose_engine(format, device, precision)
    model, cfg = load_refiner(config, checkpoint)
    root = graphs_dir(SCRIPT, config)
    files = GraphFiles(output) if output else mask_graphs_in(model, cfg, root)
    suffix = {"onnx": ".onnx", "openvino": SUFFIX}.get(format)
    written = [files.made_of(part, suffix) for part in ("template", "search")] if suffix else []
    if format == "openvino" and precision == "int8":  # of the search part alone: the other is run once
        written[1] = files.made_of("search", INT8_SUFFIX)
    if output is not None and not overwrite:
        refuse_to_replace(written)
    if format == "onnx":
        if overwrite or not all(path.is_file() for path in written):
            export_mask_graphs(model, cfg, files)
        other = onnx_mask_engine(files, torch.device("cpu"))
    elif format == "openvino":
        graphs = kept_mask_graphs(model, cfg, root)
        save_model(read_model(graphs.template), written[0])
        if precision == "int8":
            calibrate_masks(graphs, cfg, clips_of(calibration) if calibration else None, files, overwrite)
        else:
            save_model(read_model(graphs.search), written[1])
        other = openvino_mask_engine(*written, precision)
    else:
        graphs = kept_mask_graphs(model, cfg, root)
        other, written = tensorrt_mask_engine(graphs, engine_device(format, device), precision, files)
    print("\n".join(f"wrote {path}" for path in written))
    reference = create_mask_engine("torch", model, cfg, torch.device("cpu"), root)
    clips = clips_of(frames) if frames else sample_clips()
    differences, overlaps = compare_masks(Refiner(reference, cfg), Refiner(other, cfg), clips)
    rows = [["difference to PyTorch in fp32", "mean", "worst"]]
    rows.append(["probability of a pixel", f"{np.mean(differences):.2e}", f"{np.max(differences):.2e}"])
    rows.append(["overlap of masks", f"{np.mean(overlaps):.4f}", f"{np.min(overlaps):.4f}"])
    print(f"{other.name}: {len(overlaps)} masks in real frames\n{ruled_table(rows)}")
    if precision == "fp32" and not np.max(differences) <= TOLERANCE:
        print(f"probabilities differ by more than {TOLERANCE:.0e}, which rounding does not explain")
        return 1
    return 0


def compare_masks(reference: Refiner, other: Refiner, clips: list[Clip]) -> tuple[list[float], list[float]]:
    """The largest difference of probabilities of each mask, and the overlap (IoU) of both; 1 where both are empty.

    Raises:
        UserError: a frame cannot be read, or there is none.
    """
    # Read once, for both, and no more of it than is compared.
    clips = spread(clips, _MASKS)
    kept = [(list(islice(frames, max(1, _MASKS // len(clips)))), boxes) for frames, boxes in clips]
    threshold = reference.cfg.TEST.MASK_THRESHOLD
    differences, overlaps = [], []
    for a, b in zip(walk(reference, kept, _MASKS), walk(other, kept, _MASKS), strict=True):
        differences.append(float(np.abs(a - b).max()))
        a, b = a > threshold, b > threshold
        overlaps.append(float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0)
    return differences, overlaps
