"""Count the operations and parameters of STARK-S or STARK-ST, and time its parts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.profiling.profile import main
from lib.utils.errors import run_command

if __name__ == "__main__":
    run_command(lambda: main(__doc__, "stark_s", "baseline"))
