"""A session's objects: drawn, tracked, corrected, and taken home."""

import csv
import itertools
import threading
import zipfile

import av
import cv2
import numpy as np
import pytest

from lib.data.registry import build_dataset, load_dataset
from lib.test.tracker import create_tracker
from lib.test.web.clips import Limits
from lib.test.web.desk import WINDOW, Desk, visible_part
from lib.test.web.objects import another
from lib.utils.errors import UserError
from tests.test.web.made_clips import index_of, scene, write_clip, write_images, write_numbered

COUNT = 20


class StepTracker:
    """Moves its box by `step` to the right a frame; says how sure it is."""

    def __init__(self, step=2.0):
        self.step, self.box = step, None

    def initialize(self, image, info):
        self.box = list(info["init_bbox"])

    def track(self, image):
        self.box = [self.box[0] + self.step, *self.box[1:]]
        return {"target_bbox": self.box, "conf_score": 0.75}


class Shelf:
    """Stands in for `Trackers`."""

    def __init__(self, **trackers):
        self.trackers, self.lock = trackers, threading.Lock()

    def get(self, choice):
        if choice.key not in self.trackers:
            raise UserError(f"no weights for {choice.key}: put them under checkpoints/")
        return self.trackers[choice.key]

    def has(self, choice):
        return True


class Session:
    """A desk and what it says; pictures are taken as they come, unless `slow`."""

    def __init__(self, folder, slow=False, **trackers):
        self.said, self.slow = [], slow
        seconds = itertools.count(0, 0.02)
        shelf = Shelf(**(trackers or {"step": StepTracker()}))
        folder.mkdir(exist_ok=True)
        self.desk = Desk(folder, Limits(), shelf, self._hear, lambda: next(seconds))

    def _hear(self, message, picture):
        self.said.append((message, picture))

    def run(self, steps=100_000):
        for _ in range(steps):
            if not self.desk.step():
                return self
            if not self.slow and self.desk.credit < WINDOW:
                self.desk.ack()
        return self

    def open(self, path, box=None):
        self.desk.open(path, path.name, box, "")
        return self.run()

    def track(self, key="step", steps=100_000):
        self.said.clear()
        self.desk.track(key, "torch")
        return self.run(steps)

    def of(self, kind):
        return [message for message, _ in self.said if message["type"] == kind]

    def found(self, number=1):
        """What the page was told of an object in tracked frames: x by frame."""
        return {
            message["frame"]: each["box"][0]
            for message in self.of("frame")
            for each in message["objects"]
            if each["object"] == number
        }


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", map(scene, range(COUNT)), g="6")


@pytest.fixture
def session(tmp_path, clip):
    return Session(tmp_path / "session").open(clip)


def test_opening_tells_the_clip_and_shows_its_first_frame(session):
    (opened, nothing), (shown, picture) = session.said
    assert nothing is None
    assert {key: opened[key] for key in ("name", "frames", "width", "height")} == {
        "name": "clip.mp4",
        "frames": COUNT,
        "width": 160,
        "height": 120,
    }
    assert (shown["type"], shown["frame"]) == ("picture", 0)
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(image.astype(int) - scene(0)).mean() < 4


def test_every_frame_is_reported_once_and_in_order(session):
    session.desk.draw(1, 0, [20, 40, 24, 24])
    session.track()
    assert [message["frame"] for message in session.of("frame")] == list(range(COUNT))
    assert session.found() == {index: 20.0 + 2 * index for index in range(COUNT)}
    last = session.of("frame")[-1]
    assert last["objects"][0]["score"] == 0.75
    assert last["fps"] == pytest.approx(50)
    assert session.of("ended") == [{"type": "ended", "why": "end", "frames": COUNT}]
    session.track()
    assert session.of("ended")[0]["why"] == "complete"
    assert session.of("frame") == []


def test_a_page_that_takes_nothing_gets_a_few_pictures_and_loses_none(tmp_path, clip):
    session = Session(tmp_path / "session", slow=True).open(clip)
    session.desk.draw(1, 0, [20, 40, 24, 24])
    session.track()
    assert [message["frame"] for message in session.of("frame")] == list(range(WINDOW))
    for _ in range(3):
        session.desk.ack()
    session.run()
    assert [message["frame"] for message in session.of("frame")] == list(range(WINDOW + 3))
    for _ in range(1000):
        session.desk.ack()  # more than it was given: it still gets no more at once
    session.run()
    assert len(session.of("frame")) == WINDOW + 3 + WINDOW


def test_a_pause_keeps_what_is_found_and_tracking_goes_on_from_there(session):
    session.desk.draw(1, 0, [20, 40, 24, 24])
    session.track(steps=8)
    before = session.found()
    session.desk.pause()
    assert session.of("ended")[0]["why"] == "paused"
    assert 0 < len(before) < COUNT
    session.track()
    assert min(session.found()) == max(before) + 1
    assert session.found() == {index: 20.0 + 2 * index for index in range(max(before) + 1, COUNT)}


