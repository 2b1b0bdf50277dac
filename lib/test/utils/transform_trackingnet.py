"""Check results on TrackingNet's test set and pack them for its server; the result files stay as they are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lib.test.utils.submission import TRACKINGNET
from lib.test.utils.transform_command import transform
from lib.utils.errors import run_command


def main() -> None:
    """Parse the arguments and pack."""
    transform(TRACKINGNET, __doc__)


if __name__ == "__main__":
    run_command(main)
