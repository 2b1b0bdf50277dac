"""Arguments that several commands share."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from lib.utils.errors import UserError


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """What computes the network, and how; see `lib.test.tracker.create_tracker`."""
    parser.add_argument(
        "--engine",
        default="auto",
        help="torch, compile, onnx, openvino or tensorrt; auto (default) is the fastest that is installed, and is said",
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        help="fp32 (default); bf16 and int8 (openvino), bf16 and on GPUs fp16 (torch, compile, tensorrt) are faster "
        "and differ a little",
    )


def refuse_to_replace(paths: Iterable[Path]) -> None:
    """For commands that write where `--output` says, and replace what is there with `--overwrite` alone.

    Raises:
        UserError: one of the files is there.
    """
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists; add --overwrite to replace it, or give --output another folder")
