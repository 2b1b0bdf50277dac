"""The networks against the numbers of the published system."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lib.config import load_config
from lib.models import build_model
from lib.models.inference import fold_repvgg
from lib.utils.tensors import box_iou, cxcywh_to_xyxy, generalized_box_iou, sort_corners, xywh_to_xyxy
from tests.golden.fill import uniform
from tests.golden_cases import GOLDEN, VARIANTS, golden, reference_inputs, reference_model, state_lines


@pytest.fixture(scope="module", params=list(VARIANTS))
def case(request):
    """A variant's name, its reference network, inputs and numbers."""
    return request.param, reference_model(request.param), reference_inputs(request.param), golden(request.param)


def test_state_dict_is_the_published_one(case):
    name, model, *_ = case
    assert state_lines(model) == (GOLDEN / f"{name}.state_dict.txt").read_text().splitlines()


def test_evaluation_outputs(case):
    _, model, (templates, search), expected = case
    model.eval()
    with torch.no_grad():
        tokens = model.encode_search(search)
        out = model(templates, search)
    assert (tokens.padding.numpy() == expected["search_mask_down"]).all()
    feature, position = tokens.feature.transpose(0, 1), tokens.position.expand(2, -1, -1).transpose(0, 1)
    # Random weights make features of thousands: the tolerance is a part of the largest.
    largest = np.abs(expected["search_feature_head"]).max()
    np.testing.assert_allclose(feature[:4, :, :8], expected["search_feature_head"], atol=2e-5 * largest)
    np.testing.assert_allclose(position[-4:, :, :8], expected["search_pos_head"], atol=2e-5)
    np.testing.assert_allclose(out["pred_boxes"].view(expected["pred_boxes"].shape), expected["pred_boxes"], atol=2e-5)
    if "pred_logits" in expected:
        np.testing.assert_allclose(out["pred_logits"], expected["pred_logits"], atol=2e-5)


def test_training_losses_and_gradients(case):
    name, model, (templates, search), expected = case
    script, config, _ = VARIANTS[name]
    model = build_model(script, load_config(script, config, ["MODEL.TRANSFORMER.DROPOUT=0"]))
    model.load_state_dict(case[1].state_dict())
    model.train()
    out = model(templates, search)
    boxes = out["pred_boxes"].detach().view(expected["train_pred_boxes"].shape)
    np.testing.assert_allclose(boxes, expected["train_pred_boxes"], atol=2e-5)
    predicted = cxcywh_to_xyxy(out["pred_boxes"]).view(-1, 4)
    truth = xywh_to_xyxy(uniform(f"{name}.gt_box", (2, 4), 0.2, 0.4)).clamp(0, 1)
    giou, _ = generalized_box_iou(sort_corners(predicted), truth)
    giou_loss, l1_loss = (1 - giou).mean(), F.l1_loss(predicted, truth)
    np.testing.assert_allclose(box_iou(sort_corners(predicted), truth)[0].detach(), expected["train_iou"], rtol=1e-3)
    np.testing.assert_allclose(giou_loss.item(), expected["train_giou_loss"], rtol=1e-3)
    np.testing.assert_allclose(l1_loss.item(), expected["train_l1_loss"], rtol=1e-3)
    total = 2 * giou_loss + 5 * l1_loss
    np.testing.assert_allclose(total.item(), expected["train_total_loss"], rtol=1e-3)
    total.backward(retain_graph="pred_logits" in out)
    gradients = {n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None}
    np.testing.assert_allclose(np.sqrt(sum(g**2 for g in gradients.values())), expected["grad_norm_total"], rtol=1e-2)
    for parameter, norm in zip(expected["grad_norm_names"], expected["grad_norms"], strict=True):
        # A bias in front of a batch norm has a gradient of zero but for rounding.
        np.testing.assert_allclose(gradients[parameter], norm, rtol=1e-2, atol=1e-5)
    assert not [name for name in gradients if name.startswith(("backbone.0.body.conv1", "backbone.0.body.layer1"))]
    if "pred_logits" in out:
        model.zero_grad()
        loss = F.binary_cross_entropy_with_logits(out["pred_logits"].view(-1), torch.tensor([1.0, 0.0]))
        np.testing.assert_allclose(loss.item(), expected["train_cls_loss"], rtol=1e-3)
        loss.backward()
        norms = [p.grad.norm().item() for n, p in model.named_parameters() if n.startswith("cls_head")]
        np.testing.assert_allclose(np.sqrt(np.square(norms).sum()), expected["cls_head_grad_norm"], rtol=1e-2)


def test_folded_lightning_is_the_same_network():
    model = reference_model("stark_lightning").eval()
    folded = fold_repvgg(copy.deepcopy(model))
    assert state_lines(folded) == (GOLDEN / "stark_lightning_deploy.state_dict.txt").read_text().splitlines()
    templates, search = reference_inputs("stark_lightning")
    with torch.no_grad():
        a, b = model(templates, search), folded(templates, search)
    np.testing.assert_allclose(a["pred_boxes"], b["pred_boxes"], atol=2e-5)
    np.testing.assert_allclose(b["pred_boxes"].reshape(2, 4), golden("stark_lightning")["pred_boxes"], atol=2e-5)
    assert state_lines(fold_repvgg(folded)) == state_lines(folded)
