"""The plain reference that fast ways are compared with: tracking, samples and training as research code has them.

Networks run module by module, in fp32, contiguous, with nothing folded. Samples take the same random numbers in the
same order as `lib.train.processing`, so that both give the same samples.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from lib.config import option
from lib.models.stark import Tokens, join
from lib.test.tracker.stark import StarkTracker
from lib.train.loader import Batch
from lib.train.losses import box_losses
from lib.train.optimiser import parameter_groups
from lib.train.processing import Rejected
from lib.train.sampler import FrameRef, SampledFrames
from lib.utils.boxes import xywh_to_xyxy
from lib.utils.crop import box_to_image, clip_box, region_of
from lib.utils.tensors import NestedTensor


class PlainEngine:
    """PyTorch as a research code runs it; see `lib.test.tracker.engines.base.Engine`."""

    def __init__(self, model: nn.Module, cfg: EasyDict) -> None:
        self.model, self.cfg = copy.deepcopy(model).eval(), cfg
        self.stride = model.extractor.stride

    def encode_template(self, crop: np.ndarray, mask: np.ndarray) -> Tokens:
        with torch.no_grad():
            return self.model.encode_template(self._pixels(crop, mask))

    def search(self, templates: Sequence[Tokens], crop: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            out = self.model.predict(templates, self.model.encode_search(self._pixels(crop, mask)))
        return {name: out[name].numpy() for name in ("pred_boxes", "pred_logits") if name in out}

    def _pixels(self, crop: np.ndarray, mask: np.ndarray) -> NestedTensor:
        return _normalised(self.cfg, torch.tensor(crop)[None], torch.from_numpy(mask)[None])


class PlainTracker(StarkTracker):
    """`StarkTracker` with the crop and the mask of a whole region built at full size."""

    def _search(self, image: np.ndarray) -> dict:
        crop, scale, mask = whole_crop(image, self.state, self.cfg.TEST.SEARCH_FACTOR, self.cfg.TEST.SEARCH_SIZE)
        out = self.engine.search(self.templates, crop, mask)
        box = out["pred_boxes"].reshape(-1, 4).mean(0).tolist()
        self.state = clip_box(box_to_image(box, self.state, scale, self.cfg.TEST.SEARCH_SIZE), *image.shape[:2])
        return out


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
    """Turns a `SampledFrames` into a `PlainSample`; see `lib.train.processing.Processing`."""

    def __init__(self, cfg: EasyDict) -> None:
        self.cfg = cfg
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))

    def __call__(self, draw: SampledFrames, rng: np.random.Generator) -> PlainSample:
        """Read the frames and cut the crops.

        Raises:
            Rejected: the sample cannot be used.
        """
        data = self.cfg.DATA
        gray, mirror = rng.random() < option(self.cfg, "DATA.GRAY_PROBABILITY"), rng.random() < 0.5
        cuts = [self._cut(ref, data.TEMPLATE, gray, mirror, rng) for ref in draw.templates]
        cuts.append(self._cut(draw.search, data.SEARCH, gray, mirror, rng))
        jitter = option(self.cfg, "DATA.BRIGHTNESS_JITTER")
        factors = rng.uniform(1 - jitter, 1 + jitter, len(cuts)).astype(np.float32)
        crops = [
            ((crop * float(factor)).clamp(0.0, 1.0) - self.mean) / self.std
            for (crop, _, _), factor in zip(cuts, factors, strict=True)
        ]
        masks = [mask for _, mask, _ in cuts]
        sources = [ref.source for ref in (*draw.templates, draw.search)]
        return PlainSample(crops[:-1], masks[:-1], crops[-1], masks[-1], cuts[-1][2], sources)

    def _cut(self, ref: FrameRef, options: EasyDict, gray: bool, mirror: bool, rng: np.random.Generator):
        """One crop (3, H, W) in [0, 1], its padding mask (H, W) bool and the box xywh in fractions of the crop."""
        image = cv2.cvtColor(cv2.imread(ref.source), cv2.COLOR_BGR2RGB)
        box = torch.tensor(ref.dataset.info(ref.sequence).boxes[ref.frame], dtype=torch.float64)
        if gray:
            image = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3, axis=2)
        if mirror:
            image = np.fliplr(image).copy()
            box = torch.stack((image.shape[1] - box[0] - box[2], box[1], box[2], box[3]))
        around = _jitter(box, options, rng)
        side = math.ceil(math.sqrt(around[2] * around[3]) * options.FACTOR)
        if side < 1:
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


def _jitter(box: Tensor, options: EasyDict, rng: np.random.Generator) -> Tensor:
    """The box around which a region is cut."""
    size = box[2:] * torch.exp(torch.from_numpy(rng.standard_normal(2)) * options.SCALE_JITTER)
    offset = size.prod().sqrt() * options.CENTER_JITTER * (torch.from_numpy(rng.random(2)) - 0.5)
    return torch.cat((box[:2] + box[2:] / 2 + offset - size / 2, size))


class PlainStep:
    """One template after the other, fp32, contiguous, parameters one by one, numbers for the log in each step.

    Stage 2 runs the network but its box head, as the published code does, in training mode and with a graph where there
    are parameters that learn.

    Args:
        net: whose weights to begin with; a copy is trained.
        cfg: the effective configuration.
    """

    def __init__(self, net: nn.Module, cfg: EasyDict) -> None:
        self.net, self.cfg = copy.deepcopy(net).to(memory_format=torch.contiguous_format).train(), cfg
        groups = parameter_groups(self.net, cfg)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(
            groups, lr=cfg.TRAIN.LR, weight_decay=cfg.TRAIN.WEIGHT_DECAY, foreach=False, fused=False
        )

    def __call__(self, batch: Batch) -> float:
        """Train on a batch; gives the loss."""
        loss, values = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.cfg.TRAIN.GRAD_CLIP_NORM, foreach=False)
        self.optimizer.step()
        _ = {name: value.item() for name, value in values.items()}
        return loss.item()

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, a scalar with a graph, and its parts for the log."""
        parts = zip(batch.templates, batch.template_masks, batch.brightness, strict=False)
        templates = [self.net.encode_template(_normalised(self.cfg, *part)) for part in parts]
        search = _normalised(self.cfg, batch.search, batch.search_mask, batch.brightness[-1])
        search = self.net.encode_search(search)
        if self.cfg.TRAIN.get("TRAIN_CLS", False):
            tokens = join([*templates, search])
            hs, _ = self.net.transformer(tokens.feature, tokens.padding, tokens.position, self.net.query_embed.weight)
            logits = self.net.cls_head(hs).flatten()
            loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
            return loss, {"accuracy": ((logits > 0) == (batch.labels > 0.5)).float().mean()}
        truth = xywh_to_xyxy(batch.boxes).clamp(0, 1)
        prediction = self.net.predict(templates, search)["pred_boxes"]
        return box_losses(prediction, truth, self.cfg.TRAIN.GIOU_WEIGHT, self.cfg.TRAIN.L1_WEIGHT)


def _normalised(cfg: EasyDict, crops: Tensor, mask: Tensor, brightness: Tensor | None = None) -> NestedTensor:
    """Crops (B, H, W, 3) uint8 as normalised pixels (B, 3, H, W)."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.DATA.MEAN, cfg.DATA.STD))
    pixels = crops.permute(0, 3, 1, 2).contiguous().float() / 255
    if brightness is not None:
        pixels = (pixels * brightness.view(-1, 1, 1, 1)).clamp(0, 1)
    return NestedTensor((pixels - mean) / std, mask)
