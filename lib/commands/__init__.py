"""The commands: `stark NAME`; the scripts of `tracking/` are the same commands under their published names.

Each is a function that adds its arguments to a parser, parses and runs; its docstring is the command's help. A
command's module is imported when it runs: tracking needs no PyTorch.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import getdoc
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..config import closest
from ..utils.errors import UserError, run_command
from ..utils.workspace import IN_CHECKOUT


class Command(NamedTuple):
    """Where a command is defined."""

    module: str  # of this package
    function: str
    summary: str = ""  # a line of `stark --help`


COMMANDS = {
    "demo": Command("tracking", "demo", "track the sample clip with the weights that are shipped"),
    "track": Command("tracking", "track", "track an object in a video, a folder of images or a camera's picture"),
    "web": Command("web", "web", "track in the browser"),
    "train": Command("training", "train", "train a tracker, or continue a stopped training"),
    "test": Command("tracking", "test", "run a tracker over a test set"),
    "analyze": Command("analysis", "analyze", "score result files: tables, plots, one HTML page"),
    "compare": Command("analysis", "compare", "run and score trackers side by side, OpenCV's too"),
    "export": Command("networks", "export", "write a network for onnxruntime, OpenVINO or TensorRT"),
    "profile": Command("networks", "profile", "count operations and time a network's parts"),
    "release": Command("networks", "release", "average checkpoints into weights to share"),
    "data pack": Command("data", "pack", "pack a training set into one LMDB"),
    "data check": Command("training", "check_data", "open data sets, read of their sequences, say what is wrong"),
    "data convert": Command("data", "convert", "convert annotations of CVAT, Label Studio, YOLO, MOT, DAVIS, and back"),
    "data synthesize": Command("data", "synthesize", "generate small videos to train and test on"),
    "info": Command("tracking", "info", "versions, devices, engines and weights found"),
}
# Package: what installs it, where that is not `train`.
_EXTRAS = {"fastapi": "web", "uvicorn": "web", "av": "web", "vot": "vot", "openvino": "engines", "nncf": "engines"}
# Of scripts without a command of `stark`.
_SCRIPTS = {
    "analysis_results_ITP": Command("analysis", "analyze_runs"),
    "create_default_local_file": Command("data", "local_files"),
    "profile_model_lightning_X_trt": Command("networks", "profile_lightning"),
    "ORT_lightning_X_trt_backbone_bottleneck_pe": Command("networks", "check_template_graph"),
    "ORT_lightning_X_trt_complete": Command("networks", "check_search_graph"),
}

_SHARED: dict[str, dict[str, Any]] = {
    "--checkpoint": {"help": "checkpoint file; default: that of the configuration"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda, cuda:N or mps"},
    "--engine": {"default": "auto", "help": "torch, compile, onnx, openvino, tensorrt or auto (default), the fastest"},
    "--precision": {
        "default": "fp32",
        "help": "fp32 (default); bf16 and int8 (openvino), bf16 and on GPUs fp16 (torch, compile, tensorrt) are faster "
        "and differ a little",
    },
    "--opts": {
        **{"dest": "overrides", "nargs": "+", "default": (), "metavar": "KEY=VALUE"},
        "help": "options of the configuration, such as TEST.SEARCH_FACTOR=4.5",
    },
    "--threads": {"type": int, "default": 0, "help": "worker processes; 0 tracks in this one"},
    "--results_dir": {"type": Path, "help": "folder of results; default: test/tracking_results"},
    "--overwrite": {"action": "store_true", "help": "replace existing files"},
}


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add arguments that several commands share by their names, such as `--engine`."""
    for name in names:
        parser.add_argument(name, **_SHARED[name])


def run_script(name: str) -> None:
    """Run a command as a script of `tracking/`, and leave the process with its exit status."""
    run_command(lambda: _run((_SCRIPTS | COMMANDS)[name], f"python {sys.argv[0]}", sys.argv[1:]))


def main() -> None:
    """The program `stark`: the command that its first words name."""
    words, groups = sys.argv[1:3], {name.split()[0] for name in COMMANDS if " " in name}
    name = " ".join(words if words and words[0] in groups else words[:1])
    if name == "--version":
        print(f"stark-tracker {__version__}")
    elif name in COMMANDS:
        run_command(lambda: _run(COMMANDS[name], f"stark {name}", sys.argv[1 + len(name.split()) :]))
    else:
        run_command(lambda: _help(words, groups))


def _run(command: Command, program: str, arguments: Sequence[str]) -> int | None:
    try:
        function = getattr(import_module(f".{command.module}", __package__), command.function)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __package__.partition(".")[0]):
            raise  # a bug
        extra = _EXTRAS.get(package, "train")
        here = "bash install_pytorch17.sh" if IN_CHECKOUT else f"pip install 'stark-tracker[{extra}]'"
        raise UserError(f"`{program}` needs the package {package}: {here}") from error
    form = argparse.RawDescriptionHelpFormatter
    return function(argparse.ArgumentParser(program, description=getdoc(function), formatter_class=form), arguments)


def _help(words: Sequence[str], groups: set[str]) -> None:
    """List the commands, or those of a group such as `data`; a UserError for words that name no command."""
    group = [word for word in words[:1] if word in groups]
    if words[len(group) :] not in ([], ["-h"], ["--help"]):
        raise UserError(f"stark has no command '{' '.join(words)}'; {closest(' '.join(words), list(COMMANDS))}")
    lines = [f"  {name:<17}{each.summary}" for name, each in COMMANDS.items() if group in ([], name.split()[:1])]
    print("\n".join(["usage: stark COMMAND [options]", "", *lines, "", "stark COMMAND --help says more."]))
