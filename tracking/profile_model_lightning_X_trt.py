import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.commands import run_script

if __name__ == "__main__":
    run_script("profile_model_lightning_X_trt")
