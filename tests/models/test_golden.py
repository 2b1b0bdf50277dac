"""The networks against the numbers of the published system."""

import copy

import numpy as np
import pytest
import torch

from lib.models.inference import fold_repvgg
from tests.golden_cases import (
    GOLDEN,
    VARIANTS,
    assert_numbers,
    golden,
    reference_inputs,
    reference_model,
    state_lines,
    training_numbers,
    undropped,
)


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
    name, model, inputs, expected = case
    numbers = training_numbers(name, undropped(name, model), *inputs)
    assert_numbers(numbers, expected, boxes=2e-5, losses=1e-3, gradients=1e-2)
    assert not any(n.startswith(("backbone.0.body.conv1", "backbone.0.body.layer1")) for n in numbers["gradients"])


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
