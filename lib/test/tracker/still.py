"""The baseline that never moves: what a test set gives away to a tracker that does nothing."""

import numpy as np


class StillTracker:
    """Reports the first box for every frame; the interface is that of every tracker here."""

    def initialize(self, image: np.ndarray, info: dict) -> None:
        """Take the box `info["init_bbox"]`, xywh in pixels; the (H, W, 3) RGB image is not looked at."""
        self._box = [float(value) for value in info["init_bbox"]]

    def track(self, image: np.ndarray) -> dict:
        """Give `{"target_bbox": [x, y, w, h]}`, the first box."""
        return {"target_bbox": list(self._box)}
