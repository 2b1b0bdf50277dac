"""The commands of this checkout, for the scripts of this folder, wherever they are started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.commands import run_script  # noqa: F401 - the scripts import it from here
