"""Trackers by name. PyTorch is loaded only where it is needed: on a CPU, graphs that exist run without it."""

import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from easydict import EasyDict

from ...config import config_path, experiment_name, load_config, option, trained_config
from ...config.options import REFINE
from ...utils.checkpoint_files import NET_TYPES, CheckpointError, checkpoint_name, content_digest, find_checkpoint
from ...utils.errors import UserError
from ...utils.files import locked
from ...utils.graph_files import ABOUT, REGIONS, SEARCH, TEMPLATE, VERSION
from ...utils.workspace import workspace
from .classic import BASELINES, ClassicTracker
from .engines import Engine, choose_engine, engine_device
from .engines.graphs import graph_engine
from .stark import BoxEngine, StarkTracker

if TYPE_CHECKING:
    from torch import nn

# Tracker -> the script whose experiments it reads.
SCRIPT_OF = {
    "stark_s": "stark_s",
    "stark_st": "stark_st2",
    "stark_lightning_X_trt": "stark_lightning_X_trt",
}
# Alpha-Refine's published weights, under `checkpoints/`.
PUBLISHED_FILE = "AR/ARcm_coco_seg_only_mask_384.pth.tar"


class Tracker(Protocol):
    """Images are (H, W, 3) uint8 RGB, boxes xywh in pixels."""

    def initialize(self, image: np.ndarray, info: dict) -> object:
        """Start with the box `info["init_bbox"]`."""

    def track(self, image: np.ndarray) -> dict:
        """Find the object in the next frame: `{"target_bbox": [x, y, w, h], "conf_score": in [0, 1] or missing}`."""

    def spawn(self) -> "Tracker":
        """A tracker of another object, on the same network."""


def learned_score(result: dict) -> float | None:
    """The confidence that a tracker learned, of what its `track` gives; None for another kind, or none."""
    score = result.get("conf_score")
    return None if score is None or result.get("conf_kind", "score") != "score" else float(score)


def explains(tracker: Tracker) -> bool:
    """Whether a tracker can `explain` what its network looks at: a STARK tracker on the engine `torch`."""
    return getattr(tracker, "explains", False)


def create_tracker(
    name: str,
    config: str,
    checkpoint: str | Path | None = None,
    dataset_name: str = "",
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
    overrides: Sequence[str] = (),
    num_threads: int | None = None,
) -> Tracker:
    """Build a tracker and load its weights.

    Args:
        name: `stark_s`, `stark_st`, `stark_lightning_X_trt`, or a baseline, whose configuration is not read: `csrt`,
            `kcf`, `nano` and `vit` of OpenCV, `still` that never moves.
        config: configuration in `experiments/<script>/`, or a YAML file.
        checkpoint: weights, as `find_weights` takes them; ONNX files of `nano` and `vit`, separated as in PATH.
        dataset_name: the test set, which decides how often STARK-ST renews its dynamic template.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; `auto` is one that the engine can use.
        engine: of `PRECISIONS_OF` in `lib.test.tracker.engines`; `auto` is the fastest that is installed, and its name
            is printed. Graphs that an engine needs are exported the first time and kept with the checkpoints.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        overrides: `KEY.PATH=value` of the configuration, see `lib.config.load_config`.
        num_threads: processor threads to compute with (docs/api.md). Of torch they are the process's.

    Raises UserError for an unknown name, configuration, device, engine or precision, or for a checkpoint that is
    missing, damaged or of another network.
    """
    if num_threads is not None and num_threads < 1:
        raise UserError(f"{num_threads} threads: the number must be 1 or more")
    if name in BASELINES:
        files = str(checkpoint).split(os.pathsep) if checkpoint else ()
        return ClassicTracker(name, files) if BASELINES[name] is ClassicTracker else BASELINES[name]()
    if name not in SCRIPT_OF:
        raise UserError(f"unknown tracker '{name}'; valid: {', '.join([*SCRIPT_OF, *BASELINES])}")
    chosen = choose_engine(engine, device, precision)
    if engine == "auto":
        print(f"engine: {chosen} {precision}, the fastest that is installed", flush=True)
    script = SCRIPT_OF[name]
    network, cfg = create_engine(script, config, checkpoint, device, chosen, precision, overrides, num_threads)
    return StarkTracker(BoxEngine(network), cfg, update_intervals(cfg, dataset_name) if name == "stark_st" else ())


def create_engine(
    script: str,
    config: str | Path,
    checkpoint: str | Path | None,
    device: str,
    engine: str,
    precision: str,
    overrides: Sequence[str] = (),
    num_threads: int | None = None,
) -> tuple[Engine, EasyDict]:
    """What computes the network of a script (`alpha_refine`, too), and its configuration; errors as `create_tracker`.

    `engine` is from `choose_engine`; the other arguments are as `create_tracker` takes them.
    """
    weights = find_weights(script, config, checkpoint, overrides)
    cfg, target = tracker_config(script, config, weights, overrides), engine_device(engine, device)
    if engine in ("torch", "compile"):
        import torch

        from .engines.pytorch import torch_engine

        if num_threads is not None:
            torch.set_num_threads(num_threads)
        return torch_engine(load_network(script, cfg, weights), cfg, target, precision, engine == "compile"), cfg
    folder = exported(script, config, cfg, weights)
    return graph_engine(engine, folder, target, precision, num_threads=num_threads), cfg


