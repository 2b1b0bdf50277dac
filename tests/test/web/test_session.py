"""A session's commands and jobs: boxes drawn, tracked and corrected, and taken home."""

import csv
import errno
import json
import threading
import zipfile
from unittest.mock import Mock

import av
import cv2
import pytest

from lib.data.registry import build_dataset, load_dataset
from lib.test.web import work
from lib.test.web.clips import Limits, Media
from lib.test.web.objects import TrackedObject, visible_part
from lib.test.web.session import Session
from lib.utils.errors import UserError
from tests.test.web.made_clips import index_of, scene, write_clip, write_images, write_numbered

COUNT = 20
BOX = [20, 40, 24, 24]


class StepTracker:
    """Moves its box by `step` to the right a frame; says how sure it is."""

    def __init__(self, step=2.0):
        self.step, self.box = step, None

    def initialize(self, image, info):
        self.box = list(info["init_bbox"])

    def spawn(self):
        return StepTracker(self.step)

    def track(self, image):
        self.box = [self.box[0] + self.step, *self.box[1:]]
        return {"target_bbox": self.box, "conf_score": 0.75}


class Shelf:
    """Stands in for `Trackers`."""

    def __init__(self):
        self.trackers, self.lock = {"step": StepTracker(), "still": StepTracker(0.0)}, threading.Lock()

    def get(self, key, engine):
        if key not in self.trackers:
            raise UserError(f"no weights for {key}: put them under checkpoints/")
        return self.trackers[key]


class Page:
    """A session without its thread, and the messages that it sends: `said`."""

    def __init__(self, folder):
        self.said = []
        self.session = Session(folder, Limits(), Shelf(), Media([folder]), lambda *said: self.said.append(said))

    def say(self, kind, steps=100_000, **arguments):
        """Run a command and all that follows; returns the new messages."""
        self.said.clear()
        self.session.handle(json.dumps({"type": kind, **arguments}))
        for _ in range(steps):
            if not self.session.step():
                break
        return [message for message, _ in self.said]

    def open(self, path):
        self.say("open_media", path=f"0/{path.name}")
        return self

    def draw(self, number, frame, box):
        assert self.say("draw", number=number, frame=frame, box=box)[-1]["type"] == "drawn"
        return self

    def track(self, key="step", **more):
        self.say("track", key=key, engine="torch", **more)
        return self

    def of(self, kind):
        return [message for message, _ in self.said if message["type"] == kind]

    def found(self, number=1):
        """x of an object by frame, in the frames of the last command."""
        found = [(message["frame"], each) for message in self.of("frame") for each in message["objects"]]
        return {frame: each["box"][0] for frame, each in found if each["object"] == number}

    def export(self, what):
        self.say("export", what=what)
        assert self.of("exported") == [{"type": "exported", "what": what}], self.said
        return self.session.folder / what


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", map(scene, range(COUNT)), g="6")


@pytest.fixture
def page(tmp_path, clip):
    return Page(tmp_path).open(clip)


def test_every_frame_is_reported_once_and_after_a_pause_tracking_goes_on(page):
    before = page.draw(1, 0, BOX).track(steps=8).found()
    assert page.say("pause")[0]["why"] == "paused"
    assert 0 < len(before) < COUNT
    found = before | page.track().found()
    assert min(page.found()) == max(before) + 1
    assert list(found.items()) == [(index, 20.0 + 2 * index) for index in range(COUNT)]
    last = page.of("frame")[-1]
    assert last["objects"][0]["score"] == 0.75
    assert last["fps"] > 0
    assert page.of("ended") == [{"type": "ended", "why": "end", "frames": COUNT}]
    assert page.track().of("ended")[0]["why"] == "complete"
    assert page.of("frame") == []


