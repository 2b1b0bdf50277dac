"""From sampled frames to crops: colour, mirroring, jitter, cropping (DETR-style augmentation, STARK section 4.1)."""

import math
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from easydict import EasyDict

from lib.config import option
from lib.data.images import ImageReadError, Picture, cut_picture
from lib.train.sampler import FrameRef, SampledFrames
from lib.utils.crop import CropError, Region, box_in_crop, box_to_crop, shows_nothing, stretched_crop


class Rejected(Exception):  # noqa: N818 - not an error: the sample is drawn again
    """A sample that cannot be used: a region without area, or one that shows nothing."""


@dataclass
class Sample:
    """One training sample; T templates, then the search region.

    Attributes:
        templates: (T, Ht, Wt, 3) uint8, and their padding masks (T, Ht, Wt) bool.
        search: (H, W, 3) uint8, and its mask (H, W) bool.
        box: (4,) float32 xywh of the object in fractions of the search crop.
        label: 1.0 where the object is in the search region, else 0.0.
        brightness: (T + 1,) float32 factors, applied on the device where pixels become floats.
        sources: where the frames came from.
        template_box: (4,) float32 xywh of the object in pixels of its template; None where masks are not trained.
        object_mask: (H, W) bool, the object's pixels in the search crop; None where masks are not trained.
    """

    templates: np.ndarray
    template_masks: np.ndarray
    search: np.ndarray
    search_mask: np.ndarray
    box: np.ndarray
    label: float
    brightness: np.ndarray
    sources: list[str]
    failures: list[str] = field(default_factory=list)
    template_box: np.ndarray | None = None
    object_mask: np.ndarray | None = None


@dataclass(frozen=True)
class _Kind:
    """How crops of one kind are cut."""

    size: int
    factor: float
    center_jitter: float
    scale_jitter: float
    cells: int

    @classmethod
    def of(cls, options: EasyDict, stride: int) -> "_Kind":
        return cls(
            options.SIZE, options.FACTOR, options.CENTER_JITTER, options.SCALE_JITTER, max(1, options.SIZE // stride)
        )


class Processing:
    """Turns a `SampledFrames` into a `Sample`.

    Args:
        cfg: the effective configuration (its DATA section).
        augment: brightness and mirroring of single crops, for training; greying, mirroring of the
            whole sample and jitter are part of validation too, as published.
    """

    def __init__(self, cfg: EasyDict, augment: bool) -> None:
        stride = 8 if cfg.MODEL.BACKBONE.DILATION else 16
        self.template = _Kind.of(cfg.DATA.TEMPLATE, stride)
        self.search = _Kind.of(cfg.DATA.SEARCH, stride)
        self.gray_probability = option(cfg, "DATA.GRAY_PROBABILITY")
        self.brightness = option(cfg, "DATA.BRIGHTNESS_JITTER") if augment else 0.0
        self.flip_probability = 0.5 if augment else 0.0
        self.jitter_power = option(cfg, "DATA.CENTER_JITTER_POWER")

    def __call__(self, draw: SampledFrames, rng: np.random.Generator) -> Sample:
        """Read the frames and cut the crops.

        Raises:
            Rejected: the sample cannot be used.
            ImageReadError: a frame cannot be read.
        """
        # Chosen once a sample: the object must look and face alike in all its frames.
        gray, mirror = rng.random() < self.gray_probability, rng.random() < 0.5
        # Of a photograph all crops are cut: it is one picture, opened once.
        pictures = {ref: ref.dataset.picture(ref.sequence, ref.frame) for ref in (*draw.templates, draw.search)}
        cut = partial(self._cut, pictures, gray, mirror, rng)
        templates = [cut(ref, self.template) for ref in draw.templates]
        search, search_mask, box = cut(draw.search, self.search, draw.absent)
        jitter = self.brightness
        return Sample(
            templates=np.stack([crop for crop, _, _ in templates]),
            template_masks=np.stack([mask for _, mask, _ in templates]),
            search=search,
            search_mask=search_mask,
            box=box.astype(np.float32),
            label=float(draw.positive),
            brightness=rng.uniform(1 - jitter, 1 + jitter, len(templates) + 1).astype(np.float32),
            sources=[ref.source for ref in (*draw.templates, draw.search)],
        )

    def _cut(self, pictures: dict[FrameRef, Picture], gray, mirror, rng, ref: FrameRef, kind: _Kind, absent=False):
        """One crop, its mask and the box in it (fractions of the crop)."""
        picture = pictures[ref]
        box = _centre_box(picture.height, picture.width) if absent else ref.dataset.info(ref.sequence).boxes[ref.frame]
        box = np.asarray(box, np.float64)
        if mirror:
            box = np.array([picture.width - box[0] - box[2], *box[1:]])
        around = jitter_box(box, kind.center_jitter, kind.scale_jitter, rng, self.jitter_power)
        try:
            region = Region.around(around, kind.factor, kind.size, picture.height, picture.width)
        except CropError as error:
            raise Rejected(str(error)) from error
        mask = region.mask()
        if shows_nothing(mask, kind.cells) or mask.all():
            raise Rejected("the region shows nothing of the image")
        flip = rng.random() < self.flip_probability
        crop = cut_picture(picture, region, mirror, flip)
        if gray:
            crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        box = box_to_crop(box, around, region.scale, kind.size) / kind.size
        if flip:
            mask = mask[:, ::-1]
            box[0] = 1 - box[0] - box[2]
        return crop, mask, box


def jitter_box(
    box: np.ndarray, center_jitter: float, scale_jitter: float, rng: np.random.Generator, power: float = 1.0
) -> np.ndarray:
    """Where a region is cut around a box xywh while training, so that the object is not always in its centre.

    Each side is scaled by exp(N(0, 1) * scale_jitter); the centre moves by up to half of
    sqrt(w * h) * center_jitter along each axis, evenly, or with a `power` above 1 mostly by little: objects seldom
    move far between two frames, and what lies near is likelier the object than its double far off.
    Both draws are made even where they change nothing.
    """
    size = box[2:] * np.exp(rng.standard_normal(2) * scale_jitter)
    way = 2 * (rng.random(2) - 0.5)
    if power != 1:
        way = np.sign(way) * np.abs(way) ** power
    offset = way * (math.sqrt(max(size[0] * size[1], 0.0)) * center_jitter * 0.5)
    return np.concatenate((box[:2] + box[2:] / 2 + offset - size / 2, size))


def _centre_box(height: int, width: int) -> list[int]:
    """What stands in for the box of an absent object: the middle of the image, an eighth of each side."""
    return [int(width / 2 - width / 16), int(height / 2 - height / 16), width // 8, height // 8]


# A sample is replaced if less of the crop, as a part of its pixels, shows the object.
_LEAST_SHARE = 1e-3


class MaskProcessing:
    """Turns a `SampledFrames` of data sets with masks into a `Sample` with a mask.

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

    def __call__(self, draw: SampledFrames, rng: np.random.Generator) -> Sample:
        """Read the frames and cut the crops.

        Raises:
            Rejected: the sample cannot be used.
            ImageReadError: a frame or its mask cannot be read.
        """
        # Chosen once a sample: the object must look and face alike in both frames.
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
