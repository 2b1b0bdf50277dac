"""From drawn frames to what Alpha-Refine learns from: a reference crop, a crop about the object, and its mask."""

import cv2
import numpy as np
from easydict import EasyDict

from lib.config import option
from lib.train.data.processing import Rejected, Sample, jitter_box
from lib.train.data.sampler import Draw, FrameRef
from lib.utils.crop import CropError
from lib.utils.image import ImageReadError
from lib.utils.stretched_crop import box_in_crop, stretched_crop

# A crop that shows less of the object, as a part of its pixels, is drawn again.
_LEAST_SHARE = 1e-3


class MaskProcessing:
    """Turns a `Draw` of data sets with masks into a `Sample` with a mask.

    The template is the reference, cut around the object's box; the search region is cut around a jittered box, as a
    tracker's would be. Both are stretched to squares.

    Args:
        cfg: the effective configuration.
        augment: brightness, for training; greying, mirroring and jitter are part of validation too.
    """

    def __init__(self, cfg: EasyDict, augment: bool) -> None:
        self.template, self.search = cfg.DATA.TEMPLATE, cfg.DATA.SEARCH
        self.gray_probability = option(cfg, "DATA.GRAY_PROBABILITY")
        self.brightness = option(cfg, "DATA.BRIGHTNESS_JITTER") if augment else 0.0

    def __call__(self, draw: Draw, rng: np.random.Generator) -> Sample:
        """Read the frames and cut the crops.

        Raises:
            Rejected: the sample cannot be used.
            ImageReadError: a frame or its mask cannot be read.
        """
        # Rolled once a sample: the object must look and face alike in both frames.
        gray, mirror = rng.random() < self.gray_probability, rng.random() < 0.5
        reference, _, template_box = self._cut(draw.templates[0], self.template, gray, mirror, rng)
        crop, mask, box = self._cut(draw.search, self.search, gray, mirror, rng)
        if mask.mean() < _LEAST_SHARE:
            raise Rejected("the crop shows nothing of the object")
        jitter = self.brightness
        return Sample(
            templates=reference[None],
            template_masks=np.zeros((1, *reference.shape[:2]), bool),
            search=crop,
            search_mask=np.zeros(crop.shape[:2], bool),
            box=box / self.search.SIZE,
            label=1.0,
            brightness=rng.uniform(1 - jitter, 1 + jitter, 2).astype(np.float32),
            sources=[ref.source for ref in (draw.templates[0], draw.search)],
            template_box=template_box,
            object_mask=mask,
        )

    def _cut(self, ref: FrameRef, region: EasyDict, gray: bool, mirror: bool, rng: np.random.Generator):
        """One crop, the object's mask in it, and its box in pixels of the crop."""
        image, mask = ref.dataset.image(ref.sequence, ref.frame), ref.dataset.mask(ref.sequence, ref.frame)
        height, width = image.shape[:2]
        if mask.shape != (height, width):
            raise ImageReadError(f"{ref.source} is {width}x{height}, and its mask {mask.shape[1]}x{mask.shape[0]}")
        box = np.asarray(ref.dataset.info(ref.sequence).boxes[ref.frame], np.float64)
        if mirror:
            image, mask = image[:, ::-1], mask[:, ::-1]
            box = np.array([width - box[0] - box[2], *box[1:]])
        around = jitter_box(box, region.CENTER_JITTER, region.SCALE_JITTER, rng)
        try:
            crop = stretched_crop(image, around, region.SIZE)
            # Scaled with all its greys: at a threshold after scaling the outline is true to less than a pixel.
            shown = stretched_crop(mask.astype(np.uint8) * 255, around, region.SIZE) > 127
            inside = box_in_crop(box, around, region.SIZE)
        except CropError as error:
            raise Rejected(str(error)) from error
        if gray:
            crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return crop, shown, inside
