"""The got10k toolkit's experiment with our trackers."""

import json

import numpy as np
import pytest
from got10k.experiments import ExperimentGOT10k

from lib.test.utils.got10k_tracker import Got10kTracker
from tests.data.made_sets import write_sequence

FRAMES = 6


def test_the_toolkits_experiment_runs_and_reports(tmp_path):
    """A validation set of one sequence whose object moves two pixels to the right a frame."""
    name, boxes = "GOT-10k_Val_000001", np.array([[10 + 2 * i, 20, 20, 20] for i in range(FRAMES)])
    folder = tmp_path / "got10k" / "val" / name
    write_sequence(folder.parent, name, FRAMES, boxes)
    (folder.parent / "list.txt").write_text(f"{name}\n")
    for label, value in (("cover", 8), ("absence", 0), ("cut_by_image", 0)):
        (folder / f"{label}.label").write_text("\n".join([str(value)] * FRAMES))
    meta = f"[METAINFO]\nresolution: (128, 96)\nanno_fps: 10Hz\nvideo_length: {FRAMES}\n"
    (folder / "meta_info.ini").write_text(meta)

    experiment = ExperimentGOT10k(str(tmp_path / "got10k"), "val", str(tmp_path / "results"), str(tmp_path / "reports"))
    experiment.run(Got10kTracker("still", ""))
    written = list((tmp_path / "results" / "GOT-10k" / "still").rglob("*_00?.txt"))
    assert [path.name for path in written] == ["GOT-10k_Val_000001_001.txt"]  # one repetition: it is deterministic
    np.testing.assert_allclose(np.loadtxt(written[0], delimiter=","), [[10, 20, 20, 20]] * FRAMES)

    experiment.report(["still"])
    report = json.loads((tmp_path / "reports" / "GOT-10k" / "still" / "performance.json").read_text())
    # A box of 20 px that lags by 2i pixels overlaps by (20 - 2i) / (20 + 2i); the first frame does not count.
    expected = np.mean([(20 - 2 * i) / (20 + 2 * i) for i in range(1, FRAMES)])
    assert report["still"]["overall"]["ao"] == pytest.approx(expected, abs=1e-6)
