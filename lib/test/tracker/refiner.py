"""From boxes to masks: the network applied to frames, and a tracker that gives a mask with each box."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from easydict import EasyDict

from lib.config.loader import experiment_name
from lib.data.images import to_rgb8
from lib.test.tracker import MASK_SCRIPT, Tracker, announced_config, create_engine
from lib.test.tracker.engines import choose_engine
from lib.test.tracker.engines.base import Engine
from lib.utils.checkpoint_files import CheckpointError, find_checkpoint
from lib.utils.crop import box_in_crop, mask_in_image, stretched_crop
from lib.utils.errors import UserError
from lib.utils.workspace import workspace

DEFAULT_CONFIG = "baseline"
# The published weights, under `checkpoints/`.
PUBLISHED_FILE = "AR/ARcm_coco_seg_only_mask_384.pth.tar"


class Refiner:
    """Masks of one object, which is shown once.

    Args:
        engine: computes an `AlphaRefine` network.
        cfg: the effective configuration it was built from.
    """

    def __init__(self, engine: Engine, cfg: EasyDict) -> None:
        self.engine, self.cfg = engine, cfg
        self.kernels: np.ndarray | None = None

    def initialize(self, image: np.ndarray, box: Sequence[float]) -> None:
        """Look at the object: image (H, W, 3) uint8 RGB, box xywh in pixels.

        Raises:
            CropError: the box has no area.
        """
        size = self.cfg.DATA.TEMPLATE.SIZE
        crop = stretched_crop(image, box, size)
        (self.kernels,) = self.engine.template(crop[None], box_in_crop(box, box, size)[None])

    def probabilities(self, image: np.ndarray, box: Sequence[float]) -> np.ndarray:
        """How likely each pixel is the object's.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: xywh in pixels, about the object.

        Returns:
            (H, W) float32 in [0, 1]; 0 beyond twice the box.

        Raises:
            CropError: the box has no area.
            UserError: the mask is not finite.
        """
        crop = stretched_crop(image, box, self.cfg.DATA.SEARCH.SIZE)
        mask = self.engine.search(crop[None], self.kernels)[0][0]
        if not np.isfinite(mask).all():
            raise UserError("the mask is not finite: the weights are damaged or the training diverged")
        return mask_in_image(mask, box, image.shape[:2])

    def mask(self, image: np.ndarray, box: Sequence[float]) -> np.ndarray:
        """The object's pixels, (H, W) bool; arguments and errors as of `probabilities`."""
        return self.probabilities(image, box) > self.cfg.TEST.MASK_THRESHOLD


class MaskTracker:
    """A tracker of boxes, and a mask for each of them; the boxes stay the tracker's own.

    Args:
        tracker: finds the boxes.
        refiner: makes the masks.
    """

    def __init__(self, tracker: Tracker, refiner: Refiner) -> None:
        self.tracker, self.refiner = tracker, refiner

    def __copy__(self) -> "MaskTracker":
        """Another object's tracker, on the same networks."""
        return MaskTracker(copy.copy(self.tracker), copy.copy(self.refiner))

    def initialize(self, image: np.ndarray, info: Mapping) -> None:
        """Start on a frame, (H, W, 3) RGB, with the box `info["init_bbox"]`, xywh in pixels.

        Raises:
            UserError: the box shows nothing of the image.
        """
        self.tracker.initialize(image, info)
        self.refiner.initialize(to_rgb8(image), info["init_bbox"])

    def track(self, image: np.ndarray) -> dict:
        """What the tracker gives of the next frame, and `mask`, (H, W) bool."""
        result = self.tracker.track(image)
        return result | {"mask": self.refiner.mask(to_rgb8(image), result["target_bbox"])}


def with_masks(tracker: Tracker, *given: Any, **options: Any) -> MaskTracker:
    """A tracker of boxes that also gives masks; all else as `create_refiner` takes it."""
    return MaskTracker(tracker, create_refiner(*given, **options))


def create_refiner(
    config: str = DEFAULT_CONFIG,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
) -> Refiner:
    """Alpha-Refine on an engine.

    Args:
        config: configuration in `experiments/alpha_refine/`, or a YAML file.
        checkpoint: weights as a file; see `refiner_weights`.
        device, engine, precision: as `lib.test.tracker.create_tracker` takes them.

    Raises:
        UserError: an unknown configuration, device, engine or precision; weights that are missing, damaged or of
            another network.
    """
    chosen = choose_engine(engine, device, precision)
    weights = refiner_weights(config, checkpoint)
    cfg = announced_config(MASK_SCRIPT, config, weights)
    return Refiner(create_engine(MASK_SCRIPT, config, cfg, weights, chosen, device, precision), cfg)


def refiner_weights(config: str = DEFAULT_CONFIG, checkpoint: str | Path | None = None) -> Path:
    """The file with a refiner's weights: `checkpoint`, or what training left, or for `baseline` the published file.

    Raises:
        UserError: there is none; the message says where it was looked for.
    """
    if checkpoint is not None:
        return Path(checkpoint)
    folder = workspace("test").checkpoint_dir
    published = folder / PUBLISHED_FILE
    try:
        return find_checkpoint(folder / "train" / MASK_SCRIPT / experiment_name(config), "AlphaRefine")
    except CheckpointError as error:
        if config != DEFAULT_CONFIG:
            raise CheckpointError(f"no weights for masks: {error}") from error
        if not published.is_file():
            raise CheckpointError(
                f"no weights for masks: put the published checkpoint at {published}, name a file with "
                "--refine_checkpoint (of export.py: --checkpoint), or train with "
                f"`python tracking/train.py --script {MASK_SCRIPT}`"
            ) from error
    return published
