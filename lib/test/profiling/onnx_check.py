"""The commands `tracking/ORT_lightning_X_trt_*.py`: export a published graph, compare onnxruntime with PyTorch."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict

from ...models.export import SEARCH_FILE, TEMPLATE_FILE, PublishedParts, export_published
from ...models.inference import prepare_for_tracking
from ...utils.crop import sample_target
from ...utils.device import describe_machine, machine_line
from ...utils.errors import UserError
from ...utils.files import refuse_to_replace
from ...utils.tensors import Preprocessor
from ..tracker import find_weights, graphs_folder, load_network, tracker_config
from ..tracker.engines import engine_device
from ..tracker.engines.graphs import open_graph
from ..tracker.engines.pytorch import torch_part
from ..tracker.export import require_tracked
from ..tracker.quantise import sample_clips
from .profile import COLUMNS, latency_columns, measure

# Largest difference that rounding explains: of a box, as a fraction of the crop; of a feature, of the largest one.
TOLERANCE = 1e-4
_WARMUP = 5


def check_graph(
    part: str,
    script: str,
    config: str,
    checkpoint: str | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    runs: int = 100,
) -> int:
    """Export the `template` or `search` graph of a network, and print how it compares with PyTorch on real crops.

    The arguments are the command's options. Without `output`, a graph exported before from the same weights is used
    again. Gives 0, or 1 where the outputs differ by more than rounding explains. Raises UserError for an unknown name,
    a missing checkpoint or package, or a file that exists.
    """
    if runs < 1:
        raise UserError("--runs must be at least 1")
    require_tracked(script)
    weights, device = find_weights(script, config, checkpoint), engine_device("onnx", device)
    cfg = tracker_config(script, config, weights)
    model = load_network(script, cfg, weights)
    path = output or graphs_folder(script, config, cfg, weights)
    path /= TEMPLATE_FILE if part == "template" else SEARCH_FILE
    if output is not None and not overwrite:
        refuse_to_replace([path])
    if path.exists() and output is None:
        print(f"{path} holds these weights already")
    else:
        export_published(part, model, cfg, path)
        print(f"wrote {path}")
    model = prepare_for_tracking(model).to(device, memory_format=torch.channels_last)
    model.extractor.dtype = "fp32"  # as the graphs
    print(machine_line(describe_machine(torch.device(device))))
    published, graph = PublishedParts(model), open_graph(path, device)
    network, encode = (torch_part(getattr(published, name), device) for name in (part, "template"))
    differences: dict[bool, list[float]] = {False: [], True: []}  # of crops without and with padding
    for template, search in real_crops(cfg):
        inputs = template if part == "template" else (*search, *encode(*template) * model.template_count)
        for found, wanted in zip(graph(*inputs), network(*inputs), strict=True):
            scale = max(np.abs(wanted).max(), 1) if part == "template" else 1
            differences[bool(search[1].any())].append(float(np.abs(found * 1.0 - wanted).max() / scale))
    plain, padded = (float(np.max(values)) for values in differences.values())  # nan where one is nan
    print(f"largest difference: {plain:.1e} without padding, {padded:.1e} with padding\n{'':14}{COLUMNS}")
    for name, run in (("PyTorch", network), ("onnxruntime", graph)):
        print(f"{name:14}{latency_columns(measure(partial(run, *inputs), torch.device(device), runs, _WARMUP))}")
    if plain <= TOLERANCE and padded <= TOLERANCE:
        return 0
    print(f"PyTorch and onnxruntime disagree by more than {TOLERANCE:.0e}")
    return 1


def real_crops(cfg: EasyDict) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Template and search crop (1, 3, H, W), each with its mask (1, H, W), from the first frames of the sample clips.

    A frame gives two pairs, the first without padding, the second with it.
    """
    preprocess, test = Preprocessor(cfg.DATA.MEAN, cfg.DATA.STD, torch.device("cpu")), cfg.TEST
    regions = ((test.TEMPLATE_FACTOR, test.TEMPLATE_SIZE), (test.SEARCH_FACTOR, test.SEARCH_SIZE))
    for frames, _ in sample_clips():
        frame = next(iter(frames))
        height, width = frame.shape[:2]
        side = height / (2 * test.SEARCH_FACTOR)  # the search region is half as high as the frame
        for x, y in (((width - side) / 2, (height - side) / 2), (0, 0)):
            crops = (sample_target(frame, (x, y, side, side), factor, size) for factor, size in regions)
            yield [(preprocess(crop, mask).tensors.contiguous().numpy(), mask[None]) for crop, _, mask in crops]
