"""Training samples as a research code makes them: whole frames, masks of whole frames, tensors from the start.

It draws the same random numbers in the same order as `lib.train.processing`, so that both give the same samples.
"""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor
from torch.nn import functional

from lib.config import option
from lib.train.processing import Rejected
from lib.train.sampler import Draw, FrameRef


@dataclass
class PlainSample:
    """A sample as the network takes it: normalised crops (3, H, W), padding masks (H, W), box xywh in fractions."""

    templates: list[Tensor]
    template_masks: list[Tensor]
    search: Tensor
    search_mask: Tensor
    box: Tensor
    sources: list[str]
    failures: list[str] = field(default_factory=list)


class PlainProcessing:
    """Turns a `Draw` into a `PlainSample`; see `lib.train.processing.Processing`."""

    def __init__(self, cfg: EasyDict) -> None:
        self.cfg = cfg
        self.mean = torch.tensor(cfg.DATA.MEAN).view(3, 1, 1)
        self.std = torch.tensor(cfg.DATA.STD).view(3, 1, 1)

    def __call__(self, draw: Draw, rng: np.random.Generator) -> PlainSample:
        """Read the frames and cut the crops.

        Raises:
            Rejected: the sample cannot be used.
        """
        data = self.cfg.DATA
        gray, mirror = rng.random() < option(self.cfg, "DATA.GRAY_PROBABILITY"), rng.random() < 0.5
        cuts = [self._cut(ref, data.TEMPLATE, gray, mirror, rng) for ref in draw.templates]
        cuts.append(self._cut(draw.search, data.SEARCH, gray, mirror, rng))
        jitter = option(self.cfg, "DATA.BRIGHTNESS_JITTER")
        crops, masks = [], []
        for (crop, mask, _), brightness in zip(cuts, rng.uniform(1 - jitter, 1 + jitter, len(cuts)), strict=True):
            crop = (crop * float(np.float32(brightness))).clamp(0.0, 1.0)
            crops.append((crop - self.mean) / self.std)
            masks.append(mask)
        sources = [ref.source for ref in (*draw.templates, draw.search)]
        return PlainSample(crops[:-1], masks[:-1], crops[-1], masks[-1], cuts[-1][2], sources)

    def _cut(self, ref: FrameRef, options: EasyDict, gray: bool, mirror: bool, rng: np.random.Generator):
        """One crop (3, H, W) in [0, 1], its padding mask (H, W) bool and the box xywh in fractions of the crop."""
        image = cv2.cvtColor(cv2.imread(ref.source), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        object_mask = torch.zeros((height, width))
        box = torch.tensor(ref.dataset.info(ref.sequence).boxes[ref.frame], dtype=torch.float64)
        if gray:
            image = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3, axis=2)
        if mirror:
            image = np.fliplr(image).copy()
            object_mask = object_mask.flip((-1,))
            box = torch.stack((width - box[0] - box[2], box[1], box[2], box[3]))
        around = _jitter(box, options, rng)
        side = math.ceil(math.sqrt(around[2] * around[3]) * options.FACTOR)
        if side < 1:
            raise Rejected("a region without area")
        crop, padding, object_mask = _padded(image, object_mask, around, side, options.SIZE)
        cells = options.SIZE // 16
        coarse = functional.interpolate(padding[None, None].float(), size=(cells, cells)).bool()
        if padding.all() or coarse.all():
            raise Rejected("the region shows nothing of the image")
        scale = options.SIZE / side
        centre = (options.SIZE - 1) / 2 + (box[:2] + box[2:] / 2 - around[:2] - around[2:] / 2) * scale
        box = torch.cat((centre - box[2:] * scale / 2, box[2:] * scale)) / options.SIZE
        crop = torch.from_numpy(crop.transpose(2, 0, 1).copy()).float() / 255
        if rng.random() < 0.5:
            crop, padding, object_mask = crop.flip((2,)), padding.flip((1,)), object_mask.flip((1,))
            box = torch.stack((1 - box[0] - box[2], box[1], box[2], box[3]))
        return crop, padding, box


def _jitter(box: Tensor, options: EasyDict, rng: np.random.Generator) -> Tensor:
    """The box around which a region is cut."""
    size = box[2:] * torch.exp(torch.from_numpy(rng.standard_normal(2)) * options.SCALE_JITTER)
    offset = size.prod().sqrt() * options.CENTER_JITTER * (torch.from_numpy(rng.random(2)) - 0.5)
    return torch.cat((box[:2] + box[2:] / 2 + offset - size / 2, size))


def _padded(image: np.ndarray, object_mask: Tensor, around: Tensor, side: int, size: int):
    """Region, its padding and the object's mask in it, each built at full size and then scaled."""
    height, width = image.shape[:2]
    x, y, w, h = around.tolist()
    left, top = round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5)
    before_x, after_x = min(max(0, -left), side), min(max(left + side - width + 1, 0), side)
    before_y, after_y = min(max(0, -top), side), min(max(top + side - height + 1, 0), side)
    rows, columns = slice(top + before_y, top + side - after_y), slice(left + before_x, left + side - after_x)
    inside, object_mask = image[rows, columns], object_mask[rows, columns]
    if not inside.size:
        raise Rejected("the region shows nothing of the image")
    region = cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_CONSTANT)
    padding = np.ones(region.shape[:2])
    padding[before_y : side - after_y, before_x : side - after_x] = 0
    object_mask = functional.pad(object_mask, (before_x, after_x, before_y, after_y))
    object_mask = functional.interpolate(object_mask[None, None], (size, size), mode="bilinear", align_corners=False)
    scaled_padding = torch.from_numpy(cv2.resize(padding, (size, size)).astype(bool))
    return cv2.resize(region, (size, size)), scaled_padding, object_mask[0, 0]
