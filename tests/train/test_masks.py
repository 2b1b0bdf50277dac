"""Training of masks: data sets that have them, crops, the loss, whole runs."""

import json

import cv2
import numpy as np
import pytest
import torch

from lib.config import load_config
from lib.data.images import ImageReadError
from lib.data.registry import build_dataset, pack
from lib.test.tracker.classic import StillTracker
from lib.test.tracker.refiner import with_masks
from lib.train.checks import check_run
from lib.train.loader import SampleStream
from lib.train.losses import MaskActor, mask_iou
from lib.train.options import RunOptions
from lib.train.processing import MaskProcessing
from lib.train.run import train
from lib.train.sampler import FrameSampler
from lib.utils.checkpoint import load_checkpoint
from lib.utils.errors import UserError
from tests.data.made_trees import davis_part, make_davis, make_got10k, make_outlined_coco, shows, write_image
from tests.train.tiny_runs import extent


def test_outlines_become_masks(tmp_path):
    dataset = build_dataset(f"COCO_masks:{make_outlined_coco(tmp_path)}")
    assert (len(dataset), dataset.is_video) == (6, False)
    for i in range(6):
        mask, image, (x, y, w, h) = dataset.mask(i, 0), dataset.image(i, 0), dataset.info(i).boxes[0]
        assert mask.shape == image.shape[:2]
        np.testing.assert_allclose(extent(mask), [x, y, x + w, y + h], atol=1)
        assert mask.sum() == pytest.approx(w * h / (1 if i % 2 else 2), rel=0.06)
        assert image[mask].mean() > 120  # the objects are bright


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"segmentation": [[1, 2, 3]]}, "segmentation of annotation None is not polygons"),
        ({"segmentation": []}, "no object with an outline of at least 16 pixels"),
        ({"image_id": 77}, "image id 77, and no image has it"),
    ],
)
def test_outlines_that_are_none_are_named(tmp_path, change, part):
    root = make_outlined_coco(tmp_path, images=1)
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"] = [content["annotations"][0] | change]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=part):
        build_dataset(f"COCO_masks:{root}")


@pytest.mark.parametrize("resolution", ["480p/", ""])
def test_videos_with_masks(tmp_path, resolution):
    root = make_davis(tmp_path, resolution)
    dataset = build_dataset(f"DAVIS:{root}")
    assert (len(dataset), dataset.is_video) == (4, True)
    for sequence in range(4):
        video, label = divmod(sequence, 2)
        info = dataset.info(sequence)
        assert info.visible.tolist() == [True, True, True, label == 0]  # the image without a mask does not count
        for frame in range(4):
            wanted = np.zeros((16, 24), bool)
            wanted[davis_part(video, frame, label + 1)] = True
            assert (dataset.mask(sequence, frame) == wanted).all()
            assert shows(dataset.image(sequence, frame), video, frame)
        rows, columns = davis_part(video, 1, label + 1)
        assert info.boxes[1].tolist() == [columns.start, rows.start, 6, 5]


def test_white_masks_are_one_object_and_beside_others_none(tmp_path):
    write_image(tmp_path / "JPEGImages/a/0.jpg", 0, 0)
    file = tmp_path / "Annotations/a/0.png"
    file.parent.mkdir(parents=True)
    white = np.zeros((16, 24, 3), np.uint8)
    white[3:6, 4:9] = 255
    beside = white.copy()
    beside[8:12, 2:4] = (0, 0, 128)
    for picture, box in ((white[..., 0], [4, 3, 5, 3]), (beside, [2, 8, 2, 4])):
        cv2.imwrite(str(file), picture)
        dataset = build_dataset(f"DAVIS:{tmp_path}")
        assert len(dataset) == 1
        assert dataset.info(0).boxes.tolist() == [box]


def test_splits_of_davis_and_what_lacks_of_masked_videos_is_named(tmp_path):
    root = make_davis(tmp_path / "davis")
    for split, video in (("train", 0), ("val", 1)):
        dataset = build_dataset(f"DAVIS17_{split}", tmp_path)
        assert len(dataset) == 2
        assert shows(dataset.image(0, 0), video, 0)
    pack("DAVIS17_train", tmp_path, progress=False)
    assert (build_dataset("DAVIS17_val", tmp_path, use_lmdb=True).mask(1, 2) == dataset.mask(1, 2)).all()
    (root / "JPEGImages/480p/bear/00002.jpg").unlink()
    dataset = build_dataset(f"DAVIS:{root}")
    with pytest.raises(UserError, match="00002.png is the mask of a missing image"):
        dataset.info(0)
    (root / "Annotations/480p/kite/00001.png").write_bytes(b"nothing")
    with pytest.raises(ImageReadError, match="00001.png"):
        dataset.info(2)
    with pytest.raises(UserError, match="JPEGImages"):
        build_dataset(f"DAVIS:{root / 'Annotations'}")


