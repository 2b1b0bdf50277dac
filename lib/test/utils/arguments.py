"""Arguments that several commands share."""

import argparse


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
