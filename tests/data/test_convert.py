"""Converting annotations: each format in its exact layout, round trips, what is left out, and malformed files."""

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from lib.data.convert import convert
from lib.data.registry import build_dataset
from lib.utils.errors import UserError
from tests.data.made_trees import make_davis, shows, write_image, write_lines

WIDTH, HEIGHT = 24, 16  # of made images


def make_frames(folder: Path, count: int, name: str = "frame_{:06d}.jpg", first: int = 0) -> Path:
    for frame in range(count):
        write_image(folder / name.format(first + frame), 1, frame)
    return folder


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def user_error(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        convert(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def cvat_box(frame: int, x: float, y: float, right: float, bottom: float, more: str = "") -> str:
    return f'<box frame="{frame}" xtl="{x}" ytl="{y}" xbr="{right}" ybr="{bottom}" keyframe="1" {more}/>'


@pytest.fixture
def cvat(tmp_path) -> Path:
    """CVAT's export with images: `annotations.xml` and `images/frame_000000.jpg …`; its task is shorter."""
    root, outside = tmp_path / "task", 'outside="1"'
    make_frames(root / "images", 9)
    car = [cvat_box(1, 1, 2, 5, 8), cvat_box(3, 3, 2, 9, 12, 'occluded="1"'), cvat_box(4, 3, 2, 9, 12, outside)]
    car += [cvat_box(6, 2.5, 3.25, 4, 6), cvat_box(7, 2.5, 3.25, 4, 6, outside)]
    tracks = {
        "car": car,
        "red cup": [cvat_box(0, 0, 0, 4, 4), cvat_box(2, 0, 0, 8, 4)],
        "flat": [cvat_box(0, 1, 1, 3, 3), cvat_box(1, 1, 1, 1, 3), cvat_box(3, 1, 1, 3, 3), cvat_box(12, 1, 1, 3, 3)],
        "polygon": ['<polygon frame="0" points="1,1;2,2;3,3"/>'],
        "single": [cvat_box(0, 1, 1, 3, 3), cvat_box(1, 1, 1, 3, 3, outside)],
        "gone": [cvat_box(0, 1, 1, 3, 3, outside)],
        "bar": [cvat_box(0, 4, 6, 12, 8, 'rotation="90"'), cvat_box(1, 4, 6, 12, 8, 'rotation="90"')],
    }
    nodes = [f'<track id="{n}" label="{label}">{"".join(t)}</track>' for n, (label, t) in enumerate(tracks.items())]
    task = "<version>1.1</version><meta><task><size>5</size></task></meta>"
    write_lines(root / "annotations.xml", [f"<annotations>{task}{''.join(nodes)}</annotations>"])
    return root


def test_cvat_is_read_by_got10k_layout(cvat, tmp_path):
    out = tmp_path / "out"
    said, _, counted = convert(cvat, out, "cvat").partition("; left out: ")
    assert said == f"written to {out}: objects: 4, boxes: 21, frames: 25"
    assert set(counted.split(", ")) == {
        "objects without a box: 2",
        "boxes without an area: 1",
        "boxes in frames without an image: 1",
        "objects that are visible in fewer than two frames: 1",
    }
    assert lines(out / "list.txt") == ["bar_6", "car_0", "flat_2", "red_cup_1"]
    # linear between boxes, absent from the frame that is outside to the next box
    truth = ["1,2,4,6", "2,2,5,8", "3,2,6,10", "0,0,0,0", "0,0,0,0", "2.5,3.25,1.5,2.75"]
    assert lines(out / "car_0/groundtruth.txt") == truth
    assert lines(out / "car_0/absence.label") == list("000110")
    assert lines(out / "car_0/cover.label") == list("884008")
    assert "object_class: red cup" in lines(out / "red_cup_1/meta_info.ini")
    # without `outside` the last box lasts to the end of the task, not of the images
    assert lines(out / "red_cup_1/groundtruth.txt") == ["0,0,4,4", "0,0,6,4", "0,0,8,4", "0,0,8,4", "0,0,8,4"]
    assert not (out / "red_cup_1/cover.label").exists()
    assert lines(out / "flat_2/groundtruth.txt")[:4] == ["1,1,2,2", "0,0,0,0", "0,0,0,0", "1,1,2,2"]
    assert lines(out / "bar_6/groundtruth.txt")[0] == "7,3,2,8"
    # images are linked, and numbered as in the video
    assert (out / "car_0/00000002.jpg").samefile(cvat / "images/frame_000001.jpg")
    dataset = build_dataset(f"FOLDER:{out}")
    assert dataset.info(1).visible.tolist() == [True, True, True, False, False, True]
    assert [shows(dataset.image(1, frame), 1, frame + 1) for frame in range(6)] == [True] * 6


def label_studio(sequence: list[dict], frames: int, video: str = "clip.mp4") -> dict:
    value = {"framesCount": frames, "sequence": sequence, "labels": ["cat"]}
    region = {"type": "videorectangle", "id": "aB3", "value": value}
    first, cancelled = {"result": [region, {"type": "labels", "id": "x"}]}, {"result": [], "was_cancelled": True}
    results = [cancelled, first, {"result": []}]
    return {"id": 1, "data": {"video": f"/data/upload/1/0a1b-{video}"}, "annotations": results}


def percent(frame: int, x: float, y: float, w: float, h: float, **more) -> dict:
    box = {"x": x / WIDTH * 100, "y": y / HEIGHT * 100, "width": w / WIDTH * 100, "height": h / HEIGHT * 100}
    return {"frame": frame, "enabled": True, "rotation": 0} | box | more


def test_label_studio_keyframes_show_until_one_is_disabled_at_a_rate_of_their_own(tmp_path):
    frames = make_frames(tmp_path / "clip.mp4", 10)  # a folder that is named as the video
    sequence = [percent(2, 1, 2, 4, 4), percent(4, 3, 2, 4, 8, enabled=False), percent(7, 8, 8, 2, 2, rotation=90)]
    write_lines(tmp_path / "ls.json", [json.dumps([label_studio([], 4, "other.mp4"), label_studio(sequence, 10)])])
    said = convert(tmp_path / "ls.json", tmp_path / "out", "label-studio", frames=frames)
    counted = "tasks of other videos: 1, further annotations of this video: 1, regions that are no video rectangles: 1"
    assert said.endswith(counted)
    # it turns about its corner; the last keyframe lasts to the end
    truth = ["1,2,4,4", "2,2,4,6", "3,2,4,8", "0,0,0,0", "0,0,0,0", *["6,8,2,2"] * 4]
    assert lines(tmp_path / "out/cat_aB3/groundtruth.txt") == truth
    assert names(tmp_path / "out/cat_aB3")[0] == "00000002.jpg"
    # of ten frames it counts five: the fifth is the ninth
    keys = [percent(1, 0, 0, 4, 4), percent(5, 8, 0, 4, 4)]
    write_lines(tmp_path / "ls.json", [json.dumps([label_studio(keys, 5)])])
    convert(tmp_path / "ls.json", tmp_path / "out", "label-studio", frames=frames, overwrite=True)
    assert lines(tmp_path / "out/cat_aB3/groundtruth.txt") == [f"{x},0,4,4" for x in (*range(9), 8)]


def make_yolo(root: Path, texts: dict[str, list[str]], frames: int) -> Path:
    make_frames(root / "images", frames, "{}.jpg", first=1)
    for name, rows in texts.items():
        write_lines(root / f"labels/{name}.txt", rows)
    write_lines(root / "data.yaml", ["names: {0: cat, 2: dog}"])
    return root


def test_yolo_with_track_ids_and_without(tmp_path):
    # Ultralytics: class, box, confidence where it was asked for, track id where there is one
    texts = {"1": ["0 0.5 0.5 0.25 0.25 7", "2 0.5 0.5 1 1 0.91 8"], "3": ["2 0.25 0.5 0.25 0.25 0.4 7"]}
    texts |= {"2": ["0 0.5 0.5 0.5 0.5 0.8"], "4": ["0 0.5 0.5 1 1 8"], "readme": ["0 0 0 0 0"]}
    said = convert(make_yolo(tmp_path / "yolo", texts, 4), tmp_path / "out", "yolo")
    assert "left out: text files of no frame: 1, boxes without a track id: 1" in said
    assert lines(tmp_path / "out/list.txt") == ["cat_7", "dog_8"]
    assert lines(tmp_path / "out/cat_7/groundtruth.txt") == ["9,6,6,4", "0,0,0,0", "3,6,6,4"]
    assert lines(tmp_path / "out/dog_8/groundtruth.txt") == ["0,0,24,16", "0,0,0,0", "0,0,0,0", "0,0,24,16"]
    # without track ids a class is an object, unless a frame has two of its boxes
    texts = {"1": ["0 0.5 0.5 1 1", "5 0.5 0.5 1 1"], "2": ["5 0.5 0.5 1 1", "0 0.5 0.5 1 1", "5 0.1 0.1 0.1 0.1"]}
    said = convert(make_yolo(tmp_path / "plain", texts, 2), tmp_path / "two", "yolo")
    assert "boxes of classes with two boxes in a frame and no track ids: 3" in said
    assert lines(tmp_path / "two/list.txt") == ["cat"]


def test_a_video_file_is_written_as_images_once(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (48, 32))
    for frame in range(12):
        writer.write(np.full((32, 48, 3), 20 * frame, np.uint8))
    writer.release()
    for frame in (3, 10, 12):  # as Ultralytics names them: <video>_<number from 1>
        write_lines(tmp_path / f"labels/clip_{frame}.txt", ["1 0.5 0.5 0.5 0.5 1", "1 0.25 0.25 0.5 0.5 2"])
    convert(tmp_path / "labels", tmp_path / "out", "yolo", frames=tmp_path / "clip.avi")
    files = [tmp_path / f"out/class1_{track}/00000010.jpg" for track in (1, 2)]
    assert files[0].samefile(files[1])
    assert abs(int(cv2.imread(str(files[0])).mean()) - 180) < 4
    assert names(tmp_path) == ["clip.avi", "labels", "out"]


def test_mot_flags_and_visibility(tmp_path):
    make_frames(tmp_path / "mot/img1", 5, "{:06d}.jpg", first=1)
    rows = ["2,1,10,10,4,6,1,1,0", "3,1,11,10,4,6,1,1,0.5", "4,1,12,10,4,6,1,1,0.01", "1,2,1,1,2,2,0,8,1"]
    rows += ["5,1,12,10,4,6,1,1,1", "1,-1,1,1,2,2,1,1,1", "1,3,1,1,2,2,1,3,1", "4,3,5.5,1,2,2,1,3,1"]
    write_lines(tmp_path / "mot/gt/gt.txt", rows)
    said = convert(tmp_path / "mot", tmp_path / "out", "mot", prefix="MOT17-02_")
    assert "boxes that are to be ignored (flag 0): 1, boxes without an id: 1" in said
    assert "boxes before the first visible frame: 1" in said
    assert lines(tmp_path / "out/list.txt") == ["MOT17-02_class3_3", "MOT17-02_pedestrian_1"]
    folder = tmp_path / "out/MOT17-02_pedestrian_1"
    assert names(folder)[:3] == ["00000003.jpg", "00000004.jpg", "00000005.jpg"]
    assert lines(folder / "cover.label") == ["4", "1", "8"]
    assert lines(folder / "groundtruth.txt")[0] == "11,10,4,6"


def test_davis_gives_every_object_also_a_late_one(tmp_path):
    root = make_davis(tmp_path / "davis", videos=["bear"])
    first = root / "Annotations/480p/bear/00000.png"
    mask = cv2.imread(str(first))
    mask[(mask == (0, 0, 128)).all(axis=-1)] = 0  # the object of colour (128, 0, 0), DAVIS's first, is not there yet
    cv2.imwrite(str(first), mask)
    said = convert(root, tmp_path / "out", "davis")
    assert "frames without a mask: 1" in said
    assert lines(tmp_path / "out/bear_2/groundtruth.txt") == [f"{2 + frame},2,6,5" for frame in range(4)]
    assert lines(tmp_path / "out/bear_1/groundtruth.txt") == ["13,2,6,5", "14,2,6,5"]
    assert "frames of its own" in user_error(root, tmp_path / "out", "davis", frames=root)


CAR = '<a><track label="car" id="7">{}</track></a>'


@pytest.mark.parametrize(
    ("form", "name", "text", "said"),
    [
        ("cvat", "a.xml", "<annotations>", "a.xml: no element found"),
        ("cvat", "a.xml", "<annotations/>", "there is no <track>"),
        ("cvat", "a.xml", '<a><track task_id="1"/><track task_id="2"/></a>', "there are several tasks"),
        ("cvat", "a.xml", '<a><track label="a"/></a>', "a.xml, track None: 'id' is missing"),
        ("cvat", "a.xml", CAR.format(cvat_box(1, "one", 2, 3, 4)), "a.xml, track 7: could not convert string"),
        ("cvat", "a.xml", CAR.format(cvat_box(1, "nan", 2, 3, 4)), "a.xml, object car_7: a number of a box is not"),
        ("cvat", "a.xml", CAR.format(cvat_box(1, 1, 2, 3, 4) * 2), "a.xml, object car_7: two boxes in frame 1"),
        ("label-studio", "a.json", "[{}]", "a.json, read as Label Studio's JSON: 'data' is missing"),
        ("label-studio", "a.json", json.dumps([label_studio([{"frame": 1, "x": 1}], 4)]), "region aB3: 'y' is missing"),
        ("label-studio", "a.json", json.dumps([label_studio([], 4)] * 2), "0 of its 2 tasks are of a video images"),
        ("yolo", "1.txt", "0 0.5 a 1 1", "1.txt, line 1: '0 0.5 a 1 1' is not 5 to 7 numbers"),
        ("yolo", "1.txt", "0 0 0 1 1 3\n0 0 0 1 1 3", "object class0_3: two boxes in frame 0"),
        ("yolo", "1.txt", "0 0 0 1 1\n0 0 0 1 1", "no object to convert; left out: boxes of classes with two boxes"),
        ("yolo", "data.yaml", "names: 7", "data.yaml, names: 'int' object is not iterable"),
        ("mot", "gt.txt", "1,1,1,1,2,2\n0,1,1,2,3,4", "gt.txt, line 2: expected frame (from 1)"),
    ],
)
def test_malformed_files_are_named_and_nothing_is_left_behind(tmp_path, form, name, text, said):
    write_lines(tmp_path / "in" / name, [text])
    source, frames = tmp_path / "in" / ("" if form == "yolo" else name), make_frames(tmp_path / "images", 2)
    assert said in user_error(source, tmp_path / "out", form, frames=frames)
    assert names(tmp_path) == ["images", "in"]


@pytest.mark.parametrize("to", ["cvat", "mot"])
def test_round_trips_are_equal(cvat, tmp_path, to):
    convert(cvat, tmp_path / "first", "cvat")
    convert(tmp_path / "first", tmp_path / "between", "got10k", to)
    frames = tmp_path / "between/img1" if to == "mot" else cvat / "images"
    convert(tmp_path / "between", tmp_path / "second", to, frames=frames)
    others = ["car_1", "red_cup_2"] if to == "mot" else ["car_0", "red_cup_1"]  # MOT counts from 1
    for name, other in zip(["car_0", "red_cup_1"], others, strict=True):
        for file in names(tmp_path / "first" / name):
            assert (tmp_path / "second" / other / file).read_bytes() == (tmp_path / "first" / name / file).read_bytes()
    assert user_error(tmp_path / "first", tmp_path / "between", "got10k", to).endswith("or replace it by --overwrite")
    # one sequence alone keeps its place in the video
    convert(tmp_path / "first/car_0", tmp_path / "car.xml", "got10k", "cvat")
    boxes = ElementTree.parse(tmp_path / "car.xml").iter("box")
    assert [box.get("frame") + box.get("outside") for box in boxes] == ["10", "20", "30", "41", "60"]


def test_objects_of_different_videos_do_not_become_one(tmp_path):
    for number, name in enumerate("ab"):
        write_image(tmp_path / f"set/{name}/00000001.jpg", number, 0)
        write_lines(tmp_path / f"set/{name}/groundtruth.txt", ["1,1,4,4"])
    assert "a and b are of different videos" in user_error(tmp_path / "set", tmp_path / "out", "got10k", "cvat")
    write_lines(tmp_path / "set/b/absence.label", ["1"])
    convert(tmp_path / "set", tmp_path / "one", "got10k", "mot")
    assert lines(tmp_path / "one/gt/gt.txt") == ["1,1,1,1,4,4,1,1,1"]


def test_sequences_are_added_and_nothing_is_overwritten_unasked(cvat, tmp_path, monkeypatch):
    out, new = tmp_path / "out", ["bar_6", "car_0", "flat_2", "red_cup_1"]
    write_lines(out / "old/groundtruth.txt", ["1,1,4,4"])
    monkeypatch.chdir(out)
    convert(cvat, ".", "cvat")
    write_lines(out / "car_0/groundtruth.txt", ["mine"])
    assert str(out / "bar_6") in user_error(cvat, out, "cvat")
    assert lines(out / "car_0/groundtruth.txt") == ["mine"]
    convert(cvat, out, "cvat", prefix="b_")
    convert(cvat, out, "cvat", overwrite=True)
    assert len(lines(out / "car_0/groundtruth.txt")) == 6
    assert lines(out / "list.txt") == ["old", *new, *(f"b_{name}" for name in new)]
    assert set(names(out)) == {"list.txt", *lines(out / "list.txt")}
    assert len(names(cvat / "images")) == 9


def test_wrong_arguments_say_what_to_do(cvat, tmp_path):
    out = tmp_path / "out"
    assert "did you mean 'cvat'" in user_error(cvat, out, "cvta")
    assert "did you mean 'mot'" in user_error(cvat, out, "cvat", "mott")
    assert "no file or folder" in user_error(tmp_path / "nowhere", out, "cvat")
    assert "no video" in user_error(cvat, out, "cvat", frames=cvat / "annotations.xml")
    (cvat / "images").rename(tmp_path / "images")
    assert "folder of its images by --frames" in user_error(cvat, out, "cvat")
    assert not out.exists()
