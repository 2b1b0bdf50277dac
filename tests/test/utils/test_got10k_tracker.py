"""The got10k toolkit's experiment with our trackers."""

import json

import cv2
import numpy as np
import pytest
from got10k.experiments import ExperimentGOT10k
from PIL import Image

from lib.test.utils.got10k_tracker import Got10kTracker

FRAMES = 6


@pytest.fixture
def got10k_val(tmp_path):
    """A validation set of one sequence whose object moves two pixels to the right a frame."""
    folder = tmp_path / "got10k" / "val" / "GOT-10k_Val_000001"
    folder.mkdir(parents=True)
    (folder.parent / "list.txt").write_text(f"{folder.name}\n")
    for i in range(FRAMES):
        frame = np.zeros((60, 80, 3), dtype=np.uint8)
        frame[20:40, 10 + 2 * i : 30 + 2 * i] = (0, 0, 250)
        cv2.imwrite(str(folder / f"{i + 1:08d}.jpg"), frame)
    boxes = [f"{10 + 2 * i}.0000,20.0000,20.0000,20.0000" for i in range(FRAMES)]
    (folder / "groundtruth.txt").write_text("\n".join(boxes))
    for name, value in (("cover", 8), ("absence", 0), ("cut_by_image", 0)):
        (folder / f"{name}.label").write_text("\n".join([str(value)] * FRAMES))
    (folder / "meta_info.ini").write_text(f"[METAINFO]\nresolution: (80, 60)\nanno_fps: 10Hz\nvideo_length: {FRAMES}\n")
    return tmp_path / "got10k"


def test_the_toolkits_experiment_runs_and_reports(got10k_val, tmp_path):
    experiment = ExperimentGOT10k(str(got10k_val), "val", str(tmp_path / "results"), str(tmp_path / "reports"))
    tracker = Got10kTracker("still", "")
    experiment.run(tracker)
    written = list((tmp_path / "results" / "GOT-10k" / "still").rglob("*_00?.txt"))
    assert [path.name for path in written] == ["GOT-10k_Val_000001_001.txt"]  # one repetition: it is deterministic
    np.testing.assert_allclose(np.loadtxt(written[0], delimiter=","), [[10, 20, 20, 20]] * FRAMES)

    experiment.report(["still"])
    report = json.loads((tmp_path / "reports" / "GOT-10k" / "still" / "performance.json").read_text())
    # A box of 20 px that lags by 2i pixels overlaps by (20 - 2i) / (20 + 2i); the first frame does not count.
    expected = np.mean([(20 - 2 * i) / (20 + 2 * i) for i in range(1, FRAMES)])
    assert report["still"]["overall"]["ao"] == pytest.approx(expected, abs=1e-6)


def test_images_come_to_the_tracker_as_rgb_arrays():
    seen = []

    class Spy:
        def initialize(self, image, info):
            seen.append((image, info["init_bbox"]))

        def track(self, image):
            seen.append((image, None))
            return {"target_bbox": [1.0, 2.0, 3.0, 4.0]}

    tracker = Got10kTracker("still", "")
    tracker._tracker = Spy()
    image = Image.new("RGB", (8, 6), (250, 100, 0))
    tracker.init(image, np.array([1, 1, 4, 4]))
    np.testing.assert_array_equal(tracker.update(image), [1, 2, 3, 4])
    assert [array.shape for array, _ in seen] == [(6, 8, 3)] * 2
    assert seen[0][0][0, 0].tolist() == [250, 100, 0]
    assert seen[0][1] == [1.0, 1.0, 4.0, 4.0]
