"""The demo: sources of frames, the drawing, the result's files, the loop, the command."""

import csv
import dataclasses
import os
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from lib.commands import tracking
from lib.test.video import demo, output
from lib.test.video.demo import Objects, check_box, read_objects, run_demo, video_demo
from lib.test.video.output import BOXES, SURE, TABLE, TRUTH, UNSURE, VIDEO, box_colour, result_folder, result_writer
from lib.test.video.source import FrameSource, open_source
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.test.web.made_clips import noise, write_clip

SIZE = (64, 48)


def plain_frame(value, size=SIZE):
    """A red-ish frame, so that swapped channels show."""
    return np.full((size[1], size[0], 3), (200, value, 10), np.uint8)


def read_video(path):
    return list(open_source(str(path)).frames)


def read_table(folder):
    with open(folder / TABLE, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def clip(tmp_path):
    """A video of 12 frames that become lighter in green, at 10 frames a second."""
    frames = (plain_frame(20 * index) for index in range(12))
    return write_clip(tmp_path / "my clip.avi", frames, codec="mjpeg", fps=10)


class MovingTracker:
    """Moves one pixel to the right a frame; notes what it was given."""

    def __init__(self, stop_at=None, stop_with=None):
        self.started, self.seen = [], []
        self.stop_at, self.stop_with = stop_at, stop_with

    def initialize(self, image, info):
        self.box = list(info["init_bbox"])
        self.started.append((image.copy(), list(self.box)))

    def track(self, image):
        self.seen.append(image.copy())
        if len(self.seen) == self.stop_at:
            raise self.stop_with
        self.box[0] += 1
        return {"target_bbox": list(self.box), "conf_score": 0.75}


class FakeWindow:
    """Presses the given keys, one a frame, and draws the given boxes."""

    def __init__(self, keys="", boxes=()):
        self.keys, self.boxes, self.shown = iter(keys), iter(boxes), []

    def show(self, image):
        self.shown.append(image)
        return next(self.keys, "")

    def select_box(self, image):
        return next(self.boxes)


def run(folder, frames, tracker, window=None):
    source = FrameSource("made", iter(frames[1:]), 25.0, len(frames))
    with result_writer(folder, 25.0, True) as write:
        return run_demo(Objects(tracker, [(10, 12, 20, 16)]), frames[0], source, write, window)


def test_a_folder_is_sorted_by_number_and_what_is_no_source_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("outer/img", "bare"):
        (tmp_path / folder).mkdir(parents=True)
    for name, content in (("empty.mp4", b""), ("text.mp4", b"text\n" * 99), (os.fsdecode(b"caf\xe9.mp4"), b"any")):
        (tmp_path / name).write_bytes(content)
    for number in (8, 9, 11):
        cv2.imwrite(f"outer/img/{number}.png", np.full((6, 8), number, np.uint8))
    source = open_source("outer/img")
    assert (source.name, source.total) == ("img", 3)
    assert [frame[0, 0].tolist() for frame in source.frames] == [[8] * 3, [9] * 3, [11] * 3]
    assert "frames are missing in outer/img: 10" in capsys.readouterr().out
    for name, reason in (
        ("empty.mp4", "is empty"),
        ("text.mp4", "not a video"),
        ("outer/img/8.png", "one image"),
        ("outer", "did you mean .*img"),
        ("bare", "no images"),
        ("missing.mp4", "no file or folder"),
        ("97", "camera 97 cannot be opened"),
        (os.fsdecode(b"caf\xe9.mp4"), "not UTF-8"),
    ):
        with pytest.raises(UserError, match=reason):
            open_source(name)


def test_useless_first_boxes_and_texts_that_are_no_objects_are_refused(tmp_path):
    for box in [(1, 2, 3), (1, 2, 3, float("nan")), (1, 2, 0, 4), (64, 2, 3, 4), (1, -9, 3, 9)]:
        with pytest.raises(UserError, match=r"four numbers.*w and h above 0|outside the first frame, which is 64x48"):
            check_box(box, plain_frame(0))
    check_box((-10, -10, 500, 500), plain_frame(0))
    for text, message in (
        ("1,2,3\n", "line 1: '1,2,3' is not x, y, width, height"),
        ("1,2,3,4\n1,2,x,4,a\n", "line 2: '1,2,x,4,a' is not"),
        ("1,2,3,4,a\n1,2,3,4\n", "some lines have a name"),
        ("1,2,3,4\n" * 65, "holds 65 boxes: give 1 to 64, one an object, of the first frame"),
    ):
        (tmp_path / "objects.txt").write_text(text)
        with pytest.raises(UserError, match=message):
            read_objects(tmp_path / "objects.txt")


def test_boxes_and_captions_are_drawn_on_any_ground_and_into_any_image():
    image = np.full((240, 320, 3), 255, np.uint8)
    output.draw_box(image, [100, 60, 80, 50], SURE)
    assert all(tuple(image[y, x]) == SURE for x, y in [(100, 60), (180, 110), (140, 110), (100, 80)])
    assert (image[85, 140] == 255).all()
    assert (image[60:110, 102:104].max(axis=2) < 30).any()  # the dark line that shows on white
    output.draw_caption(image, "frame 1")
    assert image[:30, :60].min() < 80
    tiny = np.zeros((3, 2, 3), np.uint8)
    output.draw_box(tiny, [-1e12, -1e12, 3e12, 3e12], SURE)
    output.draw_caption(tiny, "frame 1   confidence 0.50")


def test_an_overlay_keeps_proportions_and_draws_both_boxes():
    image = np.full((100, 200, 3), 90, np.uint8)
    boxes = [([20, 20, 160, 60], TRUTH), ([60, 40, 60, 40], box_colour(0.2)), ([float("nan")] * 4, SURE)]
    overlay = output.draw_overlay(image, (400, 400), "x", boxes).astype(int)
    assert overlay.shape == (400, 400, 3)
    assert (overlay[340, 60] == 0).all()
    for y, colour in ((50 + 20, TRUTH), (50 + 40, UNSURE)):
        assert np.abs(overlay[2 * y : 2 * y + 2, 200] - colour).min(axis=0).max() < 80  # the frame was made larger
    assert not (overlay == SURE).all(axis=2).any()
    for shape, size in (((47, 63), (64, 48)), ((1, 1), (2, 2)), ((5000, 10000), (4096, 2048))):
        assert output.video_size(np.empty((*shape, 3), np.uint8)) == size


@pytest.mark.parametrize(("count", "fps"), [(1, 25.0), (7, 23.976023976), (3, 0.5)])
def test_video_has_every_frame_at_any_rate(tmp_path, count, fps):
    with output.video_writer(tmp_path / VIDEO, fps) as add:
        for index in range(count):
            add(plain_frame(30 * index))
    source = open_source(str(tmp_path / VIDEO))
    frames = list(source.frames)
    assert (source.name, source.total, len(frames)) == ("video", count, count)
    assert np.abs(frames[-1].astype(int) - plain_frame(30 * (count - 1))).mean() < 12
    assert [path.name for path in tmp_path.iterdir()] == [VIDEO]
    with av.open(str(tmp_path / VIDEO)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-4) == pytest.approx(source.fps, rel=1e-4)
    data = (tmp_path / VIDEO).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it plays before all of it is there


def test_without_pyav_opencv_writes_the_video_and_a_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(output, "av", None)
    run(tmp_path, [plain_frame(30 * index) for index in range(4)], MovingTracker())
    frames = read_video(tmp_path / VIDEO)
    assert len(frames) == 4
    assert np.abs(frames[-1][:6, -6:].astype(int) - plain_frame(90)[:6, -6:]).mean() < 12
    assert "for H.264 install PyAV" in capsys.readouterr().out
    with pytest.raises(UserError, match="not UTF-8"), result_writer(tmp_path / "caf\udce9", 25.0, False) as write:
        write(plain_frame(0), [])


@pytest.mark.parametrize("count", [1, 500])  # which do and do not fit into the buffer before the disk
def test_no_file_is_left_of_a_run_without_a_frame_or_of_a_video_on_a_full_disk(tmp_path, count):
    folder = result_folder(tmp_path / "run", None, overwrite=False)
    with pytest.raises(UserError, match="bad start"), result_writer(folder, 25.0, boxes=True):
        raise UserError("bad start")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f".{VIDEO}").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full; make room"):
        run(tmp_path, list(noise(count, (320, 240))), MovingTracker())
    assert sorted(path.name for path in tmp_path.iterdir()) == [TABLE, BOXES]


