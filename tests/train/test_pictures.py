"""Pictures of samples: what they show, and that TensorBoard has them."""

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib.train.loader import Batch
from lib.train.log import CAPTION_HEIGHT, PREDICTION, TRUTH, RunLog, sample_pictures
from lib.train.losses import Outcome

SIZE = 320


def batch_of(samples=3, templates=1, search=SIZE, label=1.0, box=(0.25, 0.5, 0.25, 0.25)):
    """Grey crops: the templates of sample i are 40 + 10 i, its search region 80 + 10 i."""
    grey = torch.arange(samples, dtype=torch.uint8)[:, None, None, None] * 10
    return Batch(
        templates=(40 + grey).expand(templates, samples, 128, 128, 3),
        template_masks=None,
        search=(80 + grey).expand(samples, search, search, 3),
        search_mask=None,
        boxes=torch.tensor([box]).expand(samples, 4),
        labels=torch.full((samples,), label),
        brightness=torch.ones(templates + 1, samples),
        sources=[[]] * samples,
        failures=[],
    )


def predicting(*boxes):
    return Outcome(torch.tensor(0.0), {}, boxes=torch.tensor(boxes))


def extent(picture, colour):
    """Of a colour in the search region, xyxy in pixels (inclusive); None where it does not show."""
    search = picture[CAPTION_HEIGHT:, -SIZE:].astype(int)
    ys, xs = np.nonzero(np.abs(search - colour).sum(-1) < 60)
    return None if len(xs) == 0 else (xs.min(), ys.min(), xs.max(), ys.max())


def test_strips_show_templates_and_search_side_by_side():
    pictures = sample_pictures(batch_of(templates=2), predicting(*[[0.1, 0.1, 0.2, 0.2]] * 3), limit=2)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (2, SIZE + CAPTION_HEIGHT, 3 * SIZE + 8, 3)
    y = CAPTION_HEIGHT + 10
    for i, picture in enumerate(pictures):
        greys = [40 + 10 * i, 40 + 10 * i, 80 + 10 * i]
        assert [picture[y, x].tolist() for x in (10, SIZE + 14, 2 * SIZE + 18)] == [[grey] * 3 for grey in greys]


def test_boxes_are_where_they_are():
    outcome = predicting([0.5, 0.125, 0.875, 0.375], [0.875, 0.375, 0.5, 0.125])
    for picture in sample_pictures(batch_of(2), outcome):  # the second has its corners crossed
        assert extent(picture, TRUTH) == pytest.approx((80, 160, 160, 240), abs=2)
        assert extent(picture, PREDICTION) == pytest.approx((160, 40, 280, 120), abs=2)


def test_boxes_beyond_the_crop_stay_in_sight_and_brightness_is_that_of_the_network():
    batch = batch_of(1, box=(-0.5, 0.5, 2.0, 0.25))
    batch.search = torch.full_like(batch.search, 220)
    batch.brightness = torch.tensor([[0.8], [1.2]])
    picture = sample_pictures(batch, predicting([0.25, -0.2, 0.5, 1.2]))[0]
    assert extent(picture, TRUTH) == pytest.approx((0, 160, 319, 240), abs=2)
    assert extent(picture, PREDICTION) == pytest.approx((80, 0, 160, 319), abs=2)
    assert picture[CAPTION_HEIGHT + 10, 10].tolist() == [32] * 3
    assert picture[CAPTION_HEIGHT + 10, -10].tolist() == [255] * 3


def test_an_absent_object_has_no_box_but_a_score():
    def picture(label, score):
        return sample_pictures(batch_of(1, label=label), Outcome(torch.tensor(0.0), {}, scores=torch.tensor([score])))[
            0
        ]

    present, absent, other_score = picture(1.0, 0.7), picture(0.0, 0.7), picture(0.0, 0.1)
    assert extent(present, TRUTH) is not None
    assert extent(absent, TRUTH) is None
    changed = np.nonzero((absent != other_score).any(-1))
    assert changed[0].max() < CAPTION_HEIGHT
    assert changed[1].min() > SIZE


def test_pictures_land_in_tensorboard(tmp_path):
    batch, outcome = batch_of(3), predicting(*[[0.5, 0.125, 0.875, 0.375]] * 3)
    log = RunLog(tmp_path, "a-b")
    log.pictures("val", 7, batch, outcome, limit=2)
    log.close()
    reader = EventAccumulator(str(tmp_path / "tensorboard" / "a-b"))
    reader.Reload()
    assert reader.Tags()["images"] == ["val/sample 1", "val/sample 2"]
    for tag, expected in zip(reader.Tags()["images"], sample_pictures(batch, outcome), strict=False):
        (image,) = reader.Images(tag)
        assert (image.step, image.height, image.width) == (7, *expected.shape[:2])
        decoded = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), expected)
