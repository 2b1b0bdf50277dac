"""Arguments of several commands."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from lib.utils.errors import UserError


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --engine, --precision and --opts; see `lib.test.tracker.create_tracker`."""
    engines = "torch, compile, onnx, openvino or tensorrt; auto (default): the fastest that is installed"
    parser.add_argument("--engine", default="auto", help=engines)
    precisions = (
        "fp32 (default); bf16 and int8 (openvino), bf16 and on GPUs fp16 (torch, compile, tensorrt) are faster and "
        "differ a little"
    )
    parser.add_argument("--precision", default="fp32", help=precisions)
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add `--opts KEY=VALUE …`, as `overrides`; see `lib.config.load_config`."""
    overrides = "options of the configuration, such as TEST.SEARCH_FACTOR=4.5"
    parser.add_argument("--opts", dest="overrides", nargs="+", default=(), metavar="KEY=VALUE", help=overrides)


def refuse_to_replace(paths: Iterable[Path]) -> None:
    """For commands that replace existing files only with `--overwrite`.

    Raises:
        UserError: one of the files exists.
    """
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists; add --overwrite to replace it, or give --output another folder")
