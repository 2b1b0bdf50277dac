"""Boxes drawn into frames while a test set is tracked, and how the progress is shown."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data.registry import load_dataset
from lib.test.evaluation import overlays as overlays_module
from lib.test.evaluation.one_sequence import Outcome
from lib.test.evaluation.overlays import Overlays, overlays_for
from lib.test.evaluation.progress import Progress
from lib.test.evaluation.running import ALONE, run_sequences
from lib.test.video.output import SURE, TRUTH, VIDEO
from lib.utils.errors import UserError
from tests.data.made_sets import SIZE, ScriptedTracker, moving_boxes, write_sequence


@pytest.fixture
def sequences(tmp_path: Path) -> list:
    for index, (name, count) in enumerate((("ant", 4), ("bee", 6))):
        write_sequence(tmp_path / "set", name, count, moving_boxes(count) + [0.75, index, 0.3, 0])
    return load_dataset(f"folder:{tmp_path / 'set'}")


def run(sequences, output_dir, overlays, move=lambda _, box: box + 20):
    tracker = ScriptedTracker(sequences, move)
    return run_sequences(lambda _: tracker, sequences, output_dir, overlays=overlays, say=lambda _: None), tracker


def video_frames(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (frame := capture.read()[1]) is not None:
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return frames


def near(image: np.ndarray, x: float, y: float, color: tuple[int, int, int]) -> bool:
    """Whether a pixel about (x, y) has a colour, but for what compression does to a thin line."""
    patch = image[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].astype(int)
    return bool((np.abs(patch - color).max(axis=2) < 110).any())


def test_videos_and_pictures_show_both_boxes(sequences, tmp_path):
    output = tmp_path / "out"
    report, _ = run(sequences, output, Overlays(output, pictures=True))
    assert sorted(report.done) == ["ant", "bee"]
    folder = output / "debug" / sequences[1].subfolder / "bee"
    assert {path.name for path in folder.iterdir()} == {VIDEO, *(f"{number:08d}.jpg" for number in range(1, 7))}
    frames = video_frames(folder / VIDEO)
    assert len(frames) == 6
    picture = cv2.cvtColor(cv2.imread(str(folder / "00000003.jpg")), cv2.COLOR_BGR2RGB)
    assert picture.shape == (*SIZE, 3)
    for image in (picture, frames[2]):
        x, y, w, h = sequences[1].truth[2]
        assert near(image, x + w / 2, y + h, TRUTH)
        assert near(image, x + 20 + (w + 20) / 2, y + 20 + h + 20, SURE)


def test_finished_sequences_are_drawn_anew_only_where_overlays_are_missing_and_keep_their_results(sequences, tmp_path):
    output = tmp_path / "out"
    run(sequences, output, None)
    result = output / sequences[0].subfolder / "ant.txt"
    before = result.read_bytes()
    report, tracker = run(sequences, output, Overlays(output), move=lambda _, box: box + 5)
    assert len(tracker.frames) == 10
    assert result.read_bytes() == before
    assert run(sequences, output, Overlays(output))[0].kept == ["bee", "ant"]
    assert len(run(sequences, output, Overlays(output, pictures=True))[1].frames) == 10


def test_a_failure_leaves_the_overlay_so_far_and_no_result(sequences, tmp_path):
    def move(index, box):
        if index == 3:
            raise RuntimeError("lost my way")
        return box

    output = tmp_path / "out"
    report, _ = run(sequences, output, Overlays(output), move)
    assert sorted(report.failed) == ["ant", "bee"]
    assert len(video_frames(output / "debug" / sequences[0].subfolder / "ant" / VIDEO)) == 3
    assert {path.name for path in output.iterdir()} == {"debug", ALONE.failure_log}
    assert run(sequences, output, Overlays(output))[0].done == ["bee", "ant"]


class FakeWindow:
    def __init__(self, stop_at: int = 1000) -> None:
        self.shown, self.stop_at, self.is_open = [], stop_at, True

    def show(self, image: np.ndarray) -> str:
        self.shown.append(image)
        return "q" if len(self.shown) == self.stop_at else ""

    def close(self) -> None:
        self.is_open = False


def test_a_window_shows_every_frame_and_q_ends_the_run(sequences, tmp_path):
    output, window = tmp_path / "out", FakeWindow()
    run(sequences, output, Overlays(output, window=window))
    assert len(window.shown) == 10
    run(sequences, output, Overlays(output, window=window))  # nothing is done as long as somebody looks
    assert len(window.shown) == 20
    assert not (output / "debug").exists()
    with pytest.raises(KeyboardInterrupt):
        run(sequences, tmp_path / "other", Overlays(tmp_path / "other", window=FakeWindow(stop_at=8)))
    assert {path.stem for path in (tmp_path / "other").rglob("*.txt")} == {"bee", "bee_time"}


def test_debug_levels(monkeypatch, tmp_path, capsys):
    window = FakeWindow()
    monkeypatch.setattr(overlays_module, "Window", lambda: window)
    monkeypatch.setattr(overlays_module, "missing_display", lambda: None)
    with overlays_for(0, tmp_path, alone=True) as overlays:
        assert overlays is None
    with overlays_for(1, tmp_path, alone=True) as overlays:
        assert overlays.window is window
    assert not window.is_open
    with overlays_for(1, tmp_path, alone=False) as overlays:
        assert overlays == Overlays(tmp_path)
    assert "no window: several processes track; overlays go to" in capsys.readouterr().out
    with overlays_for(2, tmp_path, alone=True) as overlays:
        assert overlays == Overlays(tmp_path, pictures=True)
    monkeypatch.setattr(overlays_module, "missing_display", lambda: "there is no display")
    with overlays_for(1, tmp_path, alone=True) as overlays:
        assert overlays == Overlays(tmp_path)
    with pytest.raises(UserError, match="--debug 3"), overlays_for(3, tmp_path, alone=True):
        pass


def test_lines_of_progress_count_and_foresee(monkeypatch):
    clock, lines = [100.0], []
    monkeypatch.setattr("lib.test.evaluation.progress.time.monotonic", lambda: clock[0])
    with Progress(4, 400, bar=False, label="rank 2: ", say=lines.append) as progress:
        progress.frames(1)
        clock[0] += 50
        progress.frames(99)
        progress.settled(Outcome("ant", frames=100, track_seconds=3.3))
        progress.settled(Outcome("bee", reason="no frames"))
    assert lines == ["rank 2: [1/4] ant: 100 frames, 30.0 FPS, 02:30 left", "rank 2: [2/4] bee: failed: no frames"]


def test_the_bar_shows_sequences_frames_speed_and_failures(capsys):
    lines = []
    with Progress(3, 30, bar=True, say=lines.append) as progress:
        progress.frames(10)
        progress.settled(Outcome("ant", frames=10, track_seconds=0.5))
        progress.settled(Outcome("bee", reason="no frames"))
    printed = capsys.readouterr()
    assert not lines
    assert "2 of 3 sequences" in printed.err
    assert "10/30" in printed.err
    assert "18.0 FPS in the tracker" in printed.err
    assert "bee: failed: no frames" in printed.out
