"""Cost and time of networks: the commands `tracking/profile_model*.py`, and `tracking/ORT_lightning_X_trt_*.py`.

The first count a network's operations and parameters, and time its parts:

    backbone               backbone and bottleneck on the search crop
    transformer_and_head   tokens of templates and search region to boxes
    whole                  the two above: one frame
    template               backbone and bottleneck on one template crop, once a template

thop counts multiply-accumulate operations (MACs), with the rule for attention of the published figures. The others
export a published graph and compare onnxruntime with PyTorch.
"""

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from ..config import load_config
from ..config.options import REFINE
from ..models import build_model
from ..models.export import SEARCH_FILE, TEMPLATE_FILE, PublishedParts, Traced, export_published
from ..models.inference import OnCrops, fold_norms, prepare_for_tracking
from ..models.transformer import MultiheadAttention
from ..utils.crop import sample_target
from ..utils.device import describe_machine, machine_line, select_device
from ..utils.errors import UserError
from ..utils.files import refuse_to_replace
from ..utils.tensors import NestedTensor
from .tracker import find_weights, graphs_folder, load_network, tracker_config
from .tracker.engines import engine_device
from .tracker.engines.graphs import open_graph
from .tracker.engines.pytorch import torch_part
from .tracker.export import clips_of, require_tracked

BACKBONE, TRANSFORMER, WHOLE, TEMPLATE = "backbone", "transformer_and_head", "whole", "template"
COLUMNS = f"{'median (ms)':>13}{'5 %':>9}{'95 %':>9}"  # of `_times`
# Largest difference that rounding explains: of a box, as a fraction of the crop; of what exceeds 1, of the largest.
TOLERANCE = 1e-4
_WARMUP = 5


def measure(function: Callable[[], object], device: torch.device, runs: int, warmup: int) -> dict[str, float]:
    """`median`, `p5` and `p95` of a function's runs in milliseconds, after `warmup` runs that do not count."""
    seconds = []
    with torch.inference_mode():
        for _ in range(warmup):
            function()
        for _ in range(runs):
            _finish(device)
            start = time.perf_counter()
            function()
            _finish(device)
            seconds.append(time.perf_counter() - start)
    p5, median, p95 = (float(value) * 1000 for value in np.percentile(seconds, (5, 50, 95)))
    return {"median": median, "p5": p5, "p95": p95, "runs": runs}


def _times(latency: Mapping[str, float]) -> str:
    return f"{latency['median']:13.2f}{latency['p5']:9.2f}{latency['p95']:9.2f}"


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def network_parts(model: nn.Module, cfg: EasyDict) -> dict[str, tuple[Traced, tuple]]:
    """All parts but `whole`, with inputs: crops of random pixels without padding."""
    device = next(model.parameters()).device
    template, search = (
        NestedTensor(torch.randn(1, 3, size, size, device=device).to(memory_format=torch.channels_last))
        for size in (cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE)
    )
    with torch.inference_mode():
        tokens = [model.encode_template(template)] * model.template_count, model.encode_search(search)
    return {
        BACKBONE: (Traced(model, "encode_search"), (search,)),
        TRANSFORMER: (Traced(model, "predict"), tokens),
        TEMPLATE: (Traced(model, "encode_template"), (template,)),
    }


