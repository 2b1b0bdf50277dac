"""AO counts what GOT-10k's toolkit counts."""

from pathlib import Path

import numpy as np
import pytest

from lib.data.registry import load_dataset
from lib.test.analysis.metrics import frame_errors, scoring_rule
from lib.test.analysis.scores import counted_overlaps
from tests.data.made_sets import write_boxes, write_sequence


def sequence_at_the_edge(root: Path):
    """Boxes that leave a frame of 128x96 on every side."""
    boxes = np.array([[50, 40, 30, 30], [-10, 40, 40, 30], [100, 80, 60, 50], [60, -5, 30, 30], [1, 1, 20, 20.0]])
    write_sequence(root, "edge", len(boxes), boxes)
    return load_dataset(f"folder:{root}")[0], boxes + np.array([[0, 0, 0, 0], *[[-4, 3, 6, 8]] * 4])


def overlaps(sequence, prediction):
    return counted_overlaps(
        sequence, prediction, frame_errors(prediction, sequence.truth, scoring_rule(sequence.dataset))
    )


def test_the_toolkits_numbers(tmp_path):
    metrics = pytest.importorskip("got10k.utils.metrics", reason="the got10k toolkit is not installed")
    sequence, prediction = sequence_at_the_edge(tmp_path)
    (sequence.frames_dir / "meta_info.ini").write_text("[METAINFO]\nobject_class: cat\nresolution: (128, 96)\n")
    expected = metrics.rect_iou(prediction[1:].copy(), sequence.truth[1:].copy(), bound=(128, 96))
    assert overlaps(sequence, prediction) == pytest.approx(expected)


def test_without_the_frames_size_boxes_stay_as_they_are(tmp_path):
    sequence, prediction = sequence_at_the_edge(tmp_path)
    info, cut = sequence.frames_dir / "meta_info.ini", {}
    for resolution in ("unknown", "(128, 96)"):
        info.write_text(f"[METAINFO]\nresolution: {resolution}\n")
        cut[resolution] = overlaps(sequence, prediction)
    info.unlink()
    assert cut["unknown"] == pytest.approx(overlaps(sequence, prediction))
    assert cut["(128, 96)"][3] == pytest.approx(cut["unknown"][3], abs=0.2)
    assert not np.allclose(cut["(128, 96)"][:3], cut["unknown"][:3])


def test_the_cover_alone_says_what_is_seen(tmp_path):
    sequence, prediction = sequence_at_the_edge(tmp_path)
    (sequence.frames_dir / "absence.label").write_text("0\n1\n0\n0\n0\n")
    (sequence.frames_dir / "cover.label").write_text("8\n8\n8\n0\n8\n")
    (sequence,) = load_dataset(f"folder:{tmp_path}")
    assert sequence.visible.tolist() == [True, False, True, False, True]
    assert len(overlaps(sequence, prediction)) == 3


def test_unseen_frames_do_not_count_and_missing_boxes_do(tmp_path):
    sequence, prediction = sequence_at_the_edge(tmp_path)
    (sequence.frames_dir / "meta_info.ini").write_text("[METAINFO]\nresolution: (128, 96)\n")
    (sequence.frames_dir / "cover.label").write_text("8\n8\n0\n8\n8\n")
    write_boxes(sequence.annotation, sequence.truth)
    (sequence,) = load_dataset(f"folder:{tmp_path}")
    counted = overlaps(sequence, prediction[:4])
    assert len(counted) == 3
    assert counted[-1] == 0
    assert (counted[:2] > 0.5).all()
