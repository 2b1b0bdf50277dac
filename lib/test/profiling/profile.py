"""The commands `tracking/profile_model*.py`: cost and latency of a network, as a table and as JSON."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from lib.config import load_config
from lib.models import build_model
from lib.models.inference import prepare_for_tracking
from lib.test.profiling.cost import BACKBONE, RELATION, TEMPLATE, WHOLE, Cost, network_costs
from lib.test.profiling.latency import Latency, describe_machine, machine_line, measure
from lib.utils.device import select_device
from lib.utils.errors import UserError
from lib.utils.files import write_text
from lib.utils.tensors import NestedTensor


@dataclass(frozen=True)
class Profile:
    """What was counted and measured of one network, in the form the tracker runs it: folded, batch 1, fp32.

    Attributes:
        script, config: which network.
        costs, latencies: by part: `backbone`, `transformer_and_head`, `whole` (a frame), `template` (once a template).
        trained_parameters: parameters before folding.
        machine: see `describe_machine`.
    """

    script: str
    config: str
    costs: dict[str, Cost]
    latencies: dict[str, Latency]
    trained_parameters: int
    machine: dict[str, object]

    def as_json(self) -> str:
        """All of it, with operations and parameters as plain numbers and times in milliseconds."""
        parts = {name: asdict(cost) | {"latency_ms": asdict(self.latencies[name])} for name, cost in self.costs.items()}
        content = {"script": self.script, "config": self.config, "machine": self.machine, "parts": parts}
        return json.dumps(content | {"trained_parameters": self.trained_parameters}, indent=2) + "\n"

    def table(self) -> str:
        """For people."""
        lines = [f"{self.script} {self.config}", machine_line(self.machine), ""]
        lines.append(f"{'':22}{'MACs (G)':>10}{'params (M)':>12}{'median (ms)':>13}{'5 %':>9}{'95 %':>9}")
        for name, cost in self.costs.items():
            time = self.latencies[name]
            lines.append(
                f"{name.replace('_', ' '):22}{cost.macs / 1e9:10.3f}{cost.parameters / 1e6:12.2f}"
                f"{time.median:13.2f}{time.p5:9.2f}{time.p95:9.2f}"
            )
        whole, time = self.costs[WHOLE], self.latencies[WHOLE]
        lines.append(
            f"\n{time.runs} runs; whole: a frame, its templates known, {1000 / time.median:.1f} a second; "
            f"template: one of them; weights {whole.parameters * 4 / 2**20:.1f} MiB in fp32"
        )
        if self.trained_parameters != whole.parameters:
            lines.append(f"counted after folding; {self.trained_parameters / 1e6:.2f} M parameters while training")
        return "\n".join(lines)


def main(description: str | None, script: str, config: str) -> None:
    """Parse a command's arguments, by default those of a script and configuration, and profile."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--script", default=script, help="stark_s, stark_st1, stark_st2 or stark_lightning_X_trt")
    parser.add_argument("--config", default=config, help="name of a configuration under experiments/, or a path")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--runs", type=int, default=100, help="runs of each part that are timed")
    parser.add_argument("--warmup", type=int, default=20, help="runs before them that are not")
    parser.add_argument("--threads", type=int, help="threads on the CPU; PyTorch's own choice by default")
    parser.add_argument("--output", type=Path, help="JSON file to write, too")
    profile_command(**vars(parser.parse_args()))


def profile_command(
    script: str, config: str, device: str, runs: int, warmup: int, threads: int | None, output: Path | None
) -> None:
    """Profile a network and print the table.

    Args:
        script, config, device, runs, warmup: see `profile_network`.
        threads: PyTorch's threads; as many as it chooses itself for None.
        output: a JSON file to write, too; nothing that exists is replaced.

    Raises:
        UserError: an unknown name, a number out of range, or `output` exists or cannot be written.
    """
    if runs < 1 or warmup < 0 or (threads is not None and threads < 1):
        raise UserError("--runs and --threads must be at least 1, --warmup at least 0")
    if output is not None and output.exists():
        raise UserError(f"{output} exists; remove it, or give --output another name")
    if threads is not None:
        torch.set_num_threads(threads)
    profile = profile_network(script, config, device, runs, warmup)
    print(profile.table())
    if output is not None:
        _write(output, profile.as_json())
        print(f"wrote {output}")


def profile_network(script: str, config: str, device: str = "auto", runs: int = 100, warmup: int = 20) -> Profile:
    """Count and time the parts of a network with random weights, which cost the same as trained ones.

    Args:
        script: `stark_s`, `stark_st1`, `stark_st2` or `stark_lightning_X_trt`.
        config: configuration in `experiments/<script>/`, or a YAML file.
        device: as `select_device` takes it.
        runs, warmup: see `measure`.

    Raises:
        UserError: an unknown script, configuration or device; thop cannot be imported.
    """
    cfg = load_config(script, config)
    target = select_device(device)
    model = build_model(script, cfg)
    trained = sum(parameter.numel() for parameter in model.parameters())
    model = prepare_for_tracking(model).to(target, memory_format=torch.channels_last)
    costs = network_costs(model, cfg)
    latencies = _latencies(model, cfg, target, runs, warmup)
    return Profile(script, str(config), costs, latencies, trained, describe_machine(target))


def _latencies(model: nn.Module, cfg: EasyDict, device: torch.device, runs: int, warmup: int) -> dict[str, Latency]:
    """How long the parts take, on crops of random pixels without padding."""
    template, search = (
        NestedTensor(torch.randn(1, 3, size, size, device=device).to(memory_format=torch.channels_last))
        for size in (cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE)
    )
    with torch.inference_mode():
        templates = [model.encode_template(template)] * model.template_count
        tokens = model.encode_search(search)
    parts = {
        BACKBONE: lambda: model.encode_search(search),
        RELATION: lambda: model.predict(templates, tokens),
        WHOLE: lambda: model.predict(templates, model.encode_search(search)),
        TEMPLATE: lambda: model.encode_template(template),
    }
    return {name: measure(part, device, runs, warmup) for name, part in parts.items()}


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
