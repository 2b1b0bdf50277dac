"""From sampled frames to crops: colour, mirroring, jitter, cropping (DETR-style augmentation, STARK section 4.1)."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from easydict import EasyDict

from ..config import option
from ..data.images import ImageReadError, Picture, cut_picture
from ..utils.crop import Region, box_in_crop, box_to_crop, shows_nothing, stretched_crop
from .sampler import FrameRef, SampledFrames

# Whether a sample is grey, whether it is mirrored, and the generator for what is drawn for each crop.
Draws = tuple[bool, bool, np.random.Generator]
# A sample is replaced if a smaller part of the crop's pixels shows the object.
_LEAST_SHARE = 1e-3


class Rejected(Exception):  # noqa: N818 - not an error: the sample is drawn again
    """A sample that cannot be used: its region shows nothing."""


@dataclass
class Sample:
    """One training sample: T templates and the search region. The last two are None where masks are not trained."""

    templates: np.ndarray  # (T, Ht, Wt, 3) uint8
    template_masks: np.ndarray  # (T, Ht, Wt) bool, their padding
    search: np.ndarray  # (H, W, 3) uint8
    search_mask: np.ndarray  # (H, W) bool, its padding
    box: np.ndarray  # (4,) float32 xywh of the object in fractions of the search crop
    label: float  # 1.0 where the object is in the search region, else 0.0
    brightness: np.ndarray  # (T + 1,) float32 factors, applied on the device where pixels become floats
    sources: list[str]  # where the frames came from
    failures: list[str] = field(default_factory=list)  # what could not be read before this sample could be made
    template_box: np.ndarray | None = None  # (4,) float32 xywh of the object in pixels of its template
    object_mask: np.ndarray | None = None  # (H, W) bool, the object's pixels in the search crop


class Crop(NamedTuple):
    """A crop (S, S, 3) uint8, its padding (S, S) bool, the box xywh in fractions, the object's pixels (S, S) bool."""

    pixels: np.ndarray
    padding: np.ndarray
    box: np.ndarray
    object_mask: np.ndarray | None = None


