"""Metrics: the published numbers, and the conventions that they do not reach."""

from pathlib import Path

import numpy as np
import pytest

from lib.test.analysis.metrics import sequence_scores
from lib.utils.errors import UserError
from tests.data.made_sets import moving_boxes

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "metrics.npz"
KEYS = ["success_curve", "precision_curve", "norm_precision_curve", "auc", "op50", "op75", "precision"]
KEYS += ["norm_precision", "mean_overlap_valid"]


@pytest.mark.parametrize("kind", ["otb", "lasot", "uav", "got10k"])
def test_scores_are_the_published_ones(kind):
    reference = np.load(GOLDEN)
    visible = reference["lasot.visible"] if kind == "lasot" else None
    scores = sequence_scores(reference[f"{kind}.pred"], reference[f"{kind}.gt"], kind, visible)
    assert set(scores) == set(KEYS)
    for key in KEYS:
        np.testing.assert_allclose(scores[key], reference[f"{kind}.{key}"], rtol=0, atol=1e-4, err_msg=key)


def test_a_box_without_area_repeats_the_one_before():
    truth = np.tile([10.0, 10, 20, 20], (5, 1))
    prediction = truth + np.array([[0, 0, 0, 0]] + [[4, 0, 0, 0]] * 4)
    expected = sequence_scores(prediction, truth, "got10k")
    prediction[3:] = [[90, 90, 0, 7], [0, 0, 0, 0]]
    scores = sequence_scores(prediction, truth, "got10k")
    assert all(scores[key] == expected[key] for key in ("auc", "mean_overlap_valid"))


@pytest.mark.parametrize(("dataset", "precision"), [("otb", 60), ("uav", 100)])
def test_frames_without_a_box_fail_unless_excluded(dataset, precision):
    truth = moving_boxes(5)
    prediction = truth.copy()
    truth[2:4] = [[np.nan] * 4, [5, 5, 0, 9]]
    scores = sequence_scores(prediction, truth, dataset)
    assert scores["success_curve"][0] == 0.6
    assert (scores["precision"], scores["norm_precision"], scores["mean_overlap_valid"]) == (precision, 100, 1)
    assert sequence_scores(prediction, truth, dataset, exclude_invalid=True)["success_curve"][0] == 1
    nothing = sequence_scores(prediction, truth * np.nan, dataset, exclude_invalid=True)
    assert np.isnan(nothing["mean_overlap_valid"])
    assert nothing["auc"] == 0


@pytest.mark.parametrize("dataset", ["lasot", "lasot_lmdb", "lasot_ext"])
def test_lasot_is_strict_about_invisible_frames_and_short_results(dataset):
    truth = moving_boxes(10)
    visible = np.arange(10) < 8
    scores = sequence_scores(truth, truth, dataset, visible)
    assert scores["op50"] == scores["precision"] == scores["norm_precision"] == 80
    assert sequence_scores(truth, truth, "got10k_val", visible)["op50"] == 100
    with pytest.raises(UserError, match="7 boxes and the ground truth 10"):
        sequence_scores(truth[:7], truth, dataset)
    assert sequence_scores(truth[:7], truth, "otb")["op50"] == 70
    assert sequence_scores(truth, truth[:6], dataset)["op50"] == 100


def test_an_invalid_prediction_is_refused_by_its_line():
    prediction = moving_boxes(6)
    for prediction[4, 2] in (np.nan, np.inf, -3):
        with pytest.raises(UserError, match="line 5"):
            sequence_scores(prediction, moving_boxes(6), "otb")