def test_the_mask_and_the_boxes_lie_on_the_object_in_the_crops(tmp_path):
    sizes = [f"DATA.{region}.SIZE=64" for region in ("SEARCH", "TEMPLATE")]
    cfg = load_config("alpha_refine", "small", [*sizes, "DATA.BRIGHTNESS_JITTER=0"])
    sampler = FrameSampler([build_dataset(f"COCO_masks:{make_outlined_coco(tmp_path)}")], [1], "causal", [2])
    samples = SampleStream(sampler, MaskProcessing(cfg, augment=True), 3, 0)
    for index in range(40):
        sample = samples[(1, index)]
        assert sample.search.shape == (64, 64, 3)
        assert sample.object_mask.dtype == bool
        bright = sample.search.min(2) > 60
        assert (bright & sample.object_mask).sum() > 0.85 * sample.object_mask.sum()
        x, y, w, h = sample.box * 64
        assert np.abs(extent(sample.object_mask) - np.clip([x, y, x + w, y + h], 0, 64)).max() < 4.5
        np.testing.assert_allclose(sample.template_box, [15.5, 15.5, 32, 32], atol=0.5)
        assert sample.templates[0, 18:22, 30:34].min(-1).mean() > 60  # the reference shows the object's inside
    for path in (tmp_path / "images/train2017").iterdir():
        cv2.imwrite(str(path), np.zeros((50, 64, 3), np.uint8))
    assert ".jpg is 64x50, and its mask 64x48" in str(samples[(1, 0)])


def test_overlap_of_masks():
    a, b = torch.zeros(3, 4, 4, dtype=torch.bool), torch.zeros(3, 4, 4, dtype=torch.bool)
    a[0, :2], b[0, 1:3], b[1, 0, 0] = True, True, True
    assert mask_iou(a, b).tolist() == pytest.approx([4 / 12, 0, 0])


def options(root, folder, *more):
    sets = (f"DATA.{part}.DATASETS_NAME=['COCO_masks:{root}']" for part in ("TRAIN", "VAL"))
    tiny = ("MODEL.BACKBONE.PRETRAINED=false", "DATA.SEARCH.SIZE=64", "DATA.TEMPLATE.SIZE=64", "TRAIN.NUM_WORKER=0")
    sizes = ("DATA.TRAIN.SAMPLE_PER_EPOCH=8", "DATA.VAL.SAMPLE_PER_EPOCH=4", "TRAIN.BATCH_SIZE=4", "TRAIN.AMP=off")
    return RunOptions("alpha_refine", "small", folder, device="cpu", overrides=(*sets, *tiny, *sizes, *more))


def test_a_run_learns_stops_goes_on_and_its_checkpoint_makes_masks(tmp_path):
    root = make_outlined_coco(tmp_path / "coco")
    first = train(options(root, tmp_path, "TRAIN.EPOCH=1"))["train"]["Loss/total"]
    stats = train(options(root, tmp_path, "TRAIN.EPOCH=6"))
    assert stats["train"]["Loss/total"] < 0.8 * first
    assert set(stats["val"]) == set(MaskActor.measures)
    path = tmp_path / "checkpoints/train/alpha_refine/small/AlphaRefine_ep0006.pth.tar"
    saved = load_checkpoint(path)
    assert saved["net_type"] == "AlphaRefine"
    rest, backbone = (group["lr"] for group in saved["optimizer"]["param_groups"])
    assert backbone == pytest.approx(0.1 * rest)
    dataset = build_dataset(f"COCO_masks:{root}")
    tracker = with_masks(StillTracker(), "small", path, "cpu")
    tracker.initialize(dataset.image(0, 0), {"init_bbox": dataset.info(0).boxes[0].tolist()})
    result = tracker.track(dataset.image(0, 0))
    assert result["mask"].shape == (48, 64)
    assert result["mask"].dtype == bool


def test_sets_without_masks_are_found_before_training(tmp_path):
    root = make_got10k(tmp_path / "videos", ["a", "b"], frames=24)
    run = options("-", tmp_path, f"DATA.TRAIN.DATASETS_NAME=['FOLDER:{root}']", "DATA.VAL.DATASETS_NAME=[]")
    report = check_run(run, load_config(run.script, run.config, run.overrides))
    (problem,) = [finding.text for finding in report.findings if finding.state == "problem"]
    assert problem.startswith("has no masks: name sets with masks")