class Processing:
    """Turns a `SampledFrames` into a `Sample`.

    `augment` adds brightness and mirroring of single crops, for training; greying, mirroring of the whole sample and
    jitter are part of validation too, as published.
    """

    def __init__(self, cfg: EasyDict, augment: bool) -> None:
        self.template, self.search = cfg.DATA.TEMPLATE, cfg.DATA.SEARCH
        self.stride = 8 if cfg.MODEL.BACKBONE.get("DILATION", False) else 16
        self.gray_probability = option(cfg, "DATA.GRAY_PROBABILITY")
        self.brightness = option(cfg, "DATA.BRIGHTNESS_JITTER") if augment else 0.0
        self.flip_probability = 0.5 if augment else 0.0
        self.jitter_power = option(cfg, "DATA.CENTER_JITTER_POWER")
        self.low_resolution = option(cfg, "DATA.LOW_RESOLUTION") if augment else 0.0
        self.motion_blur = option(cfg, "DATA.MOTION_BLUR") if augment else 0.0

    def __call__(self, frames: SampledFrames, rng: np.random.Generator) -> Sample:
        """Read the frames and cut the crops; Rejected, a CropError or an ImageReadError: draw another sample."""
        # Chosen once a sample: the object must look and face alike in all its frames.
        how = rng.random() < self.gray_probability, rng.random() < 0.5, rng
        # All crops of a photograph are cut from one picture, opened once.
        pictures = {ref: ref.dataset.picture(ref.sequence, ref.frame) for ref in (*frames.templates, frames.search)}
        templates = [self.crop(pictures[ref], ref, self.template, how) for ref in frames.templates]
        search = self.crop(pictures[frames.search], frames.search, self.search, how, frames.absent)
        # Nothing is drawn where they are off, so that samples of other configurations stay the same.
        if self.low_resolution and rng.random() < self.low_resolution:
            shrink = rng.uniform(1.5, 6)
            templates = [crop._replace(pixels=_coarse(crop.pixels, shrink, rng)) for crop in templates]
            search = search._replace(pixels=_coarse(search.pixels, shrink, rng))
        if self.motion_blur and rng.random() < self.motion_blur:
            search = search._replace(pixels=_blurred(search.pixels, rng))
        brightness = rng.uniform(1 - self.brightness, 1 + self.brightness, len(templates) + 1)
        return Sample(
            templates=np.stack([crop.pixels for crop in templates]),
            template_masks=np.stack([crop.padding for crop in templates]),
            search=search.pixels,
            search_mask=search.padding,
            box=search.box.astype(np.float32),
            label=float(frames.positive),
            brightness=brightness.astype(np.float32),
            sources=[ref.source for ref in (*frames.templates, frames.search)],
            template_box=None if search.object_mask is None else templates[0].box * self.template.SIZE,
            object_mask=search.object_mask,
        )

    def crop(self, picture: Picture, ref: FrameRef, region: EasyDict, how: Draws, absent: bool = False) -> Crop:
        """One crop; `region` is DATA.TEMPLATE or DATA.SEARCH."""
        gray, mirror, rng = how
        box = _centre_box(picture) if absent else ref.dataset.info(ref.sequence).boxes[ref.frame].astype(np.float64)
        if mirror:
            box = np.array([picture.width - box[0] - box[2], *box[1:]])
        around = jitter_box(box, region.CENTER_JITTER, region.SCALE_JITTER, rng, self.jitter_power)
        crop = self.cut(picture, ref, region, box, around, how)
        if not gray:
            return crop
        return crop._replace(pixels=cv2.cvtColor(cv2.cvtColor(crop.pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))

    def cut(
        self, picture: Picture, ref: FrameRef, region: EasyDict, box: np.ndarray, around: np.ndarray, how: Draws
    ) -> Crop:
        """The region around a box, with the object's box in it; both are xywh in the frame, mirrored or not."""
        _, mirror, rng = how
        square = Region.around(around, region.FACTOR, region.SIZE, picture.height, picture.width)
        padding = square.mask()
        if shows_nothing(padding, max(1, region.SIZE // self.stride)) or padding.all():
            raise Rejected("the region shows nothing of the image")
        flip = rng.random() < self.flip_probability
        pixels = cut_picture(picture, square, mirror, flip)
        box = box_to_crop(box, around, square.scale, region.SIZE) / region.SIZE
        if flip:
            padding = padding[:, ::-1]
            box[0] = 1 - box[0] - box[2]
        return Crop(pixels, padding, box)


class MaskProcessing(Processing):
    """Turns a `SampledFrames` of data sets with masks into a `Sample` with a mask.

    The template is the reference, cut around the object's box; the search region is cut around a jittered box, as a
    tracker's would be. Both are stretched to squares.
    """

    def cut(
        self, picture: Picture, ref: FrameRef, region: EasyDict, box: np.ndarray, around: np.ndarray, how: Draws
    ) -> Crop:
        image = picture.part((0, picture.width), (0, picture.height))
        mask = ref.dataset.mask(ref.sequence, ref.frame)
        if mask.shape != image.shape[:2]:
            sizes = f"{picture.width}x{picture.height}, and its mask {mask.shape[1]}x{mask.shape[0]}"
            raise ImageReadError(f"{ref.source} is {sizes}")
        if how[1]:
            image, mask = image[:, ::-1], mask[:, ::-1]
        pixels = stretched_crop(image, around, region.SIZE)
        # Scaled with all its greys: at a threshold after scaling the outline is true to less than a pixel.
        shown = stretched_crop(mask.astype(np.uint8) * 255, around, region.SIZE) > 127
        if region is self.search and shown.mean() < _LEAST_SHARE:
            raise Rejected("the crop shows nothing of the object")
        return Crop(pixels, np.zeros_like(shown), box_in_crop(box, around, region.SIZE) / region.SIZE, shown)


def jitter_box(
    box: np.ndarray, center_jitter: float, scale_jitter: float, rng: np.random.Generator, power: float = 1.0
) -> np.ndarray:
    """The box xywh around which a region is cut in training, so that the object is not always in its centre.

    Each side is scaled by exp(N(0, 1) * scale_jitter); the centre moves by up to half of
    sqrt(w * h) * center_jitter along each axis, evenly, or with a `power` above 1 mostly by little: objects seldom
    move far between two frames. Both draws are made even where they change nothing.
    """
    size = box[2:] * np.exp(rng.standard_normal(2) * scale_jitter)
    way = 2 * (rng.random(2) - 0.5)
    if power != 1:
        way = np.sign(way) * np.abs(way) ** power
    offset = way * (math.sqrt(max(size[0] * size[1], 0.0)) * center_jitter * 0.5)
    return np.concatenate((box[:2] + box[2:] / 2 + offset - size / 2, size))


def _centre_box(picture: Picture) -> np.ndarray:
    """Stands in for the box of an absent object: the middle of the image, an eighth of each side."""
    width, height = picture.width, picture.height
    box = [int(width / 2 - width / 16), int(height / 2 - height / 16), width // 8, height // 8]
    return np.array(box, np.float64)


def _coarse(pixels: np.ndarray, shrink: float, rng: np.random.Generator) -> np.ndarray:
    """The crop as if its object had few pixels in a compressed video: smaller by `shrink`, then enlarged again."""
    side = pixels.shape[0]
    small = cv2.resize(pixels, (max(4, round(side / shrink)),) * 2, interpolation=cv2.INTER_AREA)
    _, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
    return cv2.resize(cv2.imdecode(coded, cv2.IMREAD_COLOR), (side, side), interpolation=cv2.INTER_LINEAR)


def _blurred(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Motion blur along a line of 3 to 20 pixels in any direction."""
    length, angle = rng.uniform(3, 20), rng.uniform(0, math.pi)
    half = math.ceil(length / 2)
    kernel = np.zeros((2 * half + 1,) * 2, np.float32)
    reach = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    start, end = (tuple(int(round(value)) for value in half + sign * reach) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