def test_drawing_again_begins_anew_there_and_leaves_what_was_before(page):
    page.draw(1, 0, BOX).track().draw(1, 12, [100, 10, 24, 24]).track()
    assert page.found() == {index: 100.0 + 2 * (index - 12) for index in range(12, COUNT)}
    each = page.session.work.objects[1]
    assert sorted(each.boxes) == list(range(COUNT))
    assert each.boxes[11][0] == 42.0
    assert [each.boxes[index][4] for index in (11, 12)] == [0.75, None]
    # Corrected further back, the later correction still holds.
    assert page.draw(1, 5, [0, 10, 24, 24]).track().found() == {index: 2.0 * (index - 5) for index in range(5, 12)}
    assert page.session.work.objects[1].boxes[19][0] == 114.0


def test_objects_are_tracked_each_on_its_own(page):
    page.draw(1, 0, BOX).draw(2, 6, [50, 40, 24, 24]).track()
    assert min(page.found(2)) == 6
    assert page.found(2)[COUNT - 1] == 50.0 + 2 * (COUNT - 1 - 6)
    # One is corrected: the other one is not tracked again, but shown.
    page.draw(2, 10, [0, 0, 24, 24]).track()
    assert list(page.found(1).items()) == [(index, 20.0 + 2 * index) for index in range(10, COUNT)]
    assert [each["number"] for each in page.say("remove", number=1)[0]["objects"]] == [2]
    assert list(page.session.work.objects) == [2]


def test_boxes_end_at_their_own_frame_and_have_to_show_enough(page, tmp_path):
    for x, width, said in ((10, 3, "small"), (10, -20, "small"), (158, 40, "small"), (300, 40, "outside .* 160x120")):
        with pytest.raises(UserError, match=said):
            visible_part([x, 10, width, 30], (160, 120))
    assert visible_part([-10, 100, 1e6, 1e6], (160, 120)) == [0.0, 100.0, 160.0, 20.0]
    (tmp_path / "frames").mkdir()
    for index, size in enumerate([(160, 120), (320, 240)]):
        cv2.imwrite(str(tmp_path / f"frames/{index}.png"), scene(0, size))
    page.open(tmp_path / "frames").say("show", frame=1)
    assert page.draw(1, 1, [200, 150, 60, 200]).session.work.objects[1].boxes == {1: [200, 150, 60, 90, None]}


def test_what_goes_wrong_is_said_and_nothing_is_lost(page, monkeypatch):
    def refusal(kind, **arguments):
        page.say(kind, **arguments)
        return page.of("error")[0]["text"]

    for number, kind, more in ((2, "rename", {"name": "x"}), (2, "mark", {"first": 0, "last": 1, "absent": True})):
        assert refusal(kind, number=number, **more) == "there is no object 2"
    assert refusal("mark", number=1, first=2, last=1, absent=True) == "the range ends before it begins"
    assert refusal("truth", number=1) == "there is no groundtruth.txt in this clip's folder"
    assert refusal("open_upload") == "nothing has been uploaded yet"
    for _ in range(9):
        page.say("restore", part="x" * 2**20, more=True)
    assert refusal("restore", part="", more=False) == "the work that this page kept is too large"
    assert not page.say("undo", again=False)[0]["redo"]  # nothing of this is an action
    assert refusal("track", key="step", engine="torch") == "draw a box around what to follow first"
    assert refusal("export", what="video").startswith("there is nothing to download yet")
    text = "no weights for other: put them under checkpoints/"
    page.draw(1, 0, BOX).track("other")
    assert page.of("error") == [{"type": "error", "about": "track", "text": text}]
    with monkeypatch.context() as broken:
        broken.setattr(StepTracker, "track", lambda *_: 1 / 0)
        text = "something went wrong in the server (ZeroDivisionError: division by zero); its log says where"
        assert page.track().of("error") == [{"type": "error", "about": "track", "text": text}]
    assert len(page.track().of("frame")) == COUNT - 1  # the first one had been done
    assert refusal("draw", number=1, frame=98, box=BOX) == "there is no frame 99 in this clip"
    before = dict(page.session.work.objects[1].boxes)
    assert refusal("track", key="step", engine="torch", span=[5, 4]) == "the range ends before it begins"
    span = {"number": 1, "span": [10, 15], "backwards": True}
    assert refusal("track", key="step", engine="torch", **span).startswith("no box to begin with lies after these")
    assert page.session.work.objects[1].boxes == before
    page.session.folder = page.session.clip.path  # a file
    assert page.say("export", what="table")[-1]["text"] == "the server cannot read or write that: File exists"
    page.session.clip = None
    assert refusal("show", frame=0) == "choose a clip first"


