"""Trackers of OpenCV to compare with, and one that never moves."""

import copy
from functools import partial

import cv2
import numpy as np

from ...data.images import to_rgb8
from ...utils.errors import UserError


class Baseline:
    """A tracker without a network."""

    _box: list[float] | None = None  # xywh in pixels; None before `initialize`

    def initialize(self, image: np.ndarray, info: dict) -> None:
        """Start on a frame, (H, W, 3) RGB, with the box `info["init_bbox"]`, xywh in pixels."""
        self._box = [float(value) for value in info["init_bbox"]]

    def spawn(self) -> "Baseline":
        """Another object's tracker."""
        other = copy.copy(self)
        other._box = None
        return other

    def _require_object(self) -> None:
        if self._box is None:
            raise UserError("the tracker has no object yet: call initialize(image, {'init_bbox': [x, y, w, h]}) first")


class ClassicTracker(Baseline):
    """A tracker of OpenCV, by the name of its class; raises UserError where this OpenCV has no such tracker."""

    def __init__(self, name: str) -> None:
        self._class = getattr(cv2, name, None)
        if self._class is None:
            raise UserError(
                f"this OpenCV has no {name}: pip uninstall opencv-python opencv-python-headless; "
                "pip install opencv-contrib-python-headless"
            )

    def initialize(self, image: np.ndarray, info: dict) -> None:
        """As `Baseline.initialize`; raises UserError where the box shows nothing of the image, or too little."""
        image = to_rgb8(image)
        height, width = image.shape[:2]
        x, y, w, h = (round(float(value)) for value in info["init_bbox"])
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + max(w, 1), width), min(y + max(h, 1), height)
        if right <= left or bottom <= top:
            raise UserError(f"box {[x, y, w, h]} lies outside the {width}x{height} image")
        self._tracker = self._class.create()
        try:
            self._tracker.init(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (left, top, right - left, bottom - top))
        except cv2.error as error:
            size = f"{right - left}x{bottom - top}"
            raise UserError(f"OpenCV's tracker cannot start on a box of {size} pixels: {error.err}") from error
        super().initialize(image, info)

    def track(self, image: np.ndarray) -> dict:
        """The box `target_bbox`; `conf_score` is 1, or 0 where the object is lost and the last box stays."""
        self._require_object()
        found, box = self._tracker.update(cv2.cvtColor(to_rgb8(image), cv2.COLOR_RGB2BGR))
        if found:
            self._box = [float(value) for value in box]
        return {"target_bbox": list(self._box), "conf_score": float(found), "conf_kind": "found"}


class StillTracker(Baseline):
    """Reports the first box for every frame: the score that a test set gives to a tracker that does nothing."""

    def track(self, image: np.ndarray) -> dict:
        """Give `{"target_bbox": [x, y, w, h]}`, the first box."""
        self._require_object()
        return {"target_bbox": list(self._box)}


# Name -> class; CSRT (Lukežič et al., CVPR 2017), KCF (Henriques et al., PAMI 2015).
BASELINES = {
    "csrt": partial(ClassicTracker, "TrackerCSRT"),
    "kcf": partial(ClassicTracker, "TrackerKCF"),
    "still": StillTracker,
}
