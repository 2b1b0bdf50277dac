"""From boxes to masks: the network applied to frames, and a tracker that gives a mask with each box."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from easydict import EasyDict

from ...config.options import REFINE
from ...data.images import to_rgb8
from ...utils.crop import box_in_crop, mask_in_image, stretched_crop
from ...utils.errors import UserError
from . import Tracker, create_engine, explains
from .engines import Engine, choose_engine


class Refiner:
    """Masks of one object, which is shown once, by an `AlphaRefine` network and the effective configuration of it.

    Boxes are xywh in pixels; a CropError says one without area.
    """

    def __init__(self, engine: Engine, cfg: EasyDict) -> None:
        self.engine, self.cfg = engine, cfg
        self.kernels: np.ndarray | None = None

    def initialize(self, image: np.ndarray, box: Sequence[float]) -> None:
        """Look at the object in an image (H, W, 3) uint8 RGB."""
        size = self.cfg.DATA.TEMPLATE.SIZE
        crop = stretched_crop(image, box, size)
        (self.kernels,) = self.engine.template(crop[None], box_in_crop(box, box, size)[None])

    def mask(self, image: np.ndarray, box: Sequence[float]) -> np.ndarray:
        """The object's pixels in an image (H, W, 3) uint8 RGB, near a box that is about it: (H, W) bool.

        Raises UserError where the network's mask is not finite.
        """
        crop = stretched_crop(image, box, self.cfg.DATA.SEARCH.SIZE)
        probabilities = self.engine.search(crop[None], self.kernels)[0][0]
        if not np.isfinite(probabilities).all():
            raise UserError("the mask is not finite: the weights are damaged or the training diverged")
        return mask_in_image(probabilities, box, image.shape[:2]) > self.cfg.TEST.MASK_THRESHOLD


class MaskTracker:
    """A tracker of boxes, and a mask for each of them; the boxes stay the tracker's own."""

    def __init__(self, tracker: Tracker, refiner: Refiner) -> None:
        self.tracker, self.refiner = tracker, refiner

    def __copy__(self) -> "MaskTracker":
        return MaskTracker(copy.copy(self.tracker), copy.copy(self.refiner))

    def spawn(self) -> "MaskTracker":
        """Another object's tracker, on the same networks."""
        return MaskTracker(self.tracker.spawn(), copy.copy(self.refiner))

    def initialize(self, image: np.ndarray, info: Mapping) -> None:
        """Start on a frame; arguments and errors as of the tracker."""
        self.tracker.initialize(image, info)
        self.refiner.initialize(to_rgb8(image), info["init_bbox"])

    def track(self, image: np.ndarray) -> dict:
        """What the tracker gives of the next frame, and `mask`, (H, W) bool."""
        result = self.tracker.track(image)
        return result | {"mask": self.refiner.mask(to_rgb8(image), result["target_bbox"])}

    @property
    def explains(self) -> bool:
        """As of the tracker of boxes, if it has this."""
        return explains(self.tracker)

    def explain(self) -> dict[str, np.ndarray]:
        """What the tracker of boxes looked at."""
        return self.tracker.explain()


def with_masks(
    tracker: Tracker,
    config: str = "baseline",
    checkpoint: str | Path | None = None,
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
) -> MaskTracker:
    """A tracker of boxes that also gives masks, of Alpha-Refine as configured in `experiments/alpha_refine/`.

    The other arguments and the errors are those of `lib.test.tracker.create_tracker`.
    """
    chosen = choose_engine(engine, device, precision)
    return MaskTracker(tracker, Refiner(*create_engine(REFINE, config, checkpoint, device, chosen, precision)))
