"""Trackers by name. PyTorch is loaded only where it is needed: on a CPU, graphs that are there run without it."""

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from easydict import EasyDict

from lib.config import load_config
from lib.config.loader import config_path, experiment_name
from lib.test.tracker.classic import CLASSIC, ClassicTracker
from lib.test.tracker.engines import Engine, choose_engine, create_engine, device_kind, engine_device, graph_engine
from lib.test.tracker.stark import SpatioTemporalTracker, StarkTracker
from lib.test.tracker.still import StillTracker
from lib.utils.checkpoint_files import CheckpointError, epoch_name, find_checkpoint
from lib.utils.errors import UserError
from lib.utils.files import write_text
from lib.utils.graph_files import VERSION, GraphFiles
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
            exported the first time, and kept by the checkpoints; `auto` is the fastest that is installed, and is said.
        precision: `fp32`, `bf16`, `fp16` or `int8`; `lib.test.tracker.engines.PRECISIONS_OF` says which engine knows
            which.

    Raises:
        UserError: an unknown name, configuration, device, engine or precision; a checkpoint that is
            missing, damaged or of another network.
    """
    if name == "still":
        return StillTracker()
    if name in CLASSIC:
        return ClassicTracker(name)
    if name not in SCRIPTS:
        raise UserError(f"unknown tracker '{name}'; valid: {', '.join([*SCRIPTS, *CLASSIC, 'still'])}")
    chosen = choose_engine(engine, device, precision)
    if engine == "auto":
        print(f"engine: {chosen} {precision}, the fastest that is installed", flush=True)
    cfg = load_config(SCRIPTS[name], config)
    runner = _create_engine(
        SCRIPTS[name], config, cfg, weights_path(name, config, checkpoint), chosen, device, precision
    )
    if name == "stark_st":
        return SpatioTemporalTracker(runner, cfg, update_interval(cfg, dataset_name))
    return StarkTracker(runner, cfg)


def _create_engine(
    script: str, config: str, cfg: EasyDict, weights: Path, engine: str, device: str, precision: str
) -> Engine:
    """The engine with the weights of a checkpoint; on a CPU with graphs that an earlier call left, without PyTorch."""
    root = graphs_dir(script, config)
    note = root / f"{_key(script, cfg, weights)}.txt"
    if engine in ("onnx", "openvino") and note.is_file() and device_kind(device) == "cpu":
        graphs = GraphFiles(root / note.read_text(encoding="utf-8"))
        if graphs.complete:
            return graph_engine(engine, graphs, None, precision)
    target = engine_device(engine, device)
    model = load_network(script, cfg, weights)
    made = create_engine(engine, model, cfg, target, root, precision)
    if engine not in ("torch", "compile"):
        from lib.models.export import fingerprint

        try:
            write_text(note, fingerprint(model, cfg))
        except OSError as error:  # graphs that others left in a place of theirs
            print(f"{root} cannot be written ({error.strerror}): graphs are found through PyTorch, which is slower")
    return made


def _key(script: str, cfg: EasyDict, weights: Path) -> str:
    """Names a checkpoint's content, and all that decides with it what its graphs are."""
    try:
        digest = hashlib.sha256(weights.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {weights}: {error.strerror}") from error
    digest.update(json.dumps([VERSION, script, cfg, metadata.version("torch")], sort_keys=True).encode())
    return digest.hexdigest()[:20]


def load_network(script: str, cfg: EasyDict, path: Path) -> "nn.Module":
    """The network of a script with the weights of a checkpoint, on the CPU.

    Raises:
        UserError: the checkpoint is missing, damaged or of another network.
    """
    from lib.models import build_model
    from lib.models.inference import fold_repvgg
    from lib.utils.checkpoint import load_checkpoint, load_state

    model = build_model(script, cfg)
    weights = load_checkpoint(path)
    if any("rbr_reparam" in key for key in weights["net"]):
        fold_repvgg(model)  # the file holds a network that was folded before it was saved
    load_state(model, weights, path)
    return model


def graphs_dir(script: str, config: str | Path) -> Path:
    """Where the exported graphs of a configuration are kept, a folder for each state of its weights."""
    return workspace("test").checkpoint_dir / "onnx" / script / experiment_name(config)


def tracker_of(script: str) -> str:
    """The tracker that runs networks of a script.

    Raises:
        UserError: there is none.
    """
    if script not in SCRIPTS.values():
        raise UserError(f"no tracker runs networks of '{script}'; valid: {', '.join(SCRIPTS.values())}")
    return next(name for name, its_script in SCRIPTS.items() if its_script == script)


def weights_path(name: str, config: str, checkpoint: str | Path | None = None) -> Path | None:
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
    epoch = load_config(script, config).TEST.EPOCH
    try:
        return _trained_checkpoint(script, experiment_name(config), _NETWORKS[script], epoch)
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


def update_interval(cfg: EasyDict, dataset_name: str) -> int:
    """Frames between replacements of the dynamic template on a test set."""
    by_set = {name.upper(): intervals for name, intervals in cfg.TEST.UPDATE_INTERVALS.items()}
    return int(by_set.get(dataset_name.upper(), cfg.DATA.MAX_SAMPLE_INTERVAL)[0])


def _trained_checkpoint(script: str, config: str, net_type: str, epoch: int) -> Path:
    """The checkpoint that training leaves: the configured epoch, else the newest, which is said aloud."""
    folder = workspace("test").checkpoint_dir / "train" / script / config
    wanted = folder / epoch_name(net_type, epoch)
    if wanted.is_file():
        return wanted
    newest = find_checkpoint(folder, net_type, None)
    print(f"{wanted.name} is not there; using the newest: {newest}")
    return newest