def test_drawing_again_begins_anew_there_and_leaves_what_was_before(session):
    session.desk.draw(1, 0, [20, 40, 24, 24])
    session.track()
    session.desk.draw(1, 12, [100, 10, 24, 24])
    session.track()
    assert session.found() == {index: 100.0 + 2 * (index - 12) for index in range(12, COUNT)}
    each = session.desk.objects[1]
    assert list(each.boxes) == list(range(COUNT))
    assert each.boxes[11][0] == 42.0
    assert 12 not in each.scores
    # Corrected further back, the later correction still holds.
    session.desk.draw(1, 5, [0, 10, 24, 24])
    session.track()
    assert session.found()[11] == 12.0
    assert session.found()[12] == 100.0


def test_objects_are_tracked_each_on_its_own(session):
    session.desk.draw(1, 0, [20, 40, 24, 24])
    session.desk.draw(2, 6, [50, 40, 24, 24])
    session.track()
    assert min(session.found(2)) == 6
    assert session.found(2)[COUNT - 1] == 50.0 + 2 * (COUNT - 1 - 6)
    # One is corrected: the other one is not tracked again, but shown.
    session.desk.draw(2, 10, [0, 0, 24, 24])
    session.track()
    assert list(session.found(1).items()) == [(index, 20.0 + 2 * index) for index in range(10, COUNT)]
    session.desk.remove(1)
    assert session.of("removed") == [{"type": "removed", "object": 1}]
    assert list(session.desk.objects) == [2]


def test_another_tracker_begins_at_the_first_box_and_keeps_corrections(tmp_path, clip):
    session = Session(tmp_path / "session", step=StepTracker(), still=StepTracker(0.0)).open(clip)
    session.desk.draw(1, 2, [20, 40, 24, 24])
    session.desk.draw(1, 10, [100, 40, 24, 24])
    session.track("step")
    session.track("still")
    assert session.found() == {index: 20.0 if index < 10 else 100.0 for index in range(2, COUNT)}
    # The page is told what no longer holds, also where it is not found again.
    assert [(each["object"], each["frame"]) for each in session.of("forgotten")] == [(1, 2)]


def test_missing_weights_are_said_and_nothing_is_lost(session):
    session.desk.draw(1, 0, [20, 40, 24, 24])
    session.track("other")
    assert "no weights for other: put them" in session.of("error")[0]["text"]
    assert session.of("ended")[0]["why"] == "failed"
    session.track()
    assert len(session.of("frame")) == COUNT


def test_objects_share_a_network_and_nothing_else():
    """Two at once, and each alone: the same boxes."""
    frames = [scene(index) for index in range(5)]
    boxes = ([20.0, 40.0, 24.0, 24.0], [90.0, 60.0, 30.0, 20.0])
    example = create_tracker("stark_lightning_X_trt", "mini")
    together = [another(example) for _ in boxes]
    for tracker, box in zip(together, boxes, strict=True):
        tracker.initialize(frames[0], {"init_bbox": box})
    both = [[tracker.track(frame) for tracker in together] for frame in frames[1:]]
    for number, box in enumerate(boxes):
        alone = create_tracker("stark_lightning_X_trt", "mini")
        alone.initialize(frames[0], {"init_bbox": box})
        assert [alone.track(frame) for frame in frames[1:]] == [results[number] for results in both]
    assert together[0].engine is example.engine


def test_any_frame_can_be_shown_also_ahead(session):
    session.said.clear()
    for frame in (13, 2, COUNT + 3):
        session.desk.show(frame)
        session.run()
    assert [message["frame"] for message in session.of("picture")] == [13, 2]
    assert session.of("length") == [{"type": "length", "frames": COUNT}]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([10, 10, 3, 30], "too small"),
        ([10, 10, 0, 30], "empty"),
        ([10, 10, -20, 30], "empty"),
        ([158, 10, 40, 40], "too small"),  # of which only two pixels are seen
        ([300, 10, 40, 40], "outside"),
        ([float("nan"), 10, 40, 40], "four numbers"),
    ],
)
def test_boxes_that_show_too_little_are_refused(box, reason):
    with pytest.raises(UserError, match=reason):
        visible_part(box, (160, 120))


def test_boxes_end_at_the_frame():
    assert visible_part([-10, 100, 1e6, 1e6], (160, 120)) == [0.0, 100.0, 160.0, 20.0]


def test_boxes_end_at_their_own_frame_where_sizes_differ(tmp_path):
    (tmp_path / "frames").mkdir()
    for index, size in enumerate([(160, 120), (320, 240)]):
        cv2.imwrite(str(tmp_path / f"frames/{index}.png"), scene(0, size))
    session = Session(tmp_path / "session").open(tmp_path / "frames")
    session.desk.show(1)
    session.run()
    session.desk.draw(1, 1, [200, 150, 60, 200])
    assert session.of("drawn")[0]["box"] == [200, 150, 60, 90]


