"""Export the template's side of STARK-Lightning to ONNX, and compare onnxruntime with PyTorch."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.profiling.onnx_check import main
from lib.utils.errors import run_command

if __name__ == "__main__":
    run_command(lambda: main(__doc__, "template"))
