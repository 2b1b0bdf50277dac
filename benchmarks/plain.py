"""The plain eager path that fast ones are held against: module by module, fp32, contiguous, nothing folded."""

import copy
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from lib.models.attention import MultiheadAttention
from lib.models.layers import FrozenBatchNorm2d
from lib.models.stark import Tokens
from lib.test.tracker.stark import StarkTracker
from lib.utils.crop import box_to_image, clip_box, region_of
from lib.utils.tensors import NestedTensor


class PlainNorm(nn.Module):
    """A frozen batch norm as operations of its own, which no convolution takes in."""

    def __init__(self, norm: FrozenBatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        for name, value in norm.named_buffers():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        weight, bias, mean, variance = (
            each.reshape(1, -1, 1, 1) for each in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        scale = weight * (variance + self.eps).rsqrt()
        return x * scale + (bias - mean * scale)


class PlainAttention(nn.Module):
    """PyTorch's own module, which keeps the weights of all tokens."""

    def __init__(self, attention: MultiheadAttention) -> None:
        super().__init__()
        dim = attention.out_proj.in_features
        self.inner = nn.MultiheadAttention(dim, attention.heads, attention.dropout)
        self.inner.load_state_dict(attention.state_dict())

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """As `MultiheadAttention.forward`."""
        tokens = (each.transpose(0, 1) for each in (query, key, value))
        return self.inner(*tokens, key_padding_mask=padding)[0].transpose(0, 1)


def plain_network(model: nn.Module) -> nn.Module:
    """A copy of a network that computes module by module, contiguous; its trained parameters are its own."""
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, FrozenBatchNorm2d):
                setattr(module, name, PlainNorm(child))
            elif isinstance(child, MultiheadAttention) and not child.divide_norm:
                setattr(module, name, PlainAttention(child).train(child.training))
    return plain


class PlainEngine:
    """PyTorch as a research code runs it; see `lib.test.tracker.engines.base.Engine`."""

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        self.model, self.cfg = plain_network(model).eval(), cfg
        self.stride = model.extractor.stride

    def encode_template(self, crop: np.ndarray, mask: np.ndarray) -> Tokens:
        """See `Engine.encode_template`."""
        with torch.no_grad():
            return self.model.encode_template(self._pixels(crop, mask))

    def search(self, templates: Sequence[Tokens], crop: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        """See `Engine.search`."""
        with torch.no_grad():
            out = self.model.predict(templates, self.model.encode_search(self._pixels(crop, mask)))
        return {name: out[name].numpy() for name in ("pred_boxes", "pred_logits") if name in out}

    def _pixels(self, crop: np.ndarray, mask: np.ndarray) -> NestedTensor:
        mean = torch.tensor(self.cfg.DATA.MEAN).view(1, 3, 1, 1)
        std = torch.tensor(self.cfg.DATA.STD).view(1, 3, 1, 1)
        pixels = torch.tensor(crop).float().permute(2, 0, 1)[None]
        return NestedTensor(((pixels / 255.0) - mean) / std, torch.from_numpy(mask)[None])


class PlainTracker(StarkTracker):
    """`StarkTracker` with the crop and the mask of a whole region built at full size."""

    def _search(self, image: np.ndarray) -> dict:
        crop, scale, mask = whole_crop(image, self.state, self.cfg.TEST.SEARCH_FACTOR, self.cfg.TEST.SEARCH_SIZE)
        out = self.engine.search(self.templates, crop, mask)
        box = out["pred_boxes"].reshape(-1, 4).mean(0).tolist()
        self.state = clip_box(box_to_image(box, self.state, scale, self.cfg.TEST.SEARCH_SIZE), *image.shape[:2])
        return out


def whole_crop(
    image: np.ndarray, box: Sequence[float], factor: float, size: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """As `lib.utils.crop.sample_target`: region and mask are padded at full size and then resized."""
    left, top, side = region_of(box, factor)
    height, width = image.shape[:2]
    before_x, before_y = max(0, -left), max(0, -top)
    after_x, after_y = max(left + side - width + 1, 0), max(top + side - height + 1, 0)
    inside = image[top + before_y : top + side - after_y, left + before_x : left + side - after_x]
    region = cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_CONSTANT)
    mask = np.ones(region.shape[:2])
    mask[before_y : side - after_y, before_x : side - after_x] = 0
    return cv2.resize(region, (size, size)), size / side, cv2.resize(mask, (size, size)).astype(bool)
