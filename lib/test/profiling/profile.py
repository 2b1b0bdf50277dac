"""The commands `tracking/profile_model*.py`: operations, parameters and latency of a network's parts.

thop counts multiply-accumulate operations (MACs) layer by layer while the network runs. One rule for attention is
added, as for the published figures. The parts are

    backbone               backbone and bottleneck on the search crop
    transformer_and_head   tokens of templates and search region to boxes
    whole                  the two above: one frame
    template               backbone and bottleneck on one template crop, once a template
"""

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from ...config import load_config
from ...config.options import REFINE
from ...models import build_model
from ...models.export import Traced
from ...models.inference import fold_norms, prepare_for_tracking
from ...models.transformer import MultiheadAttention
from ...utils.device import describe_machine, machine_line, select_device
from ...utils.errors import UserError
from ...utils.tensors import NestedTensor

BACKBONE, TRANSFORMER, WHOLE, TEMPLATE = "backbone", "transformer_and_head", "whole", "template"
COLUMNS = f"{'median (ms)':>13}{'5 %':>9}{'95 %':>9}"


def measure(function: Callable[[], object], device: torch.device, runs: int, warmup: int) -> dict[str, float]:
    """Time each run of a function until the device has finished it, after `warmup` runs that do not count.

    Gives `median`, `p5` and `p95` in milliseconds, and the number of `runs`.
    """
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


def latency_columns(latency: Mapping[str, float]) -> str:
    """The three times as columns of a table under `COLUMNS`."""
    return f"{latency['median']:13.2f}{latency['p5']:9.2f}{latency['p95']:9.2f}"


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


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


def count_macs(part: nn.Module, inputs: tuple) -> float:
    """MACs of one call. Raises UserError where thop cannot be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it compares versions in an old way
            import thop
    except ImportError as error:
        raise UserError(f"counting needs thop and setuptools: pip install thop setuptools ({error})") from error
    # A copy, since thop leaves its counters behind; without norms, as in a tracker.
    folded, rules = fold_norms(copy.deepcopy(part)), {MultiheadAttention: _count_attention}
    with torch.no_grad():
        return thop.profile(folded, inputs, custom_ops=rules, verbose=False)[0]


def _count_attention(module: MultiheadAttention, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """(Lq + 2 Lk) d^2 + 2 Lq Lk d: without the projection of the output, as in the published figures."""
    (batch, queries, dim), keys = inputs[0].shape, inputs[1].shape[1]
    module.total_ops += batch * ((queries + 2 * keys) * dim**2 + 2 * queries * keys * dim)


def network_costs(model: nn.Module, cfg: EasyDict) -> dict[str, dict[str, float]]:
    """`macs` and `parameters` of each part."""
    macs = {name: count_macs(*part) for name, part in network_parts(model, cfg).items()}
    total, backbone = _parameters(model), _parameters(model.extractor) + _parameters(model.bottleneck)
    return {
        BACKBONE: {"macs": macs[BACKBONE], "parameters": backbone},
        TRANSFORMER: {"macs": macs[TRANSFORMER], "parameters": total - backbone},
        WHOLE: {"macs": macs[BACKBONE] + macs[TRANSFORMER], "parameters": total},
        TEMPLATE: {"macs": macs[TEMPLATE], "parameters": backbone},
    }


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def profile_network(
    script: str, config: str, device: str = "auto", runs: int = 100, warmup: int = 20, overrides: Sequence[str] = ()
) -> dict:
    """Count and time a network in the form of a tracker: folded, batch 1, fp32. Random weights cost the same.

    Returns:
        The content of the JSON file: `parts` by name, each with `macs`, `parameters` and `latency_ms`; `machine`;
        `trained_parameters`, counted before folding.

    Raises:
        UserError: an unknown script, configuration or device; thop cannot be imported.
    """
    cfg, target = load_config(script, config, overrides), select_device(device)
    if script == REFINE:
        raise UserError(f"networks of {script} are not profiled: choose the script of a tracker")
    model = build_model(script, cfg)
    trained = _parameters(model)
    model = prepare_for_tracking(model).to(target, memory_format=torch.channels_last)
    costs, parts = network_costs(model, cfg), network_parts(model, cfg)
    (_, (templates, _)), (_, (search,)) = parts[TRANSFORMER], parts[BACKBONE]
    calls = {name: partial(part, *inputs) for name, (part, inputs) in parts.items()}
    calls[WHOLE] = lambda: model.predict(templates, model.encode_search(search))
    return {
        **{"script": script, "config": str(config), "machine": describe_machine(target)},
        "parts": {
            name: cost | {"latency_ms": measure(calls[name], target, runs, warmup)} for name, cost in costs.items()
        },
        "trained_parameters": trained,
    }


def profile_table(profile: dict[str, Any]) -> str:
    """The result of `profile_network` as text."""
    lines = [f"{profile['script']} {profile['config']}", machine_line(profile["machine"]), ""]
    lines.append(f"{'':22}{'MACs (G)':>10}{'params (M)':>12}{COLUMNS}")
    for name, part in profile["parts"].items():
        cost = f"{part['macs'] / 1e9:10.3f}{part['parameters'] / 1e6:12.2f}"
        lines.append(f"{name.replace('_', ' '):22}{cost}{latency_columns(part['latency_ms'])}")
    whole, trained = profile["parts"][WHOLE], profile["trained_parameters"]
    lines.append(
        f"\n{whole['latency_ms']['runs']} runs; whole: one frame, {1000 / whole['latency_ms']['median']:.1f} a second; "
        f"template: once a template; weights {whole['parameters'] * 4 / 2**20:.1f} MiB in fp32"
    )
    if trained != whole["parameters"]:
        lines.append(f"counted after folding; {trained / 1e6:.2f} M parameters while training")
    return "\n".join(lines)
