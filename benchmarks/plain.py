"""The plain reference that fast ways are compared with: tracking and samples as research code has them.

Networks run module by module, in fp32, contiguous, with nothing folded. Samples take the same random numbers in the
same order as `lib.train.processing`, so that both give the same samples.
"""

import copy
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import option
from lib.data.images import Picture
from lib.models.inference import output_names
from lib.models.stark import Tokens
from lib.test.tracker.stark import StarkTracker
from lib.train.processing import Rejected, jitter_box
from lib.train.sampler import FrameRef, SampledFrames
from lib.utils.crop import region_of
from lib.utils.tensors import NestedTensor


class PlainEngine:
    """PyTorch as a research code runs it; see `lib.test.tracker.stark.BoxEngine`."""

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        self.model, self.stride = copy.deepcopy(model).eval(), model.extractor.stride
        self.outputs = [name for name in output_names(model) if name != "corner_peak"]
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))

    def encode_template(self, crop: np.ndarray, mask: np.ndarray) -> Tokens:
        with torch.no_grad():
            return self.model.encode_template(self._normalised(crop, mask))

    def search(self, templates: Sequence[Tokens], crop: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            out = self.model.predict(templates, self.model.encode_search(self._normalised(crop, mask)))
        return {name: out[name].numpy() for name in self.outputs}

    def _normalised(self, crop: np.ndarray, mask: np.ndarray) -> NestedTensor:
        pixels = torch.tensor(crop)[None].permute(0, 3, 1, 2).contiguous().float() / 255
        return NestedTensor((pixels - self.mean) / self.std, torch.from_numpy(mask)[None])


class PlainTracker(StarkTracker):
    """`StarkTracker` with the crop and the mask of a whole region built at full size; templates are never replaced."""

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        super().__init__(PlainEngine(model, cfg), cfg, [10**9] * (model.template_count - 1))  # frames: never

    def _region(self, image: Picture, *cut: Any) -> tuple[np.ndarray, float, np.ndarray]:
        return whole_crop(image.part((0, image.width), (0, image.height)), *cut)


def whole_crop(image: np.ndarray, box: Sequence[float], factor: float, size: int):
    """As `lib.utils.crop.sample_target`: region and mask are padded at full size and then resized.

    Raises:
        Rejected: the region lies outside the image.
    """
    left, top, side = region_of(box, factor)
    height, width = image.shape[:2]
    before_x, after_x = min(max(0, -left), side), min(max(left + side - width + 1, 0), side)
    before_y, after_y = min(max(0, -top), side), min(max(top + side - height + 1, 0), side)
    inside = image[top + before_y : top + side - after_y, left + before_x : left + side - after_x]
    if not inside.size:
        raise Rejected("the region shows nothing of the image")
    region = cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_CONSTANT)
    mask = np.ones(region.shape[:2])
    mask[before_y : side - after_y, before_x : side - after_x] = 0
    return cv2.resize(region, (size, size)), size / side, cv2.resize(mask, (size, size)).astype(bool)


class PlainProcessing:
    """Turns frames into a sample as `lib.train.processing.Processing` does; its crops are normalised, (3, H, W)."""

    def __init__(self, cfg: EasyDict) -> None:
        self.cfg = cfg
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))

    def __call__(self, draw: SampledFrames, rng: np.random.Generator) -> SimpleNamespace:
        """Read the frames and cut the crops. Raises Rejected where the sample cannot be used."""
        data = self.cfg.DATA
        gray, mirror = rng.random() < option(self.cfg, "DATA.GRAY_PROBABILITY"), rng.random() < 0.5
        cuts = [self._cut(ref, data.TEMPLATE, gray, mirror, rng) for ref in draw.templates]
        cuts.append(self._cut(draw.search, data.SEARCH, gray, mirror, rng))
        jitter = option(self.cfg, "DATA.BRIGHTNESS_JITTER")
        factors = rng.uniform(1 - jitter, 1 + jitter, len(cuts)).astype(np.float32).tolist()
        crops = [((cut[0] * factors[i]).clamp(0.0, 1.0) - self.mean) / self.std for i, cut in enumerate(cuts)]
        masks = [mask for _, mask, _ in cuts]
        return SimpleNamespace(
            templates=crops[:-1],
            template_masks=masks[:-1],
            search=crops[-1],
            search_mask=masks[-1],
            box=cuts[-1][2],
            sources=[ref.source for ref in (*draw.templates, draw.search)],
        )

    def _cut(
        self, ref: FrameRef, options: EasyDict, gray: bool, mirror: bool, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One crop (3, H, W) in [0, 1], its padding mask (H, W) bool and the box xywh in fractions of the crop."""
        image = cv2.cvtColor(cv2.imread(ref.source), cv2.COLOR_BGR2RGB)
        box = torch.tensor(ref.dataset.info(ref.sequence).boxes[ref.frame], dtype=torch.float64)
        if gray:
            image = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3, axis=2)
        if mirror:
            image = np.fliplr(image).copy()
            box = torch.stack((image.shape[1] - box[0] - box[2], box[1], box[2], box[3]))
        around = torch.from_numpy(jitter_box(box.numpy(), options.CENTER_JITTER, options.SCALE_JITTER, rng))
        if math.ceil(math.sqrt(around[2] * around[3]) * options.FACTOR) < 1:
            raise Rejected("a region without area")
        crop, scale, padding = whole_crop(image, around.tolist(), options.FACTOR, options.SIZE)
        crop, padding = torch.from_numpy(crop.transpose(2, 0, 1).copy()).float() / 255, torch.from_numpy(padding)
        cells = options.SIZE // 16
        coarse = F.interpolate(padding[None, None].float(), size=(cells, cells)).bool()
        if padding.all() or coarse.all():
            raise Rejected("the region shows nothing of the image")
        centre = (options.SIZE - 1) / 2 + (box[:2] + box[2:] / 2 - around[:2] - around[2:] / 2) * scale
        box = torch.cat((centre - box[2:] * scale / 2, box[2:] * scale)) / options.SIZE
        if rng.random() < 0.5:
            crop, padding = crop.flip((2,)), padding.flip((1,))
            box = torch.stack((1 - box[0] - box[2], box[1], box[2], box[3]))
        return crop, padding, box
