"""Crops like those a tracker sees, where no video is at hand."""

import cv2
import numpy as np
import torch
from easydict import EasyDict

from lib.utils.crop import sample_target
from lib.utils.preprocess import Preprocessor
from lib.utils.tensors import NestedTensor

_HEIGHT, _WIDTH = 360, 640
# xywh of objects in the middle of the picture, whose regions lie within it at factors up to 5, and at its border.
_INSIDE = ((300, 150, 50, 60), (330, 170, 24, 20), (290, 160, 70, 40), (260, 140, 36, 52))
_AT_BORDER = ((4, 150, 60, 60), (560, 20, 70, 40), (300, 290, 90, 64), (-20, -10, 80, 90))


def painted_picture(seed: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """A picture (360, 640, 3) uint8 with shapes and shades of all sizes, and an object in a box xywh."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((_HEIGHT, _WIDTH, 3), np.float32)
    for cells in (3, 9, 27, 81):
        noise = rng.standard_normal((cells, 2 * cells, 3)).astype(np.float32)
        picture += cv2.resize(noise, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC) / np.log2(cells)
    picture = np.ascontiguousarray((128 + 60 * picture).clip(0, 255).astype(np.uint8))
    x, y, w, h = box
    colour, stripe = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
    cv2.ellipse(picture, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, colour, cv2.FILLED)
    cv2.rectangle(picture, (x + w // 4, y + h // 3), (x + 3 * w // 4, y + h // 2), stripe, cv2.FILLED)
    return cv2.GaussianBlur(picture, (3, 3), 0)


def example_crops(cfg: EasyDict, device: torch.device) -> list[tuple[NestedTensor, NestedTensor]]:
    """Template and search crops of eight objects, the last four with padding, in a tracker's form."""
    preprocess, test, pairs = Preprocessor(cfg.DATA.MEAN, cfg.DATA.STD, device), cfg.TEST, []
    for seed, box in enumerate((*_INSIDE, *_AT_BORDER)):
        picture = painted_picture(seed, box)
        sizes = ((test.TEMPLATE_FACTOR, test.TEMPLATE_SIZE), (test.SEARCH_FACTOR, test.SEARCH_SIZE))
        crops = [sample_target(picture, box, factor, size) for factor, size in sizes]
        template, search = (preprocess(crop, mask) for crop, _, mask in crops)
        pairs.append((template, search))
    return pairs
