"""Check results on GOT-10k's test set and pack them for its server; the result files stay as they are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from lib.test.evaluation.submission import GOT10K, main
from lib.utils.errors import run_command

if __name__ == "__main__":
    run_command(lambda: main(GOT10K, __doc__))
