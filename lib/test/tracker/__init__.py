"""Trackers by name. PyTorch is loaded only where it is needed: on a CPU, graphs that exist run without it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from easydict import EasyDict

from lib.config import load_config, option
from lib.config.loader import config_path, experiment_name, trained_config
from lib.test.tracker.classic import BASELINES
from lib.test.tracker.engines import choose_engine, engine_device, graph_engine
from lib.test.tracker.engines.base import Engine
from lib.test.tracker.stark import BoxEngine, SpatioTemporalTracker, StarkTracker
from lib.utils.checkpoint_files import CheckpointError, epoch_name, find_checkpoint
from lib.utils.errors import UserError
from lib.utils.files import locked
from lib.utils.graph_files import REGIONS, SEARCH, TEMPLATE, VERSION
from lib.utils.workspace import workspace

if TYPE_CHECKING:
    from torch import nn

# Tracker -> the script whose experiments it reads.
SCRIPTS = {
    "stark_s": "stark_s",
    "stark_st": "stark_st2",
    "stark_lightning_X_trt": "stark_lightning_X_trt",
}
# Script -> the class of its network, by which checkpoints are named.
_NETWORKS = {"stark_s": "STARKS", "stark_st2": "STARKST", "stark_lightning_X_trt": "STARKLightningXtrt"}
MASK_SCRIPT = "alpha_refine"


class Tracker(Protocol):
    """Images are (H, W, 3) uint8 RGB, boxes xywh in pixels."""

    def initialize(self, image: np.ndarray, info: dict) -> object:
        """Start with the box `info["init_bbox"]`."""

    def track(self, image: np.ndarray) -> dict:
        """Find the object in the next frame: `{"target_bbox": [x, y, w, h], "conf_score": in [0, 1] or missing}`."""


def create_tracker(
    name: str,
    config: str,
    checkpoint: str | Path | None = None,
    dataset_name: str = "",
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
    overrides: Sequence[str] = (),
) -> Tracker:
    """Build a tracker and load its weights.

    Args:
        name: `stark_s`, `stark_st`, `stark_lightning_X_trt`, or a baseline, whose configuration is not read: `csrt`
            and `kcf` of OpenCV, `still` that never moves.
        config: configuration in `experiments/<script>/`, or a YAML file.
        checkpoint: weights, as a path or as a file's name in the workspace's `network_dir`; by default the epoch
            TEST.EPOCH under `checkpoints/`, else the newest there, else the weights that lie beside the configuration.
        dataset_name: the test set, which decides how often STARK-ST renews its dynamic template.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; `auto` is one that the engine can use.
        engine: `torch`, `compile` (torch.compile), or `onnx` (onnxruntime), `openvino`, `tensorrt` on graphs that are
            exported the first time and kept with the checkpoints; `auto` is the fastest that is installed; its name
            is printed.
        precision: `fp32`, `bf16`, `fp16` or `int8`; `lib.test.tracker.engines.PRECISIONS_OF` says which engine knows
            which.
        overrides: `KEY.PATH=value` of the configuration, see `trained_config`.

    Raises:
        UserError: an unknown name, configuration, device, engine or precision; a checkpoint that is
            missing, damaged or of another network.
    """
    if name in BASELINES:
        return BASELINES[name]()
    if name not in SCRIPTS:
        raise UserError(f"unknown tracker '{name}'; valid: {', '.join([*SCRIPTS, *BASELINES])}")
    chosen = choose_engine(engine, device, precision)
    if engine == "auto":
        print(f"engine: {chosen} {precision}, the fastest that is installed", flush=True)
    script = SCRIPTS[name]
    weights = weights_path(name, config, checkpoint, overrides)
    cfg = announced_config(script, config, weights, overrides)
    boxes = BoxEngine(create_engine(script, config, cfg, weights, chosen, device, precision))
    if name == "stark_st":
        return SpatioTemporalTracker(boxes, cfg, update_intervals(cfg, dataset_name))
    return StarkTracker(boxes, cfg)


def announced_config(script: str, config: str | Path, weights: Path, overrides: Sequence[str] = ()) -> EasyDict:
    """The configuration of `trained_config`; a printed line names the options that differ from the YAML file."""
    cfg, changed = trained_config(script, config, weights, overrides)
    if changed:
        print(f"note: {weights.name} was trained with other options than {config}, which are used: {changed}")
    return cfg


def create_engine(
    script: str,
    config: str | Path,
    cfg: EasyDict,
    weights: Path,
    engine: str,
    device: str = "auto",
    precision: str = "fp32",
) -> Engine:
    """The engine of a name for the network in a checkpoint.

    Args:
        script: of a tracker, or `alpha_refine`.
        config: its name, for the folder of graphs.
        cfg: the effective configuration.
        weights: the checkpoint.
        engine: from `choose_engine`.
        device, precision: as `create_tracker` takes them.

    Raises:
        UserError: see `create_tracker`; graphs that cannot be written, or not be run.
    """
    target = engine_device(engine, device)
    if engine in ("torch", "compile"):
        from lib.test.tracker.engines.pytorch import torch_engine

        return torch_engine(load_network(script, cfg, weights), cfg, target, precision, engine == "compile")
    return graph_engine(engine, exported(script, config, cfg, weights), target, precision)


def exported(script: str, config: str | Path, cfg: EasyDict, weights: Path) -> Path:
    """The folder with the graphs of the network in a checkpoint; they are exported unless an earlier call left them.

    Raises:
        UserError: they cannot be written; the checkpoint is missing, damaged or of another network.
    """
    folder = graphs_folder(script, config, cfg, weights)
    names = (TEMPLATE, SEARCH) if script == MASK_SCRIPT else (TEMPLATE, SEARCH, REGIONS)

    def complete() -> bool:
        return all((folder / name).is_file() for name in names)

    if complete():
        return folder
    try:
        with locked(folder):  # of several processes that start together one exports
            if not complete():
                from lib.models.export import export_graphs

                export_graphs(load_network(script, cfg, weights), cfg, folder)
    except OSError as error:
        reason = f"cannot write the graphs to {folder}: {error.strerror or error}"
        raise UserError(f"{reason}; the engine torch needs none") from error
    return folder


def graphs_folder(script: str, config: str | Path, cfg: EasyDict, weights: Path) -> Path:
    """The folder that keeps the exported graphs of a checkpoint.

    The folder's name stands for the graphs' version, the checkpoint's content, and the options the network depends on.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    data = cfg.DATA
    options = [data.TEMPLATE, data.SEARCH.SIZE, data.MEAN, data.STD, option(cfg, "TEST.WINDOW")]
    digest = hashlib.sha256(json.dumps([VERSION, cfg.MODEL, *options], sort_keys=True).encode())
    try:
        digest.update(weights.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {weights}: {error.strerror}") from error
    root = workspace("test").checkpoint_dir / "onnx" / script / experiment_name(config)
    return root / digest.hexdigest()[:20]


def load_network(script: str, cfg: EasyDict, path: Path) -> "nn.Module":
    """The network of a script (`alpha_refine`, too) with the weights of a checkpoint, on the CPU.

    Raises:
        UserError: the checkpoint is missing, damaged or of another network.
    """
    from lib.models import build_model
    from lib.models.alpha_refine import AlphaRefine
    from lib.models.inference import fold_repvgg
    from lib.utils.checkpoint import load_checkpoint, load_state

    model = AlphaRefine(cfg) if script == MASK_SCRIPT else build_model(script, cfg)
    weights = load_checkpoint(path)
    if any("rbr_reparam" in key for key in weights["net"]):
        fold_repvgg(model)  # the file holds a network that was folded before it was saved
    load_state(model, weights, path)
    return model


def tracker_of(script: str) -> str:
    """The tracker that runs networks of a script.

    Raises:
        UserError: there is none.
    """
    if script not in SCRIPTS.values():
        raise UserError(f"no tracker runs networks of '{script}'; valid: {', '.join(SCRIPTS.values())}")
    return next(name for name, its_script in SCRIPTS.items() if its_script == script)


def weights_path(
    name: str, config: str, checkpoint: str | Path | None = None, overrides: Sequence[str] = ()
) -> Path | None:
    """The weights a tracker is made with; None for a tracker without weights.

    They are `checkpoint`, or what training left, or what comes with the configuration.

    Raises:
        UserError: an unknown configuration, or there are no weights.
    """
    if name not in SCRIPTS:
        return None
    if checkpoint is not None:
        path = Path(checkpoint)
        kept = workspace("test").network_dir / path
        return kept if not path.exists() and kept.is_file() else path
    script = SCRIPTS[name]
    folder = workspace("test").checkpoint_dir / "train" / script / experiment_name(config)
    wanted = folder / epoch_name(_NETWORKS[script], load_config(script, config, overrides).TEST.EPOCH)
    if wanted.is_file():
        return wanted
    try:
        newest = find_checkpoint(folder, _NETWORKS[script])
        print(f"{wanted.name} is missing; using the newest: {newest}")
        return newest
    except CheckpointError:
        shipped = shipped_weights(script, config)
        if not shipped.is_file():
            raise
        return shipped


def shipped_weights(script: str, config: str | Path) -> Path:
    """Where trained weights lie that come with a configuration, if any: beside it.

    Raises:
        ConfigError: an unknown configuration.
    """
    return config_path(script, config).with_suffix(".pth.tar")


def update_intervals(cfg: EasyDict, dataset_name: str) -> list[int]:
    """Frames between replacements of each dynamic template on a test set.

    A test set whose intervals are of another number of templates than the network's, or that has none, has those of
    training.
    """
    by_set = {name.upper(): intervals for name, intervals in cfg.TEST.UPDATE_INTERVALS.items()}
    intervals = by_set.get(dataset_name.upper(), [])
    return intervals if len(intervals) == cfg.DATA.TEMPLATE.NUMBER - 1 else cfg.DATA.MAX_SAMPLE_INTERVAL