def find_weights(
    script: str,
    config: str | Path,
    checkpoint: str | Path | None = None,
    overrides: Sequence[str] = (),
    announce: bool = True,
) -> Path:
    """The file with a network's weights.

    It is `checkpoint`, a path or a file's name in the workspace's `network_dir`; else the epoch TEST.EPOCH of the
    training, else its newest; else what lies beside the configuration; else Alpha-Refine's published file. Raises
    UserError for an unknown configuration, or where there are no weights.
    """
    place = workspace("test")
    if checkpoint is not None:
        path, kept = Path(checkpoint), place.network_dir / checkpoint
        return kept if not path.exists() and kept.is_file() else path
    wanted = weights_place(script, config, overrides)
    if wanted.is_file():
        return wanted
    try:
        newest = find_checkpoint(wanted.parent, NET_TYPES[script])
        if announce:
            print(f"{wanted.name} is missing; using the newest: {newest}")
        return newest
    except CheckpointError as error:
        others = [shipped_weights(script, config)]
        if (script, config) == (REFINE, "baseline"):
            others.append(place.checkpoint_dir / PUBLISHED_FILE)
        for path in others:
            if path.is_file():
                return path
        raise CheckpointError(f"no weights of {script} {config}: {error}, or put one at {others[-1]}") from error


def weights_place(script: str, config: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Where a training leaves the weights of the epoch TEST.EPOCH, and where published ones go."""
    folder = workspace("test").checkpoint_dir / "train" / script / experiment_name(config)
    return folder / checkpoint_name(NET_TYPES[script], load_config(script, config, overrides).TEST.EPOCH)


def shipped_weights(script: str, config: str | Path) -> Path:
    """Where trained weights lie that come with a configuration, if any: beside it."""
    return config_path(script, config).with_suffix(".pth.tar")


def tracker_config(script: str, config: str | Path, weights: Path, overrides: Sequence[str] = ()) -> EasyDict:
    """The configuration of `trained_config`; a printed line names the options that differ from the YAML file."""
    cfg, changed = trained_config(script, config, weights, overrides)
    if changed:
        _print_once(f"note: {weights.name} was trained with other options than {config}, which are used: {changed}")
    return cfg


_print_once = functools.cache(print)


def exported(script: str, config: str | Path, cfg: EasyDict, weights: Path) -> Path:
    """The folder with the graphs of the network in a checkpoint; they are exported unless an earlier call left them.

    Without PyTorch it is that of the shipped graphs. Raises UserError where they are of other weights or options, or
    where graphs cannot be written, and as `load_network`.
    """
    folder, shipped = graphs_folder(script, config, cfg, weights), shipped_graphs(script, config)
    names = (TEMPLATE, SEARCH, ABOUT) if script == REFINE else (TEMPLATE, SEARCH, REGIONS, ABOUT)

    def complete() -> bool:
        return all((folder / name).is_file() for name in names)

    if complete():
        return folder
    if not importlib.util.find_spec("torch"):
        about = shipped / ABOUT
        if about.is_file() and json.loads(about.read_text(encoding="utf-8"))["origin"]["graphs"] == folder.name:
            return shipped
        raise UserError(
            f"graphs of these weights and options of {script} {config} are not shipped; to make them, PyTorch is "
            "needed: pip install torch torchvision"
        )
    try:
        with locked(folder):  # of several processes that start together one exports
            if not complete():
                from ...models.export import export_graphs

                origin = graphs_origin(script, config, folder, weights)
                export_graphs(load_network(script, cfg, weights), cfg, folder, origin)
    except OSError as error:
        reason = f"cannot write the graphs to {folder}: {error.strerror or error}"
        raise UserError(f"{reason}; the engine torch needs none") from error
    return folder


def shipped_graphs(script: str, config: str | Path) -> Path:
    """Where the graphs of `shipped_weights` lie, for those who have no PyTorch; their weights are kept in fp16."""
    return config_path(script, config).with_suffix(".graphs")


def graphs_origin(script: str, config: str | Path, folder: Path, weights: Path) -> dict[str, str]:
    """Where graphs come from: script, configuration, digest of the checkpoint, and what `graphs_folder` calls them."""
    names = {"script": script, "config": experiment_name(config), "graphs": folder.name, "checkpoint": weights.name}
    return names | {"sha256": content_digest(weights)}


def graphs_folder(script: str, config: str | Path, cfg: EasyDict, weights: Path) -> Path:
    """The folder that keeps the exported graphs of a checkpoint.

    Its name stands for the graphs' version, the checkpoint's content, and the options the network depends on.
    """
    data = cfg.DATA
    options = [data.TEMPLATE, data.SEARCH.SIZE, data.MEAN, data.STD, option(cfg, "TEST.WINDOW")]
    text = json.dumps([VERSION, content_digest(weights), cfg.MODEL, *options], sort_keys=True)
    root = workspace("test").checkpoint_dir / "onnx" / script / experiment_name(config)
    return root / hashlib.sha256(text.encode()).hexdigest()[:20]


def load_network(script: str, cfg: EasyDict, path: Path) -> "nn.Module":
    """The network of a script with the weights of a checkpoint, on the CPU; raises UserError where they do not fit."""
    from ...models import build_model
    from ...models.inference import fold_repvgg
    from ...utils.checkpoint import load_checkpoint, load_state

    model, weights = build_model(script, cfg), load_checkpoint(path)
    if any("rbr_reparam" in key for key in weights["net"]):
        fold_repvgg(model)  # the file holds a network that was folded before it was saved
    load_state(model, weights, path)
    return model


def update_intervals(cfg: EasyDict, dataset_name: str) -> list[int]:
    """Frames between replacements of each dynamic template: those of a test set, or of training where none fit."""
    by_set = {name.upper(): intervals for name, intervals in cfg.TEST.UPDATE_INTERVALS.items()}
    intervals = by_set.get(dataset_name.upper(), [])
    return intervals if len(intervals) == cfg.DATA.TEMPLATE.NUMBER - 1 else cfg.DATA.MAX_SAMPLE_INTERVAL