def test_earlier_results_are_kept_unless_told_otherwise(tmp_path):
    default = tmp_path / "output" / "clip_still_x"
    folders = [result_folder(default, None, overwrite=False).name for _ in range(2)]
    assert folders == ["clip_still_x", "clip_still_x_2"]
    (default / BOXES).write_text("1\t2\t3\t4\n")
    with pytest.raises(UserError, match="--overwrite"):
        result_folder(default, default, overwrite=False)
    assert result_folder(default, None, overwrite=True) == default
    assert not (default / BOXES).exists()


def test_every_frame_is_tracked_and_written_once_in_its_own_pixels(tmp_path):
    frames = [plain_frame(20 * index) for index in range(5)] + [plain_frame(100, (128, 96))]
    tracker = MovingTracker()
    assert run(tmp_path, frames, tracker) == (6, False)
    assert len(tracker.started) == 1
    assert np.array_equal(tracker.started[0][0], frames[0])
    assert all(np.array_equal(a, b) for a, b in zip(tracker.seen, frames[1:], strict=True))  # RGB, nothing drawn in
    written = read_video(tmp_path / VIDEO)
    assert [frame.shape for frame in written] == [(48, 64, 3)] * 6
    assert np.abs(written[-1][-6:, :6].astype(int) - frames[-1][-6:, :6]).max() < 16
    assert (tmp_path / BOXES).read_text().splitlines()[::5] == ["10\t12\t20\t16", "15\t12\t20\t16"]
    table = read_table(tmp_path)
    assert [row["frame"] for row in table] == list("123456")
    assert table[0]["confidence"] == ""
    assert table[5] == {"frame": "6", "x": "15.00", "y": "12.00", "w": "20.00", "h": "16.00", "confidence": "0.7500"}


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), UserError("frame 4 is damaged"), OSError(5, "of the source")])
def test_a_run_that_breaks_keeps_the_frames_before(tmp_path, capsys, reason):
    with pytest.raises(type(reason)) as caught:
        run(tmp_path, [plain_frame(0)] * 8, MovingTracker(stop_at=4, stop_with=reason))
    assert len(read_video(tmp_path / VIDEO)) == len((tmp_path / BOXES).read_text().splitlines()) == 4
    assert caught.value is reason
    assert f"stopped early; the 4 frames so far are kept in {tmp_path / VIDEO}" in capsys.readouterr().err
    tracker = MovingTracker()
    tracker.track = lambda _: {"target_bbox": [1, 2, float("nan"), 4]}
    with pytest.raises(UserError, match=r"nan, 4\.0\] for frame 2"):
        run(tmp_path, [plain_frame(0)] * 3, tracker)