def test_commands_at_the_wrong_time_are_refused(tmp_path, clip):
    session = Session(tmp_path / "session")
    for command in (lambda: session.desk.draw(1, 0, [1, 1, 9, 9]), lambda: session.desk.show(0)):
        with pytest.raises(UserError, match="choose a clip first"):
            command()
    session.open(clip)
    with pytest.raises(UserError, match="draw a box"):
        session.desk.track("step", "torch")
    with pytest.raises(UserError, match="nothing to download yet"):
        session.desk.export("video")
    with pytest.raises(UserError, match="no frame 99 here"):
        session.desk.draw(1, 98, [1, 1, 9, 9])


# Downloads


@pytest.fixture
def tracked(session):
    """Two objects, the second one from frame 6 on and corrected at 12."""
    session.desk.draw(1, 0, [20, 40, 24, 24])
    session.desk.draw(2, 6, [50, 40, 24, 24])
    session.desk.draw(2, 12, [60.5, 40, 24, 24])
    return session.track()


def export(session, what):
    session.said.clear()
    session.desk.export(what)
    session.run()
    assert session.of("exported") == [{"type": "exported", "what": what}], session.said
    return session.desk.folder / what


def test_the_table_has_every_box(tracked):
    with open(export(tracked, "table"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == COUNT + COUNT - 6
    assert list(rows[0].values()) == ["1", "1", "20.00", "40.00", "24.00", "24.00", "", "1"]
    assert list(rows[0]) == ["object", "frame", "x", "y", "w", "h", "confidence", "drawn"]
    assert rows[1]["confidence"] == "0.7500"
    corrected = [row for row in rows if row["object"] == "2" and row["drawn"] == "1"]
    assert [(row["frame"], row["x"]) for row in corrected] == [("7", "50.00"), ("13", "60.50")]


def test_the_video_shows_the_boxes_and_plays_in_browsers(tracked):
    path = export(tracked, "video")
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == COUNT
    assert frames[0].shape == (120, 160, 3)
    # The first box's left edge is blue, and where it was 10 frames later it is not.
    assert frames[0][50, 20].astype(int)[2] > frames[0][50, 20].astype(int)[0] + 40
    assert abs(int(frames[19][80, 20][2]) - int(frames[19][80, 20][0])) < 30


@pytest.mark.parametrize("source", ["video", "folder"])
def test_the_sequences_are_read_back_as_training_and_test_data(source, tmp_path):
    path = write_numbered(tmp_path / "my clip.mp4", COUNT) if source == "video" else None
    path = path or write_images(tmp_path / "my clip", COUNT)
    session = Session(tmp_path / "session").open(path)
    session.desk.draw(1, 0, [4, 4, 20, 20])
    session.desk.draw(2, 6, [10.25, 8, 12, 16])
    session.track()
    with zipfile.ZipFile(export(session, "sequences")) as archive:
        assert not [name for name in archive.namelist() if name.startswith("/") or ".." in name]
        archive.extractall(tmp_path / "mine")
    test = load_dataset(f"folder:{tmp_path / 'mine'}")
    assert [(each.name, len(each.truth)) for each in test] == [("my_clip_1", COUNT), ("my_clip_2", COUNT - 6)]
    assert test[1].truth[0].tolist() == [10.25, 8, 12, 16]
    assert test[1].truth[3].tolist() == [16.25, 8, 12, 16]
    assert [index_of(test[1].read_frame(index)) for index in range(COUNT - 6)] == list(range(6, COUNT))
    train = build_dataset(f"FOLDER:{tmp_path / 'mine'}", None, False)
    assert [each.name for each in train.sequences] == ["my_clip_1", "my_clip_2"]
    if source == "folder":  # not compressed a second time
        theirs = (tmp_path / "mine" / "my_clip_2" / "00000001.jpg").read_bytes()
        assert theirs == (path / "7.jpg").read_bytes()


@pytest.mark.parametrize("what", ["video", "sequences"])
def test_a_cancelled_download_leaves_no_file(what, tracked):
    tracked.desk.export(what)
    tracked.run(5)
    assert list(tracked.desk.folder.iterdir()) != []
    tracked.desk.cancel()
    assert list(tracked.desk.folder.iterdir()) == []


@pytest.mark.parametrize("what", ["video", "sequences"])
def test_after_a_damaged_end_everything_before_it_is_taken_home(what, tmp_path):
    folder = tmp_path / "frames"
    write_images(folder, 6)
    sorted(folder.iterdir())[-1].write_bytes(b"damaged")
    session = Session(tmp_path / "session").open(folder)
    session.desk.draw(1, 0, [4, 4, 12, 12])
    assert session.track().of("ended")[0]["why"] == "failed"
    assert len(session.found()) == 5
    session.desk.export(what)
    assert session.run().of("exported")
