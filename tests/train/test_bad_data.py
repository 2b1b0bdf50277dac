"""Whole runs on data sets with faults: what can be trained on is, and what is wrong is named."""

import logging
import shutil

import numpy as np
import pytest

from lib.train.checks import Report
from lib.train.run import train
from lib.utils.checkpoint import load_checkpoint
from lib.utils.errors import UserError
from tests.train.tiny_runs import NAME, NO_VALIDATION, lightning


@pytest.fixture
def faulty(videos, tmp_path):
    """A copy of the videos to damage."""
    return shutil.copytree(videos, tmp_path / "faulty")


def folders(videos):
    return sorted(path for path in videos.iterdir() if path.is_dir())


def test_broken_frames_and_annotations_are_named_and_others_drawn(faulty, tmp_path, caplog):
    images = sorted(folders(faulty)[0].glob("*.jpg"))
    for image in images[: len(images) // 2]:
        image.write_bytes(image.read_bytes()[:200])
    annotation = folders(faulty)[1] / "groundtruth.txt"
    annotation.write_text("10,10,twenty,20\n")
    without = folders(faulty)[2] / "groundtruth.txt"
    lines = without.read_text().splitlines()
    without.write_text("\n".join([*lines[:5], *["nan,nan,nan,nan"] * 4, *lines[9:]]))  # in these frames nobody knows
    with caplog.at_level(logging.INFO):
        stats = train(lightning(faulty, tmp_path, NO_VALIDATION, "DATA.TRAIN.SAMPLE_PER_EPOCH=32"))
    assert np.isfinite(stats["train"]["Loss/total"])
    said = [record.getMessage() for record in caplog.records]
    assert any("boxes are nan or have no area" in text for text in said)
    warned = [text for text in said if "another sample takes its place" in text]
    assert len(warned) == len(set(warned))  # each file once, in two epochs
    for broken in (folders(faulty)[0], annotation):
        assert any(str(broken) in text for text in warned)


def test_when_nothing_can_be_read_the_run_ends_and_keeps_its_checkpoint(faulty, tmp_path, monkeypatch):
    run = lightning(faulty, tmp_path, NO_VALIDATION)
    train(lightning(faulty, tmp_path, NO_VALIDATION, "TRAIN.EPOCH=1"))
    for folder in folders(faulty):
        for image in folder.glob("*.jpg"):
            image.write_bytes(b"")
    with pytest.raises(UserError, match="images read are unusable"):
        train(run)
    # And where the check's sample happened to be whole:
    monkeypatch.setattr("lib.train.run.check_run", lambda *_: Report())
    with pytest.raises(UserError, match="100 files in a row could not be read"):
        train(run)
    assert load_checkpoint(run.folder / f"{NAME}_latest.pth.tar")["epoch"] == 1