def test_work_is_written_again_after_a_full_disk_and_that_of_another_page_is_moved_aside(page, clip, monkeypatch):
    file = clip.with_name("clip.mp4.tracks.json")
    with monkeypatch.context() as full:
        full.setattr(work, "write_text", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        said = [page.say("draw", number=1, frame=frame, box=BOX)[1:] for frame in (0, 1)]  # after the work
    text = f"the work is kept in this browser only, since {clip.parent.name} cannot be written: No space left on device"
    assert said == [[{"type": "note", "text": text}], []]  # once
    assert not file.exists()
    page.draw(1, 2, BOX)
    assert json.loads(file.read_text())["objects"][0]["drawn"] == [0, 1, 2]
    file.write_text('{"objects": []}')
    (note,) = page.say("rename", number=1, name="square")[1:]
    other = file.with_name("clip.mp4.tracks.other.json")
    assert note["text"] == f"another page has changed the work on this clip: what it had is in {other.name}"
    assert other.read_text() == '{"objects": []}'
    assert json.loads(file.read_text())["objects"][0]["name"] == "square"
    (opened,) = page.open(clip.rename(clip.with_name(f"{'a' * 245}.mp4"))).of("opened")
    assert opened["note"] == "the work is kept in this browser only: File name too long"


def test_a_header_may_say_too_few_frames(page):
    """Up to the limit they are tracked; more are an error, and not an end."""
    for most in (COUNT, COUNT - 5):
        clip = page.open(page.session.clip.path).session.clip
        page.say("remove", number=1)
        clip.total, clip.exact, clip.limits = 10, False, Limits(frames=most)
        assert len(page.draw(1, 0, BOX).track().found()) == clip.total == most
        assert bool(page.of("error")) == (most < COUNT) == (page.of("ended") == [])


def test_nonsense_is_refused(page):
    texts = ["", "{", "null", "[" * 100_000, '{"type": "handle", "text": ""}', '{"type": [], "frame": 1}']
    bad = [{"frame": -1}, {"frame": "1"}, {"frame": 1, "path": "/etc"}, {"frame": 10**9}, {}]
    texts += [json.dumps({"type": "show"} | each) for each in bad]
    boxes = ([1, 2, 3], [1, 2, 3, float("inf")], [float("nan"), 1, 9, 9], ["a", 2, 3, 4], None)
    texts += [json.dumps({"type": "draw", "number": 1, "frame": 0, "box": box}) for box in boxes]
    texts += [json.dumps({"type": "draw", "number": number, "frame": 0, "box": BOX}) for number in (0, 7, True, 1.5)]
    for text in [*texts, '{"type": "export", "what": "../x"}', '{"type": "browse", "path": 1}']:
        page.said.clear()
        page.session.handle(text)
        ((message, _),) = page.said
        assert message["text"] == "the server does not understand the page: reload it", text


def test_a_folders_ground_truth_is_taken_as_drawn_boxes(tmp_path):
    folder = write_images(tmp_path / "frames", 5)
    (folder / "groundtruth.txt").write_text("4,4,20,20\n5,4,20,20\nnan,nan,nan,nan\n7,4,20,20\n8,4,20,20\n")
    (folder / "absence.label").write_text("0\n0\n0\n1\n0\n")
    page = Page(tmp_path).open(folder)
    assert page.of("opened")[0]["truth"] == "groundtruth.txt"
    ((each,), *_) = (message["objects"] for message in page.say("truth", number=1))
    assert (each["drawn"], each["absent"]) == ([0, 1, 4], [2, 3])
    assert each["boxes"][2] == [4, 8, 4, 20, 20, None]


# Downloads


@pytest.fixture
def tracked(page):
    """Two objects, the second one from frame 6 on and corrected at 12."""
    return page.draw(1, 0, BOX).draw(2, 6, [50, 40, 24, 24]).draw(2, 12, [60.5, 40, 24, 24]).track()


def test_the_table_has_every_box_and_the_video_shows_them(tracked):
    with open(tracked.export("table"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == COUNT + COUNT - 6
    assert list(rows[0].values()) == ["1", "1", "20.00", "40.00", "24.00", "24.00", "", "1", ""]
    assert list(rows[0]) == ["object", "frame", "x", "y", "w", "h", "confidence", "drawn", "name"]
    assert rows[1]["confidence"] == "0.7500"
    corrected = [row for row in rows if row["object"] == "2" and row["drawn"] == "1"]
    assert [(row["frame"], row["x"]) for row in corrected] == [("7", "50.00"), ("13", "60.50")]
    with av.open(str(tracked.export("video"))) as container:
        assert container.streams.video[0].codec_context.name == "h264"  # which browsers play
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(120, 160, 3)] * COUNT
    # The first box's left edge is blue, and where it was it is not any more at the end.
    assert frames[0][50, 20].astype(int)[2] > frames[0][50, 20].astype(int)[0] + 40
    assert abs(int(frames[19][80, 20][2]) - int(frames[19][80, 20][0])) < 30


@pytest.mark.parametrize("source", ["video", "folder"])
def test_the_sequences_are_read_back_as_training_and_test_data(source, tmp_path):
    path = (write_numbered if source == "video" else write_images)(tmp_path / "my clip.mp4", COUNT)
    page = Page(tmp_path).open(path).draw(1, 0, [4, 4, 20, 20]).draw(2, 6, [10.25, 8, 12, 16]).track()
    with zipfile.ZipFile(page.export("sequences")) as archive:
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
        assert (tmp_path / "mine/my_clip_2/00000001.jpg").read_bytes() == (path / "7.jpg").read_bytes()


def test_a_cancelled_download_leaves_no_file_and_a_person_may_go_on_meanwhile(tracked, clip):
    tracked.say("export", what="sequences", steps=5)
    assert list(tracked.session.folder.iterdir()) != []
    said = tracked.say("draw", number=2, frame=12, box=[0, 0, 24, 24])
    assert {"drawn", "exported"} <= {message["type"] for message in said}
    tracked.say("export", what="sequences", steps=5)
    tracked.open(clip)
    assert [path.name for path in tracked.session.folder.iterdir()] == ["sequences"]  # the one before


def test_after_a_damaged_end_everything_before_it_is_taken_home(tmp_path):
    folder = write_images(tmp_path / "frames", 6)
    (folder / "6.jpg").write_bytes(b"damaged")
    page = Page(tmp_path).open(folder).draw(1, 0, [4, 4, 12, 12]).track()
    assert "6.jpg of frames is not a picture" in page.of("error")[0]["text"]
    assert len(page.found()) == 5
    assert page.export("sequences").is_file()
    # Nor where the clip has become shorter since, and then it is said; the frames of the second object are all gone.
    page.session.work.objects |= {2: TrackedObject(2, "", {9: [4, 4, 12, 12, None]}, frozenset([9]))}
    for what in ("video", "sequences"):
        file = page.export(what)
        (note,) = page.of("note")
        assert note["text"].endswith("the file that is made ends with frame 5"), note
    with zipfile.ZipFile(file) as archive:
        assert archive.read("list.txt") == b"frames_1\n"
        assert archive.read("frames_1/groundtruth.txt").count(b"\n") == 5