def test_keys_draw_anew_and_quit(tmp_path):
    frames = [plain_frame(20 * index) for index in range(8)]
    tracker = MovingTracker()
    window = FakeWindow(keys=["", "", "r", "r", "", "q"], boxes=[[40.0, 5.0, 9.0, 9.0], None])
    assert run(tmp_path, frames, tracker, window) == (6, True)
    assert len(window.shown) == 6
    assert [box for _, box in tracker.started] == [[10, 12, 20, 16], [40, 5, 9, 9]]
    assert np.array_equal(tracker.started[1][0], frames[2])  # the frame that was shown when r was pressed
    assert [float(row["x"]) for row in read_table(tmp_path)] == [10, 11, 40, 41, 42, 43]


@pytest.fixture
def fake_tracker(monkeypatch, tmp_path):
    """`create_tracker` gives a MovingTracker, there is no display, and results go under tmp_path."""
    tracker = MovingTracker()
    monkeypatch.setattr(demo, "create_tracker", lambda *args, **options: tracker)
    monkeypatch.setattr(output, "missing_display", lambda: "there is no display")
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path / "saved"))
    return tracker


def test_results_lie_where_they_are_announced(fake_tracker, clip, tmp_path, capsys, monkeypatch):
    for save_results in (False, True):
        video_demo("stark_s", "some/where/tiny.yaml", str(clip), [10, 12, 20, 16], save_results, debug=True)
    folder = tmp_path / "saved" / "output" / "my clip_stark_s_tiny"
    assert [path.name for path in folder.iterdir()] == [VIDEO]
    second = folder.with_name("my clip_stark_s_tiny_2")
    assert len(read_video(second / VIDEO)) == 12
    said = capsys.readouterr().out
    assert "frame 12: 21.0 12.0 20.0 16.0  confidence 0.750" in said
    assert all(f"wrote {second / name}" in said for name in (VIDEO, BOXES, TABLE))
    assert video_demo("stark_s", "baseline", "sample:carphone", no_window=True) == 120  # which has its own box
    source = dataclasses.replace(open_source(str(clip)), total=13)
    monkeypatch.setattr(demo, "open_source", lambda *_: source)
    video_demo("stark_s", "baseline", str(clip), [1, 2, 3, 4], output=tmp_path / "out")
    assert f"12 frames were read, but {clip} says that it holds 13" in capsys.readouterr().out