def _count_attention(module: MultiheadAttention, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """(Lq + 2 Lk) d^2 + 2 Lq Lk d: without the projection of the output, as in the published figures."""
    (batch, queries, dim), keys = inputs[0].shape, inputs[1].shape[1]
    module.total_ops += batch * ((queries + 2 * keys) * dim**2 + 2 * queries * keys * dim)


def network_costs(model: nn.Module, cfg: EasyDict) -> dict[str, dict[str, float]]:
    """`macs` and `parameters` of each part. Raises UserError where thop cannot be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it compares versions in an old way
            import thop
    except ImportError as error:
        raise UserError(f"counting needs thop and setuptools: pip install thop setuptools ({error})") from error
    rules, macs = {MultiheadAttention: _count_attention}, {}
    with torch.no_grad():
        for name, (part, inputs) in network_parts(model, cfg).items():
            # A copy, since thop leaves its counters behind; without norms, as in a tracker.
            folded = fold_norms(copy.deepcopy(part))
            macs[name] = thop.profile(folded, inputs, custom_ops=rules, verbose=False)[0]
    total, backbone = _parameters(model), _parameters(model.extractor) + _parameters(model.bottleneck)
    macs[WHOLE] = macs[BACKBONE] + macs[TRANSFORMER]
    parameters = {BACKBONE: backbone, TRANSFORMER: total - backbone, WHOLE: total, TEMPLATE: backbone}
    return {name: {"macs": macs[name], "parameters": count} for name, count in parameters.items()}


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def profile_network(
    script: str, config: str, device: str = "auto", runs: int = 100, warmup: int = 20, overrides: Sequence[str] = ()
) -> dict:
    """Count and time a network in the form of a tracker: folded, batch 1, fp32. Random weights cost the same.

    Gives the content of the JSON file: `parts` by name, each with `macs`, `parameters` and `latency_ms`; `machine`;
    `trained_parameters`, counted before folding. A UserError for unknown names or devices, or without thop.
    """
    cfg, target = load_config(script, config, overrides), select_device(device)
    if script == REFINE:
        raise UserError(f"networks of {script} are not profiled: choose the script of a tracker")
    model = build_model(script, cfg)
    trained = _parameters(model)
    model = prepare_for_tracking(model).to(target, memory_format=torch.channels_last)
    costs, parts = network_costs(model, cfg), network_parts(model, cfg)
    calls = {name: partial(part, *inputs) for name, (part, inputs) in parts.items()}
    templates, search = parts[TRANSFORMER][1][0], parts[BACKBONE][1][0]
    calls[WHOLE] = lambda: model.predict(templates, model.encode_search(search))
    return {
        "script": script,
        "config": str(config),
        "machine": describe_machine(target),
        "parts": {k: cost | {"latency_ms": measure(calls[k], target, runs, warmup)} for k, cost in costs.items()},
        "trained_parameters": trained,
    }


def profile_table(profile: dict[str, Any]) -> str:
    """The result of `profile_network` as text."""
    lines = [f"{profile['script']} {profile['config']}", machine_line(profile["machine"]), ""]
    lines.append(f"{'':22}{'MACs (G)':>10}{'params (M)':>12}{COLUMNS}")
    for name, part in profile["parts"].items():
        cost = f"{part['macs'] / 1e9:10.3f}{part['parameters'] / 1e6:12.2f}"
        lines.append(f"{name.replace('_', ' '):22}{cost}{_times(part['latency_ms'])}")
    whole, trained = profile["parts"][WHOLE], profile["trained_parameters"]
    lines.append(
        f"\n{whole['latency_ms']['runs']} runs; whole: one frame, {1000 / whole['latency_ms']['median']:.1f} a second; "
        f"template: once a template; weights {whole['parameters'] * 4 / 2**20:.1f} MiB in fp32"
    )
    if trained != whole["parameters"]:
        lines.append(f"counted after folding; {trained / 1e6:.2f} M parameters while training")
    return "\n".join(lines)


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

    The arguments are the command's options. Gives 0, or 1 where the outputs differ by more than rounding explains.
    Raises UserError for an unknown name, a missing checkpoint or package, or a file that exists in `output`.
    """
    if runs < 1:
        raise UserError("--runs must be at least 1")
    require_tracked(script)
    weights, device = find_weights(script, config, checkpoint), engine_device("onnx", device)
    cfg = tracker_config(script, config, weights)
    model = load_network(script, cfg, weights)
    folder = output or graphs_folder(script, config, cfg, weights)
    path = folder / (TEMPLATE_FILE if part == "template" else SEARCH_FILE)
    if output is not None and not overwrite:
        refuse_to_replace([path])
    export_published(part, model, cfg, path)
    print(f"wrote {path}")
    model = prepare_for_tracking(model).to(device, memory_format=torch.channels_last)
    model.extractor.dtype = "fp32"  # as the graphs
    print(machine_line(describe_machine(torch.device(device))))
    published, graph = PublishedParts(model), open_graph(path, device)
    network, encode = (torch_part(getattr(published, name), device) for name in (part, "template"))
    differences = []
    for template, search in real_crops(cfg):
        inputs = template if part == "template" else (*search, *encode(*template) * model.template_count)
        pairs = zip(graph(*inputs), network(*inputs), strict=True)
        differences.append(np.max([np.abs(a * 1.0 - b).max() / max(np.abs(b).max(), 1) for a, b in pairs]))
    plain, padded = (np.max(differences[i::2]) for i in (0, 1))  # nan where one is nan
    print(f"largest difference: {plain:.1e} without padding, {padded:.1e} with padding\n{'':14}{COLUMNS}")
    for name, run in (("PyTorch", network), ("onnxruntime", graph)):
        print(f"{name:14}{_times(measure(partial(run, *inputs), torch.device(device), runs, _WARMUP))}")
    if plain <= TOLERANCE and padded <= TOLERANCE:
        return 0
    print(f"PyTorch and onnxruntime disagree by more than {TOLERANCE:.0e}")
    return 1


def real_crops(cfg: EasyDict) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Template and search crop (1, 3, H, W), each with its mask (1, H, W), from the first frames of the sample clips.

    A frame gives two pairs, the first without padding, the second with it.
    """
    normalised, test = OnCrops(cfg).normalised, cfg.TEST
    regions = ((test.TEMPLATE_FACTOR, test.TEMPLATE_SIZE), (test.SEARCH_FACTOR, test.SEARCH_SIZE))
    for frames, _ in clips_of():
        frame = next(iter(frames))
        height, width = frame.shape[:2]
        side = height / (2 * test.SEARCH_FACTOR)  # the search region is half as high as the frame
        for x, y in (((width - side) / 2, (height - side) / 2), (0, 0)):
            crops = (sample_target(frame, (x, y, side, side), factor, size) for factor, size in regions)
            yield [
                (normalised(torch.from_numpy(crop)[None]).contiguous().numpy(), mask[None]) for crop, _, mask in crops
            ]
