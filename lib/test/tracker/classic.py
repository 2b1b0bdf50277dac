"""Trackers of OpenCV to compare with, and one that never moves."""

import copy
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ...data.images import to_rgb8
from ...utils.errors import UserError


class Baseline:
    """A tracker without a network."""

    _box: list[float] | None = None  # xywh in pixels; None before `initialize`

    def initialize(self, image: np.ndarray, info: dict) -> None:
        self._box = [float(value) for value in info["init_bbox"]]

    def spawn(self) -> "Baseline":
        other = copy.copy(self)
        other._box = None
        return other

    def _require_object(self) -> None:
        if self._box is None:
            raise UserError("the tracker has no object yet: call initialize(image, {'init_bbox': [x, y, w, h]}) first")


# Name -> OpenCV's class, and what its parameters call the ONNX files of its network.
_OPENCV = {
    "csrt": ("TrackerCSRT", ()),
    "kcf": ("TrackerKCF", ()),
    "nano": ("TrackerNano", ("backbone", "neckhead")),
    "vit": ("TrackerVit", ("net",)),
}


class ClassicTracker(Baseline):
    """CSRT (Lukežič et al., CVPR 2017), KCF (Henriques et al., PAMI 2015), NanoTrack or VitTrack of OpenCV.

    `files` are ONNX files: of `nano` backbone and head, of `vit` one. Raises UserError where this OpenCV has no such
    tracker, or cannot read them.
    """

    def __init__(self, name: str, files: Sequence[str] = ()) -> None:
        kind, fields = _OPENCV[name]
        self._kind, self._scores = getattr(cv2, kind, None), bool(fields)
        if self._kind is None:
            raise UserError(
                f"this OpenCV has no {kind}: pip uninstall opencv-python opencv-python-headless; "
                "pip install opencv-contrib-python-headless"
            )
        if len(files) != len(fields):
            raise UserError(f"the tracker {name} takes {len(fields)} ONNX files, not {len(files)}: --{name} FILE ...")
        self._parameters = getattr(cv2, f"{kind}_Params")()
        for field, path in zip(fields, files, strict=True):
            if not Path(path).is_file():
                raise UserError(f"{path}, of the tracker {name}, is missing")
            setattr(self._parameters, field, path)
        if files:
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns for each tracker
            self._create()

    def _create(self) -> object:
        try:
            return self._kind.create(self._parameters)
        except cv2.error as error:
            raise UserError(f"OpenCV cannot read the network of {self._kind.__name__}: {error.err}") from error

    def initialize(self, image: np.ndarray, info: dict) -> None:
        """Start on a frame; raises UserError where the box shows nothing of the image, or too little."""
        image = to_rgb8(image)
        height, width = image.shape[:2]
        x, y, w, h = (round(float(value)) for value in info["init_bbox"])
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + max(w, 1), width), min(y + max(h, 1), height)
        if right <= left or bottom <= top:
            raise UserError(f"box {[x, y, w, h]} lies outside the {width}x{height} image")
        self._tracker = self._create()
        try:
            self._tracker.init(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (left, top, right - left, bottom - top))
        except cv2.error as error:
            size = f"{right - left}x{bottom - top}"
            raise UserError(f"OpenCV's tracker cannot start on a box of {size} pixels: {error.err}") from error
        super().initialize(image, info)

    def track(self, image: np.ndarray) -> dict:
        """Give `target_bbox`, xywh in pixels, and `conf_score`: 0 where the object is lost and the last box stays.

        Elsewhere it is the network's score, or 1: `conf_kind` is then "score" or "found".
        """
        self._require_object()
        found, box = self._tracker.update(cv2.cvtColor(to_rgb8(image), cv2.COLOR_RGB2BGR))
        if found:
            self._box = [float(value) for value in box]
        sure = self._tracker.getTrackingScore() if found and self._scores else found
        kind = "score" if self._scores else "found"
        return {"target_bbox": list(self._box), "conf_score": float(sure), "conf_kind": kind}


class StillTracker(Baseline):
    """Reports the first box for every frame: the score that a test set gives to a tracker that does nothing."""

    def track(self, image: np.ndarray) -> dict:
        self._require_object()
        return {"target_bbox": list(self._box)}


# Name -> class; those of OpenCV also take their name and files.
BASELINES = {**dict.fromkeys(_OPENCV, ClassicTracker), "still": StillTracker}
