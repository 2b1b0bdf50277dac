"""Arguments that several commands share."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from ...utils.errors import UserError

_SHARED = {
    "--checkpoint": {"help": "checkpoint file; default: that of the configuration"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda, cuda:N or mps"},
    "--engine": {
        "default": "auto",
        "help": "torch, compile, onnx, openvino or tensorrt; auto (default): the fastest that is installed",
    },
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


def command_parser(description: str | None, **options: object) -> argparse.ArgumentParser:
    """A parser whose help keeps the lines of its description and epilog."""
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=form, **options)


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add arguments by their names, such as `--engine`."""
    for name in names:
        parser.add_argument(name, **_SHARED[name])


def refuse_to_replace(paths: Iterable[Path]) -> None:
    """For commands that replace existing files only with `--overwrite`.

    Raises:
        UserError: one of the files exists.
    """
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists; add --overwrite to replace it, or give --output another folder")
