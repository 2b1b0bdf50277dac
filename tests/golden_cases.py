"""The reference networks and their inputs, as `golden/README.md` describes them."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lib.config import load_config
from lib.models import build_model
from lib.utils.tensors import (
    NestedTensor,
    box_iou,
    cxcywh_to_xyxy,
    generalized_box_iou,
    sort_corners,
    xywh_to_xyxy,
)
from tests.golden.fill import fill, normal, padded_mask, uniform

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = {
    "stark_s50": ("stark_s", "baseline", 1),
    "stark_st50": ("stark_st2", "baseline", 2),
    "stark_st101": ("stark_st2", "baseline_R101", 2),
    "stark_lightning": ("stark_lightning_X_trt", "baseline_rephead_4_lite_search5", 1),
}


def reference_model(variant: str, overrides: tuple[str, ...] = ()) -> nn.Module:
    """A variant with the reference weights, in training mode."""
    script, config, _ = VARIANTS[variant]
    return fill(build_model(script, load_config(script, config, overrides)))


def reference_inputs(variant: str) -> tuple[list[NestedTensor], NestedTensor]:
    """Templates and search region of the forward-pass references, batch of 2."""

    def region(name: str, mask: str, size: int) -> NestedTensor:
        return NestedTensor(normal(f"{variant}.{name}", (2, 3, size, size)), padded_mask(f"{variant}.{mask}", 2, size))

    templates = [region(f"template{i}", f"template_mask{i}", 128) for i in range(VARIANTS[variant][2])]
    return templates, region("search", "search_mask", 320)


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of one reference file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def state_lines(model: nn.Module) -> list[str]:
    """A network's state dict as the reference files have it: name, type and shape of every entry."""
    return [
        f"{name}\t{str(value.dtype).removeprefix('torch.')}\t{'x'.join(map(str, value.shape)) or 'scalar'}"
        for name, value in model.state_dict().items()
    ]


def undropped(variant: str, model: nn.Module) -> nn.Module:
    """A copy in training mode, without dropout."""
    script, config, _ = VARIANTS[variant]
    copy = build_model(script, load_config(script, config, ["MODEL.TRANSFORMER.DROPOUT=0"]))
    copy.load_state_dict(model.state_dict())
    return copy.train()


def training_numbers(
    variant: str,
    model: nn.Module,
    templates: list[NestedTensor],
    search: NestedTensor,
    arithmetic: AbstractContextManager | None = None,
) -> dict:
    """The numbers of a step that the references have, under their names; `gradients` has norms by parameter.

    `arithmetic` is that of the forward pass.
    """
    with arithmetic or nullcontext():
        out = model(templates, search)
    device = out["pred_boxes"].device
    predicted = cxcywh_to_xyxy(out["pred_boxes"].float()).view(-1, 4)
    truth = xywh_to_xyxy(uniform(f"{variant}.gt_box", (2, 4), 0.2, 0.4)).clamp(0, 1).to(device)
    giou, _ = generalized_box_iou(sort_corners(predicted), truth)
    giou_loss, l1_loss = (1 - giou).mean(), F.l1_loss(predicted, truth)
    total = 2 * giou_loss + 5 * l1_loss
    total.backward(retain_graph="pred_logits" in out)
    numbers = {
        "train_pred_boxes": out["pred_boxes"].detach().float().cpu().numpy(),
        "train_iou": box_iou(sort_corners(predicted), truth)[0].detach().cpu().numpy(),
        "train_giou_loss": giou_loss.item(),
        "train_l1_loss": l1_loss.item(),
        "train_total_loss": total.item(),
        "gradients": {n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None},
    }
    numbers["grad_norm_total"] = np.sqrt(sum(norm**2 for norm in numbers["gradients"].values()))
    if "pred_logits" in out:
        model.zero_grad()
        labels = torch.tensor([1.0, 0.0], device=device)
        loss = F.binary_cross_entropy_with_logits(out["pred_logits"].float().view(-1), labels)
        loss.backward()
        norms = [p.grad.norm().item() for n, p in model.named_parameters() if n.startswith("cls_head")]
        numbers |= {"train_cls_loss": loss.item(), "cls_head_grad_norm": np.sqrt(np.square(norms).sum())}
    return numbers


def assert_numbers(numbers: dict, expected: dict, boxes: float, losses: float, gradients: float) -> None:
    """Numbers of `training_numbers` are those of a reference.

    Args:
        boxes: absolute bound, in fractions of the crop.
        losses, gradients: relative bounds.
    """
    found = numbers["train_pred_boxes"].reshape(expected["train_pred_boxes"].shape)
    np.testing.assert_allclose(found, expected["train_pred_boxes"], atol=boxes)
    names = ["train_iou", "train_giou_loss", "train_l1_loss", "train_total_loss", "train_cls_loss"]
    for name in names[: 5 if "train_cls_loss" in numbers else 4]:
        np.testing.assert_allclose(numbers[name], expected[name], rtol=losses, err_msg=name)
    for name in ("grad_norm_total", "cls_head_grad_norm")[: 2 if "train_cls_loss" in numbers else 1]:
        np.testing.assert_allclose(numbers[name], expected[name], rtol=gradients, err_msg=name)
    for name, norm in zip(expected["grad_norm_names"], expected["grad_norms"], strict=True):
        # A bias in front of a batch norm has a gradient of zero but for rounding.
        np.testing.assert_allclose(numbers["gradients"][name], norm, rtol=gradients, atol=1e-5, err_msg=name)
