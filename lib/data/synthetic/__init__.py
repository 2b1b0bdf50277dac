"""The embedded default: small generated videos for training and testing without a download.

Textured objects move, turn, change size and deform over moving backgrounds, pass behind
obstacles and past look-alikes, and leave the image; the boxes are exact. Everything follows from a seed.
"""

from lib.data.synthetic.materials import Materials
from lib.data.synthetic.writer import EmbeddedSpec, generate, render_sequence

# What is generated where nobody asks for anything else. Split -> arguments of `generate`.
DEFAULT_SETS = {
    "train": {"seed": 1, "sequences": 150, "frames": 48},
    "test": {"seed": 2, "sequences": 12, "frames": 70},
}

__all__ = ["DEFAULT_SETS", "EmbeddedSpec", "Materials", "generate", "render_sequence"]
