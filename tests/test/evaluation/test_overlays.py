"""Boxes drawn into frames while a test set is tracked."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data.registry import load_dataset
from lib.test.evaluation.overlays import Overlays, overlays_for
from lib.test.evaluation.running import run_sequences
from lib.test.video import output as video
from lib.test.video.output import SURE, TRUTH, VIDEO
from lib.test.video.source import open_source
from tests.data.made_sets import SIZE, ScriptedTracker, moving_boxes, write_sequence
from tests.test.test_video import FakeWindow


@pytest.fixture
def sequences(tmp_path: Path) -> list:
    for index, (name, count) in enumerate((("ant", 4), ("bee", 6))):
        write_sequence(tmp_path / "set", name, count, moving_boxes(count) + [0.75, index, 0.3, 0])
    return load_dataset(f"folder:{tmp_path / 'set'}")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(sequences, output, overlays, move=lambda _, box: box + 20):
    tracker = ScriptedTracker(sequences, move)
    return run_sequences(lambda _: tracker, sequences, output, overlays=overlays)


def video_frames(path: Path) -> list[np.ndarray]:
    return list(open_source(str(path)).frames)


def near(image: np.ndarray, x: float, y: float, color: tuple[int, int, int]) -> bool:
    """Whether a pixel about (x, y) has a colour, but for what compression does to a thin line."""
    patch = image[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].astype(int)
    return bool((np.abs(patch - color).max(axis=2) < 110).any())


def test_videos_and_pictures_show_both_boxes(sequences, output):
    folder = output / "debug" / sequences[1].subfolder / "bee"
    folder.mkdir(parents=True)
    (folder / ".00000009.abcd1234.jpg").touch()  # of a run that was killed
    assert len(run(sequences, output, Overlays(output, pictures=True)).tracked) == 2
    assert {path.name for path in folder.iterdir()} == {VIDEO, *(f"{number:08d}.jpg" for number in range(1, 7))}
    frames = video_frames(folder / VIDEO)
    assert len(frames) == 6
    picture = cv2.cvtColor(cv2.imread(str(folder / "00000003.jpg")), cv2.COLOR_BGR2RGB)
    assert picture.shape == (*SIZE, 3)
    for image in (picture, frames[2]):
        x, y, w, h = sequences[1].truth[2]
        assert near(image, x + w / 2, y + h, TRUTH)
        assert near(image, x + 20 + (w + 20) / 2, y + 20 + h + 20, SURE)


def test_drawing_tracks_again_and_keeps_results_and_a_failure_leaves_its_overlay(sequences, output):
    def move(index, box):
        if index == 3:
            raise RuntimeError("lost my way")
        return box

    run(sequences[1:], output, None)
    result = output / sequences[1].subfolder / "bee.txt"
    before = result.read_bytes()
    assert len(run(sequences, output, Overlays(output), move).failed) == 2
    assert len(video_frames(output / "debug" / sequences[0].subfolder / "ant" / VIDEO)) == 3
    assert len(run(sequences, output, Overlays(output), lambda _, box: box + 5).tracked) == 2
    assert result.read_bytes() == before


def test_a_window_shows_every_frame_and_q_ends_the_run(sequences, output):
    window = FakeWindow([*[""] * 17, "q"])
    run(sequences, output, Overlays(output, window=window))
    assert len(window.shown) == 10
    assert not (output / "debug").exists()
    with pytest.raises(KeyboardInterrupt):
        run(sequences, output / "other", Overlays(output / "other", window=window))
    assert {path.stem for path in (output / "other").rglob("*.txt")} == {"bee", "bee_time"}


def test_debug_levels(monkeypatch, tmp_path, capsys):
    window, closed = FakeWindow(), []
    window.close = lambda: closed.append(1)
    monkeypatch.setattr(video, "Window", lambda: window)
    for obstacle, debug, alone, expected in (
        (None, 0, True, None),
        (None, 1, True, Overlays(tmp_path, window=window)),
        (None, 1, False, Overlays(tmp_path)),
        (None, 2, True, Overlays(tmp_path, pictures=True)),
        ("there is no display", 1, True, Overlays(tmp_path)),
    ):
        monkeypatch.setattr(video, "missing_display", lambda obstacle=obstacle: obstacle)
        with overlays_for(debug, tmp_path, alone) as overlays:
            assert overlays == expected
    assert closed
    assert "no window: several processes track; overlays go to" in capsys.readouterr().out
