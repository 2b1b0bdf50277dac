"""Samples from partly decoded JPEG frames equal those from whole frames."""

import cv2
import numpy as np
import pytest

from lib.config import load_config
from lib.data import images
from lib.data.registry import build_dataset
from lib.train.loader import SampleStream
from lib.train.processing import Processing
from lib.train.sampler import FrameSampler
from tests.data.made_trees import write_lines


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory):
    """A video of 1280x960 without much detail, with moving boxes."""
    folder = tmp_path_factory.mktemp("enlarged")
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    frame = cv2.resize(noise, (1280, 960), interpolation=cv2.INTER_CUBIC)
    (folder / "video").mkdir()
    for number in range(20):
        cv2.imwrite(str(folder / "video" / f"{number + 1:08d}.jpg"), np.roll(frame, 8 * number, axis=1))
    boxes = [f"{400 + 8 * number},380,300,240" for number in range(20)]
    write_lines(folder / "video" / "groundtruth.txt", boxes)
    write_lines(folder / "list.txt", ["video"])
    return f"FOLDER:{folder}"


@pytest.mark.parametrize("without", ["partial decoding", "libjpeg-turbo"])
def test_samples_are_those_of_whole_frames(enlarged, monkeypatch, without):
    cfg = load_config("stark_st1", "baseline", [])
    sampler = FrameSampler([build_dataset(enlarged)], [1], "trident_pro", [200])
    samples = SampleStream(sampler, Processing(cfg, augment=True), 7, 0)
    found = [samples[1, index] for index in range(8)]

    def from_whole(whole, region, mirrored, flipped):
        pixels = whole.part((0, whole.width), (0, whole.height))
        crop = region.cut(pixels[:, ::-1] if mirrored else pixels)
        return crop[:, ::-1] if flipped else crop

    if without == "libjpeg-turbo":
        monkeypatch.setattr(images, "decode_part", lambda *_: None)
    else:
        monkeypatch.setattr("lib.train.processing.cut_picture", from_whole)
    for index, sample in enumerate(found):
        again = samples[1, index]
        assert np.array_equal(sample.search, again.search)
        assert np.array_equal(sample.templates, again.templates)
