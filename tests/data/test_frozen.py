"""Fixed points of the data: a sample's key gives the same bytes for good."""

import hashlib
import json

import cv2
import numpy as np
import pytest

from lib.config import load_config
from lib.data.registry import build_dataset
from lib.train.loader import SampleStream
from lib.train.processing import Processing
from lib.train.sampler import FrameSampler
from tests.data.made_trees import write_lines


def frame(seed):
    """A picture of 200x150 without loss in PNG, so that no decoder has a say."""
    return np.random.default_rng(seed).integers(0, 256, (150, 200, 3), dtype=np.uint8)


def make_videos(root):
    """GOT-10k's layout: three videos of 30 frames; objects cross the border, are hidden, or have no box at times."""
    for video in range(3):
        folder = root / f"video{video}"
        folder.mkdir(parents=True)
        lines = []
        for number in range(30):
            cv2.imwrite(str(folder / f"{number + 1:08d}.png"), frame(100 * video + number))
            box = f"{20 + 5 * number - 30 * video},{15 * video + 2.5 * number},{30 + number},{45 - number}"
            lines.append("nan,nan,nan,nan" if number % 11 == 7 else box)
        write_lines(folder / "groundtruth.txt", lines)
        write_lines(folder / "absence.label", [int(number % 13 == 5) for number in range(30)])
        write_lines(folder / "cover.label", [number % 9 for number in range(30)])
    write_lines(root / "list.txt", ["video2", "video0", "video1"])
    return f"FOLDER:{root}"


def make_photographs(root):
    """COCO's layout: twelve images of one to three objects, of which one is a crowd."""
    (root / "images/train2017").mkdir(parents=True)
    images, annotations = [], []
    for number in range(12):
        cv2.imwrite(str(root / f"images/train2017/{number}.png"), frame(1000 + number))
        images.append({"id": number, "file_name": f"{number}.png", "height": 150, "width": 200})
        for part in range(1 + number % 3):
            box = [10.5 + 40 * part, 5 + 6 * number, 35 - 2 * part, 20.25 + number]
            annotations.append({"id": len(annotations), "image_id": number, "bbox": box, "iscrowd": part // 2})
    (root / "annotations").mkdir()
    content = {"images": images, "annotations": annotations, "categories": []}
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return f"COCO:{root}"


def digest(name, root, seed):
    """Hash of samples: frames, label, brightness and box to six digits, crops and masks byte by byte."""
    cfg = load_config("stark_st1", "baseline", [])
    sampler = FrameSampler([build_dataset(name)], [1], "trident_pro", [10], negatives=seed == 1)
    samples = SampleStream(sampler, Processing(cfg, augment=True), seed, stream=0)
    found = hashlib.sha256()
    for index in range(60):
        sample = samples[1 + index % 2, index]
        sources = [source.removeprefix(str(root)) for source in sample.sources]
        numbers = [f"{value:.6f}" for value in (*sample.box, *sample.brightness, sample.label)]
        found.update(json.dumps([sources, numbers]).encode())
        for array in (sample.templates, sample.template_masks, sample.search, sample.search_mask):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize(
    ("make", "seed", "expected"),
    [
        (make_videos, 1, "110dd61287cbb803"),
        (make_videos, 42, "44b408306d99d908"),
        (make_photographs, 1, "e820680d7bd69333"),
        (make_photographs, 42, "4afbb9d814a5e25c"),
    ],
)
def test_a_key_gives_the_sample_that_it_always_gave(make, seed, expected, tmp_path):
    assert digest(make(tmp_path / "set"), tmp_path, seed) == expected
