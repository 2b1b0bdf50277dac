"""The photographs that installed packages ship: the raw material of textures and backgrounds.

Nothing is downloaded. The two splits share no photograph, so a test sequence shows
material that no training sequence has shown.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from lib.data.images import read_image
from lib.utils.errors import UserError

Split = Literal["train", "test"]

_SKIMAGE = ("skimage", "data", "scikit-image")
_MATPLOTLIB = ("matplotlib", "mpl-data/sample_data", "matplotlib")

# split -> (package, folder in the package, name to install), file
PHOTOGRAPHS: dict[Split, tuple[tuple[tuple[str, str, str], str], ...]] = {
    "train": (
        (_SKIMAGE, "astronaut.png"),
        (_SKIMAGE, "coffee.png"),
        (_SKIMAGE, "motorcycle_left.png"),
        (_SKIMAGE, "camera.png"),
        (_SKIMAGE, "brick.png"),
        (_SKIMAGE, "grass.png"),
        (_SKIMAGE, "ihc.png"),
        (_SKIMAGE, "hubble_deep_field.jpg"),
        (_SKIMAGE, "text.png"),
        (_SKIMAGE, "color.png"),
    ),
    "test": (
        (_SKIMAGE, "chelsea.png"),
        (_SKIMAGE, "rocket.jpg"),
        (_SKIMAGE, "gravel.png"),
        (_SKIMAGE, "coins.png"),
        (_SKIMAGE, "retina.jpg"),
        (_SKIMAGE, "moon.png"),
        (_SKIMAGE, "clock_motion.png"),
        (_MATPLOTLIB, "grace_hopper.jpg"),
    ),
}

_LONGEST_SIDE = 640


@lru_cache(maxsize=2)
def load_photographs(split: Split) -> tuple[np.ndarray, ...]:
    """The photographs of a split, each (H, W, 3) uint8 RGB with a longest side of at most 640; do not write to them.

    Raises:
        UserError: a package that ships them is missing or incomplete.
    """
    return tuple(_load(source, name) for source, name in PHOTOGRAPHS[split])


def _load(source: tuple[str, str, str], name: str) -> np.ndarray:
    package, folder, distribution = source
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the embedded data need photographs of {distribution}: install it (pip install {distribution})"
        )
    path = Path(spec.submodule_search_locations[0]) / folder / name
    if not path.is_file():
        raise UserError(f"{distribution} is installed without {path}: reinstall it (pip install {distribution})")
    image = read_image(path)
    scale = _LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image.setflags(write=False)
    return image
