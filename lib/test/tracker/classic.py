"""Trackers without a network, to compare with: two of OpenCV, and one that never moves."""

from functools import partial

import cv2
import numpy as np

from lib.data.images import to_rgb8
from lib.utils.errors import UserError

_OPENCV = {"csrt": "TrackerCSRT", "kcf": "TrackerKCF"}


class ClassicTracker:
    """CSRT (Lukežič et al., CVPR 2017) or KCF (Henriques et al., PAMI 2015) of OpenCV with its usual parameters.

    Args:
        name: `csrt` or `kcf`.

    Raises:
        UserError: this OpenCV has no such tracker.
    """

    def __init__(self, name: str) -> None:
        self._kind = getattr(cv2, _OPENCV[name], None)
        if self._kind is None:
            raise UserError(
                f"this OpenCV has no {name.upper()}: pip uninstall opencv-python opencv-python-headless; "
                "pip install opencv-contrib-python-headless"
            )

    def initialize(self, image: np.ndarray, info: dict) -> None:
        """Start on a frame, (H, W, 3) RGB, with the box `info["init_bbox"]`, xywh in pixels.

        Raises:
            UserError: the box shows nothing of the image.
        """
        image = to_rgb8(image)
        height, width = image.shape[:2]
        x, y, w, h = (round(float(value)) for value in info["init_bbox"])
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + max(w, 1), width), min(y + max(h, 1), height)
        if right <= left or bottom <= top:
            raise UserError(f"box {[x, y, w, h]} lies outside the {width}x{height} image")
        self._tracker = self._kind.create()
        try:
            self._tracker.init(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (left, top, right - left, bottom - top))
        except cv2.error as error:
            size = f"{right - left}x{bottom - top}"
            raise UserError(f"OpenCV's tracker cannot start on a box of {size} pixels: {error.err}") from error
        self._box = [float(value) for value in info["init_bbox"]]

    def track(self, image: np.ndarray) -> dict:
        """Give `target_bbox`, xywh in pixels, and `conf_score`: 0 where the object is lost and the last box stays."""
        found, box = self._tracker.update(cv2.cvtColor(to_rgb8(image), cv2.COLOR_RGB2BGR))
        if found:
            self._box = [float(value) for value in box]
        return {"target_bbox": list(self._box), "conf_score": float(found)}


class StillTracker:
    """Reports the first box for every frame: the score that a test set gives to a tracker that does nothing."""

    def initialize(self, image: np.ndarray, info: dict) -> None:
        """Take the box `info["init_bbox"]`, xywh in pixels; the (H, W, 3) RGB image is not used."""
        self._box = [float(value) for value in info["init_bbox"]]

    def track(self, image: np.ndarray) -> dict:
        """Give `{"target_bbox": [x, y, w, h]}`, the first box."""
        return {"target_bbox": list(self._box)}


# Name -> what makes the tracker.
BASELINES = {"csrt": partial(ClassicTracker, "csrt"), "kcf": partial(ClassicTracker, "kcf"), "still": StillTracker}
