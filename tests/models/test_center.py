"""The head CENTER and the correlation hint: what is picked, what the loss wants."""

import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.models import build_model
from lib.models.heads import CenterPredictor
from lib.models.stark_lightning import Correlation
from lib.train.losses import center_losses, center_target
from lib.train.processing import jitter_box

SCRIPT = "stark_lightning_X_trt"


def test_only_the_named_stages_of_the_backbone_learn():
    cfg = load_config(SCRIPT, "mini")
    body = build_model(SCRIPT, cfg).backbone.body
    learning = {name.rsplit(".", 2)[0] for name, p in body.named_parameters() if p.requires_grad}
    assert learning == set(cfg.TRAIN.BACKBONE_TRAINED_LAYERS)


def test_a_head_at_its_start_says_the_usual_box_in_each_cell():
    head = CenterPredictor(8, 8, 4, 0.25).eval()
    _, boxes = head.cells(torch.randn(1, 8, 4, 4))
    assert torch.allclose(boxes[0, 0], torch.tensor((0.125, 0.125, 0.25, 0.25)))
    assert torch.allclose(boxes[0, 7], torch.tensor((0.875, 0.375, 0.25, 0.25)))


def test_the_box_is_the_mean_of_the_likeliest_cell_and_its_neighbours():
    head = CenterPredictor(8, 8, 4, 0.25).eval()
    boxes, scores = torch.rand(2, 16, 4), torch.full((2, 16), -9.0)
    scores[0, 5] = scores[1, 15] = 3
    scores[0, 6], scores[0, 12] = 2, 2.5  # a neighbour, and a cell that is none
    found, logit = head.best(scores, boxes)
    weights = torch.tensor((3.0, 2.0)).softmax(0)
    assert torch.allclose(found[0], weights[0] * boxes[0, 5] + weights[1] * boxes[0, 6], atol=1e-4)
    assert torch.allclose(found[1], boxes[1, 15], atol=1e-4)
    likely = scores.softmax(1)
    assert logit.sigmoid()[0, 0] == pytest.approx(1 - float(likely[0, 12]), abs=1e-4)
    assert logit.sigmoid()[1, 0] == pytest.approx(1, abs=1e-4)


def test_of_two_cells_alike_the_window_prefers_the_middle_but_not_while_learning():
    head, boxes = CenterPredictor(8, 8, 6, 0.25, window=0.5), torch.arange(36.0)[None, :, None].expand(1, 36, 4)
    scores = torch.zeros(1, 36)
    scores[0, 0], scores[0, 21] = 50, 49
    assert head.eval().best(scores, boxes)[0][0, 0] == pytest.approx(21)
    assert head.train().best(scores, boxes)[0][0, 0] == pytest.approx(0)


def test_the_centres_target_is_a_distribution_about_the_centre():
    truth = torch.tensor(((0.1, 0.5, 0.3, 0.9), (0.6, 0.6, 0.6, 0.6)))  # the second has no area
    target = center_target(truth, 10).view(2, 10, 10)
    assert torch.allclose(target.sum((1, 2)), torch.ones(2))
    cells = (torch.arange(10) + 0.5) / 10
    assert (target[0].sum(0) * cells).sum() == pytest.approx(0.2, abs=0.01)  # x
    assert (target[0].sum(1) * cells).sum() == pytest.approx(0.7, abs=0.01)  # y
    assert target[0].sum(1).max() < target[0].sum(0).max()  # taller than wide: spread further in y


def test_the_loss_falls_with_the_right_cell_and_the_right_box():
    truth = torch.tensor(((0.4, 0.4, 0.6, 0.8),))
    right = torch.tensor((0.5, 0.6, 0.2, 0.4)).expand(1, 100, 4)
    scores = 10 * center_target(truth, 10)

    def loss(scores, boxes):
        output = {"scores": scores, "cell_boxes": boxes, "pred_boxes": boxes[:, :1]}
        return center_losses(output, truth, 2.0, 5.0, 1.0)

    best, values = loss(scores, right)
    assert values["IoU"] == pytest.approx(1)
    assert values["Loss/giou"] == pytest.approx(0, abs=1e-6)
    assert loss(scores, right + 0.05)[0] > best
    assert loss(scores.roll(33, 1), right)[0] > best


def test_the_hint_knows_which_template_token_a_search_token_is():
    hint = Correlation(4, 4)
    with torch.no_grad():
        hint.embed.weight.copy_(torch.eye(4))
        hint.embed.bias.zero_()
    template = torch.eye(4)[None] * 3
    search = 7 * template[:, (2, 0)]
    added = hint(template, search) - search
    assert torch.allclose(added, torch.eye(4)[None][:, (2, 0)], atol=1e-6)


def test_a_jitter_of_higher_power_stays_nearer_with_the_same_reach():
    box, offsets = np.array((0.0, 0.0, 10.0, 10.0)), {}
    for power in (1.0, 3.0):
        rng = np.random.default_rng(0)
        moved = np.array([jitter_box(box, 4.0, 0.0, rng, power)[:2] for _ in range(2000)])
        offsets[power] = np.abs(moved)
        assert 19 < offsets[power].max() <= 20  # half of 4 times the side
    assert np.median(offsets[1.0]) == pytest.approx(10, rel=0.1)
    assert np.median(offsets[3.0]) == pytest.approx(20 / 8, rel=0.2)
