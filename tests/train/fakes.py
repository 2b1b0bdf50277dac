"""Small data sets in memory, and what is seen in their crops."""

import numpy as np

from lib.data.dataset import SequenceInfo, TrackingDataset
from lib.data.images import ImageReadError, Picture


def extent(mask):
    """[x1, y1, x2, y2] of the true pixels of a mask (H, W), the right and lower ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


class FakeVideos(TrackingDataset):
    """Sequences of a bright square that moves over a dark picture.

    Args:
        visible: a list a sequence, whether the object can be seen in each frame.
        broken: (sequence, frame) pairs that cannot be read.
    """

    def __init__(self, visible, name="fake", is_video=True, broken=(), size=(120, 160)):
        self.visible = [np.asarray(v, bool) for v in visible]
        self.name, self.is_video, self.broken, self.size = name, is_video, set(broken), size

    def __len__(self):
        return len(self.visible)

    def info(self, sequence):
        seen = self.visible[sequence]
        x = 20 + 2.0 * np.arange(len(seen))
        boxes = np.stack([x, np.full_like(x, 30), np.full_like(x, 24), np.full_like(x, 18)], 1).astype(np.float32)
        return SequenceInfo(boxes, np.ones(len(seen), bool), seen)

    def image(self, sequence, frame):
        if (sequence, frame) in self.broken:
            raise ImageReadError(f"cannot decode image {self.source(sequence, frame)}")
        image = np.full((*self.size, 3), 20, np.uint8)
        x, y, w, h = self.info(sequence).boxes[frame].astype(int)
        image[y : y + h, x : x + w] = (200, 120, (60 + 10 * sequence) % 200)
        return image

    def picture(self, sequence, frame):
        return Picture(self.image(sequence, frame))

    def frame_path(self, sequence, frame):
        return f"{self.name}/{sequence}/{frame}.jpg"

    source = frame_path

    def files(self):
        return iter(())
