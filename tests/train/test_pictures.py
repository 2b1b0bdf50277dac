"""Figures of samples: what they show, and that TensorBoard has them."""

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib.train.loader import Batch
from lib.train.log import PANEL, RunLog, draw_sample, panel_figure
from lib.train.losses import Outcome


def batch_of(samples=3, templates=1, label=1.0, box=(0.25, 0.5, 0.25, 0.25)):
    """Grey crops: the templates of sample i are 40 + 10 i, its search region 80 + 10 i; they get brighter by a half."""
    grey = torch.arange(samples, dtype=torch.uint8)[:, None, None, None] * 10
    return Batch(
        templates=(40 + grey).expand(templates, samples, 64, 64, 3),
        template_masks=None,
        search=(80 + grey).expand(samples, 128, 128, 3),
        search_mask=None,
        boxes=torch.tensor([box]).expand(samples, 4),
        labels=torch.full((samples,), label),
        brightness=torch.full((templates + 1, samples), 1.5),
        sources=[[]] * samples,
        failures=[],
    )


def predicting(**what):
    return Outcome(torch.tensor(0.0), {}, **{name: torch.tensor(values) for name, values in what.items()})


def sample_axes(batch, outcome, number):
    count = len(batch.templates) + 1 + (outcome.maps is not None)
    axes = Figure().subplots(1, count, squeeze=False)[0]
    draw_sample(axes, batch, outcome, number)
    return axes


def drawn(axes):
    """Title and boxes, xyxy in fractions by colour (RGBA), of the search region."""
    axis = axes[-1]
    return axis.get_title(), {patch.get_edgecolor(): patch.get_bbox().extents.tolist() for patch in axis.patches}


GREEN, RED = (0.0, 1.0, 0.0, 1.0), (1.0, 0.0, 0.0, 1.0)


def test_templates_and_search_stand_side_by_side_with_their_brightness():
    axes = sample_axes(batch_of(templates=2), predicting(scores=[0.1, 0.2, 0.3]), 1)
    assert [axis.get_title() for axis in axes] == ["template", "dynamic template", "search: score 0.20"]
    shown = [axis.images[0].get_array() for axis in axes]
    assert [picture.shape for picture in shown] == [(64, 64, 3), (64, 64, 3), (128, 128, 3)]
    assert [set(picture.flat) for picture in shown] == [{75}, {75}, {135}]


def test_boxes_are_where_they_are_and_stay_in_sight():
    crossed = predicting(boxes=[[0.875, 0.375, 0.5, 0.125]])
    title, boxes = drawn(sample_axes(batch_of(1), crossed, 0))
    assert title == "search: IoU 0.00"
    assert boxes[GREEN] == pytest.approx([0.25, 0.5, 0.5, 0.75])
    assert boxes[RED] == pytest.approx([0.5, 0.125, 0.875, 0.375])
    beyond = batch_of(1, box=(-0.5, 0.5, 2.0, 0.25)), predicting(boxes=[[0.25, -0.2, 0.5, 1.2]])
    assert drawn(sample_axes(*beyond, 0))[1] == {GREEN: [0, 0.5, 1, 0.75], RED: [0.25, 0, 0.5, 1]}


def test_an_absent_object_has_no_box_but_a_score():
    assert drawn(sample_axes(batch_of(1, label=0.0), predicting(scores=[0.7]), 0)) == (
        "search, absent: score 0.70",
        {},
    )


@pytest.mark.parametrize(("count", "title"), [(1, "centre"), (2, "corners")])
def test_score_maps_lie_over_the_search_region_where_they_are_high(count, title):
    maps = torch.full((count, 2, 16), -9.0)
    maps[0, 1, 6] = 5.0  # second row, third column
    maps[-1, 1, 9] = 5.0
    axes = sample_axes(batch_of(2), predicting(boxes=[[0.25, 0.5, 0.5, 0.75]] * 2, maps=maps.tolist()), 1)
    assert axes[-1].get_title() == title
    shown = np.asarray(axes[-1].images[1].get_array())
    assert shown.shape == (4, 4)
    assert shown[[1, 2], [2, 1]] == pytest.approx(1)
    assert np.delete(shown.ravel(), [6, 9]).max() < 0.01
    attention = torch.eye(16)[[3, 8]].tolist()
    row = panel_figure([(batch_of(2), predicting(attention=attention, maps=maps.tolist()))]).axes
    assert [axis.get_title() for axis in row] == ["template", "search", "attention", title] * 2
    assert np.argmax(row[6].images[1].get_array()) == 8


def test_a_panel_of_the_first_sixteen_samples_lands_in_tensorboard(tmp_path):
    maps = torch.zeros(2, 6, 16).tolist()
    shown = [(batch_of(6), predicting(boxes=[[0.5, 0.125, 0.875, 0.375]] * 6, maps=maps))] * 3
    figure = panel_figure(shown)
    assert PANEL == 16
    assert [axis.get_title() for axis in figure.axes if axis.get_title() == "corners"] == ["corners"] * 16
    assert len(panel_figure([(batch_of(1), predicting(scores=[0.5]))]).axes) == 2
    log = RunLog(tmp_path, "a-b")
    log.pictures("val", 7, shown)
    log.close()
    reader = EventAccumulator(str(tmp_path / "tensorboard" / "a-b"))
    reader.Reload()
    assert reader.Tags()["images"] == ["val/samples"]
    (event,) = reader.Images("val/samples")
    assert event.step == 7
    assert Image.open(io.BytesIO(event.encoded_image_string)).width > 1000
