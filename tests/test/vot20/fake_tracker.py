"""Trackers that need no network, for the toolkit's commands."""

from lib.test.vot20.stark_vot20 import serve
from lib.utils.errors import run_command


class MovingTracker:
    """Moves one pixel right and down a frame, as the drawn objects do, and grows less sure."""

    def initialize(self, image, info):
        self.box, self.confidence = list(info["init_bbox"]), 1.0

    def track(self, image):
        self.box = [self.box[0] + 1, self.box[1] + 1, *self.box[2:]]
        self.confidence -= 0.05
        return {"target_bbox": list(self.box), "conf_score": self.confidence}


def main(kind):
    run_command(lambda: serve(MovingTracker, kind, "moving"))
