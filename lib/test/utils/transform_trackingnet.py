"""Check results on TrackingNet's test set and pack them for its server; the result files stay as they are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lib.test.evaluation.submission import TRACKINGNET, main
from lib.utils.errors import run_command

if __name__ == "__main__":
    run_command(lambda: main(TRACKINGNET, __doc__))
