"""Write a trained network for an inference engine, and compare it with PyTorch on real crops.

    python tracking/export.py --script stark_lightning_X_trt --config mini --format openvino --precision int8

writes two graphs, one for a template and one for the search region, where trackers look for them, or to `--output`.
Inputs are pixels (uint8 RGB, height x width x 3), outputs boxes as fractions of the search region. int8 is calibrated
on clips of a package, or better on frames like yours: `--calibration folder:/path/to/sequences`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.tracker.engines import PRECISIONS
from lib.test.tracker.export import FORMATS, export
from lib.test.utils.arguments import add_shared, command_parser
from lib.utils.errors import run_command


def main() -> int:
    """Export a network; 1 where its fp32 boxes differ from PyTorch's."""
    parser = command_parser(__doc__)
    parser.add_argument("--script", required=True, help="stark_s, stark_st2, stark_lightning_X_trt or alpha_refine")
    parser.add_argument("--config", required=True, help="name of a configuration under experiments/, or a path")
    parser.add_argument("--format", default="onnx", choices=FORMATS)
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--output", type=Path, help="folder for the files; default: where trackers look for them")
    parser.add_argument("--calibration", metavar="DATASET", help="test set that int8 is calibrated on")
    parser.add_argument("--frames", metavar="DATASET", help="test set with the frames to compare on")
    parser.add_argument("--device", default="auto", help="CUDA device that TensorRT builds for")
    add_shared(parser, "--checkpoint", "--overwrite", "--opts")
    given = vars(parser.parse_args())
    if given["calibration"] is not None and given["precision"] != "int8":
        parser.error("--calibration is for --precision int8")
    return export(**given)


if __name__ == "__main__":
    run_command(main)
