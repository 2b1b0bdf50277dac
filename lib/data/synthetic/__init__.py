"""Generated videos: training and testing without a download.

Textured objects move, turn, change size and deform over moving backgrounds, pass behind obstacles and past
look-alikes, and leave the image; the boxes are exact. Everything follows from a seed.
"""

from lib.data.synthetic.photographs import Materials
from lib.data.synthetic.writer import DEFAULT_SETS, EmbeddedSpec, ensure_embedded, generate, is_whole

__all__ = ["DEFAULT_SETS", "EmbeddedSpec", "Materials", "ensure_embedded", "generate", "is_whole"]
