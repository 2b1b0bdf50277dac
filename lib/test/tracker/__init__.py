"""Trackers by name."""

from pathlib import Path

from easydict import EasyDict
from torch import nn

from lib.config import load_config
from lib.config.loader import config_path, experiment_name
from lib.models import NETWORKS, build_model
from lib.models.repvgg import fold_repvgg
from lib.test.tracker.classic import CLASSIC, ClassicTracker
from lib.test.tracker.engines import choose_engine, create_engine, engine_device
from lib.test.tracker.stark import SpatioTemporalTracker, StarkTracker
from lib.test.tracker.still import StillTracker
from lib.utils.checkpoint import CheckpointError, epoch_name, find_checkpoint, load_checkpoint, load_state
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

# Tracker -> the script whose experiments it reads.
SCRIPTS = {
    "stark_s": "stark_s",
    "stark_st": "stark_st2",
    "stark_lightning_X_trt": "stark_lightning_X_trt",
}


def create_tracker(
    name: str,
    config: str,
    checkpoint: str | Path | None = None,
    dataset_name: str = "",
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
) -> StarkTracker | StillTracker | ClassicTracker:
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

    Returns:
        An object with `initialize(image_rgb, {"init_bbox": [x, y, w, h]})` and
        `track(image_rgb) -> {"target_bbox": [x, y, w, h], "conf_score": float}` (the score only where there is one).

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
    target = engine_device(chosen, device)
    model = load_network(SCRIPTS[name], cfg, weights_path(name, config, checkpoint))
    runner = create_engine(chosen, model, cfg, target, graphs_dir(SCRIPTS[name], config), precision)
    if name == "stark_st":
        return SpatioTemporalTracker(runner, cfg, update_interval(cfg, dataset_name))
    return StarkTracker(runner, cfg)


def load_network(script: str, cfg: EasyDict, path: Path) -> nn.Module:
    """The network of a script with the weights of a checkpoint, on the CPU.

    Raises:
        UserError: the checkpoint is missing, damaged or of another network.
    """
    model = build_model(script, cfg)
    weights = load_checkpoint(path)
    if any("rbr_reparam" in key for key in weights["net"]):
        fold_repvgg(model)  # the file holds a network that was folded before it was saved
    load_state(model, weights, path)
    return model


def graphs_dir(script: str, config: str | Path) -> Path:
    """Where the exported graphs of a configuration are kept, a folder for each state of its weights."""
    return workspace("test").checkpoint_dir / "onnx" / script / experiment_name(config)


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
        return _trained_checkpoint(script, experiment_name(config), NETWORKS[script].__name__, epoch)
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
