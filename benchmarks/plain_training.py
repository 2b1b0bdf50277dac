"""The plain training step that fast ones are held against: as a research code writes it."""

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from benchmarks.plain import plain_network
from lib.models.stark import join
from lib.train.loader import Batch
from lib.train.losses import box_losses
from lib.train.optimiser import parameter_groups
from lib.utils.boxes import xywh_to_xyxy
from lib.utils.tensors import NestedTensor


class PlainStep:
    """One template after the other, fp32, contiguous, parameters one by one, numbers for the log in each step.

    Stage 2 runs the network but its box head, as the published code does, in training mode and with a graph where there
    are parameters that learn.

    Args:
        net: whose weights to begin with; a copy is trained.
        cfg: the effective configuration.
    """

    def __init__(self, net: nn.Module, cfg: EasyDict) -> None:
        self.net, self.cfg = plain_network(net).train(), cfg
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
        templates = []
        for crops, mask, brightness in zip(batch.templates, batch.template_masks, batch.brightness, strict=False):
            templates.append(self.net.encode_template(self._region(crops, mask, brightness)))
        search = self.net.encode_search(self._region(batch.search, batch.search_mask, batch.brightness[-1]))
        if self.cfg.TRAIN.get("TRAIN_CLS", False):
            tokens = join([*templates, search])
            hs, _ = self.net.transformer(tokens.feature, tokens.padding, tokens.position, self.net.query_embed.weight)
            logits = self.net.cls_head(hs).flatten()
            loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
            return loss, {"accuracy": ((logits > 0) == (batch.labels > 0.5)).float().mean()}
        truth = xywh_to_xyxy(batch.boxes).clamp(0, 1)
        prediction = self.net.predict(templates, search)["pred_boxes"]
        return box_losses(prediction, truth, self.cfg.TRAIN.GIOU_WEIGHT, self.cfg.TRAIN.L1_WEIGHT)

    def _region(self, crops: Tensor, mask: Tensor, brightness: Tensor) -> NestedTensor:
        """Crops (B, H, W, 3) uint8 as normalised pixels."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.cfg.DATA.MEAN, self.cfg.DATA.STD))
        pixels = (crops.permute(0, 3, 1, 2).contiguous().float() / 255 * brightness.view(-1, 1, 1, 1)).clamp(0, 1)
        return NestedTensor((pixels - mean) / std, mask)