def test_a_box_is_drawn_where_there_is_a_display_and_has_to_be_given_elsewhere(
    fake_tracker, clip, monkeypatch, tmp_path
):
    with pytest.raises(UserError, match=r"--init_bbox.*no display"):
        video_demo("stark_s", "baseline", str(clip))
    window = FakeWindow(boxes=[[3.0, 4.0, 5.0, 6.0], None])
    window.close = lambda: window.shown.clear()
    monkeypatch.setattr(output, "missing_display", lambda: None)
    monkeypatch.setattr(output, "Window", lambda: window)
    video_demo("stark_s", "baseline", str(clip), output=tmp_path / "out")
    assert fake_tracker.started[0][1] == [3, 4, 5, 6]
    assert window.shown == []
    with pytest.raises(UserError, match="no box was drawn"):
        video_demo("stark_s", "baseline", str(clip), output=tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_the_command_takes_the_trained_tracker_and_says_errors_in_one_line(monkeypatch, run_script, capsys, tmp_path):
    called = []
    monkeypatch.setattr(tracking, "video_demo", lambda *words, **_: called.append(words[:3]))
    assert run_script("video_demo.py", "v.mp4") == run_script("video_demo.py", "stark_s", "baseline", "v.mp4") == 0
    assert called == [("stark_lightning_X_trt", "mini", "v.mp4"), ("stark_s", "baseline", "v.mp4")]
    assert run_script("video_demo.py", "stark_s", "v.mp4") == 2
    assert "expected a video, or tracker, config and video; got 2 words" in capsys.readouterr().err
    video = tmp_path / "no.mp4"
    video.write_bytes(b"no video" * 99)  # on which FFmpeg has something to say, too
    command = [sys.executable, REPOSITORY / "tracking" / "video_demo.py", "still", "x", video]
    result = subprocess.run([*command, "--optional_box", "1", "2", "3", "4"], cwd="/", capture_output=True, text=True)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {video} is not a video that OpenCV reads")


def test_several_objects_have_names_colours_and_texts_of_their_own(clip, tmp_path, place, run_script, capsys):
    listed, folder = tmp_path / "objects.txt", tmp_path / "out"
    listed.write_text("4,20,12,12,left one\n\n40 20\t12.5 12\tcaf\xe9\n", encoding="utf-8")
    assert read_objects(listed) == ([[4, 20, 12, 12], [40, 20, 12.5, 12]], ["left one", "caf\xe9"])
    words = ["still", "x", clip, "--no_window", "--save_results"]
    assert run_script("video_demo.py", *words, "--boxes", listed, "--output", folder) == 0
    texts = [f"boxes_{number}.txt" for number in (1, 2)]
    assert {path.name for path in folder.iterdir()} == {VIDEO, TABLE, *texts}
    assert f"wrote {folder / texts[1]}" in capsys.readouterr().out
    assert set((folder / texts[1]).read_text().splitlines()) == {"40\t20\t12\t12"}
    table = [[row[key] for key in ("object", "frame", "w")] for row in read_table(folder)[11:13]]
    assert table == [["left one", "12", "12.00"], ["caf\xe9", "1", "12.50"]]
    # By --init_bbox, each with a name, in one colour; a label stands above the box, or in it where there is no room.
    large = tmp_path / "large"
    large.mkdir()
    cv2.imwrite(str(large / "1.png"), np.full((300, 400, 3), 90, np.uint8))
    words = ["still", "x", large, "--no_window", "--overwrite", "--output", tmp_path / "second"]
    words += ["--init_bbox", 20, 100, 150, 90, "--init_bbox", 220, 2, 150, 90]
    for color in (["--box_color", "cyan"], []):
        assert run_script("video_demo.py", *words, "--names", "a", "b", *color) == 0
        (frame,) = read_video(tmp_path / "second" / VIDEO)
        paint = [output.parse_colour("cyan")] * 2 if color else output.DISTINCT[:2]
        for (x, y), expected in zip(((170, 145), (370, 47)), paint, strict=True):
            assert np.abs(frame[y, x - 1 : x + 2].astype(int) - expected).max(axis=1).min() < 90
        assert frame[84:98, 22:40].min() < 60
        assert frame[4:18, 222:240].min() < 60
    for wrong, message in (
        (["--names", "a"], "there are 2 boxes and 1 names"),
        (["--names", "a", "b", "--box_color", "sky"], "'sky' is not a colour: give RRGGBB such as ff8c00, or red"),
        (["--boxes", listed], "no --init_bbox or --names beside it"),
    ):
        assert run_script("video_demo.py", *words, *wrong) == 2
        assert message in capsys.readouterr().err
