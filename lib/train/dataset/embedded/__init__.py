"""The embedded default: small generated videos for training and testing without a download.

Textured objects move, turn, change size and deform over moving backgrounds, pass behind
obstacles and past look-alikes, and leave the image; the boxes are exact. Everything follows from a seed.
"""

from lib.train.dataset.embedded.writer import EmbeddedSpec, generate, render_sequence

__all__ = ["EmbeddedSpec", "generate", "render_sequence"]
