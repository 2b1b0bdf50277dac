"""Training sets from folders: every layout, its variants, what is hidden, and clear ends where something is wrong."""

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from lib.data import layouts, synthetic
from lib.data.dataset import TrackingDataset
from lib.data.images import ImageReadError
from lib.data.registry import build_dataset, load_dataset
from lib.utils.errors import UserError
from lib.utils.files import read_ranges
from tests.data.made_trees import (
    MAKERS,
    assert_same,
    boxes,
    make_got10k,
    make_lasot,
    make_outlined_coco,
    make_trackingnet,
    make_vid,
    shows,
    write_lines,
    write_lmdb,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in GOT-10k layout; its list is not in alphabetical order."""
    return make_got10k(tmp_path / "own", ["b", "a"], frames=4)


def user_error(name: str, data_dir: Path | None = None, sequence: int = 0) -> str:
    """The message that a data set, or one sequence's annotation, ends with."""
    with pytest.raises(UserError) as caught:
        build_dataset(name, data_dir).info(sequence)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folder_gives_boxes_frames_and_visibility_in_the_order_of_its_list(folder):
    dataset = build_dataset(f"FOLDER:{folder}")
    assert (len(dataset), dataset.is_video) == (2, True)
    for sequence in range(2):
        info = dataset.info(sequence)
        np.testing.assert_array_equal(info.boxes, np.float32(boxes(sequence, 4)), strict=True)
        assert info.visible.all()
        assert all(shows(dataset.image(sequence, frame), sequence, frame) for frame in range(4))
    (folder / "a" / "00000003.jpg").unlink()
    with pytest.raises(ImageReadError, match=f"{folder}/a/00000003.jpg"):
        dataset.image(1, 2)
    # Visible frames need a box, presence and cover.
    write_lines(folder / "b" / "groundtruth.txt", ["1,1,5,5", "nan,nan,nan,nan", "1,1,5,5", "1,1,0,5"])
    write_lines(folder / "b" / "absence.label", [0, 0, 1, 0])
    info = build_dataset(f"FOLDER:{folder}").info(0)
    assert info.valid.tolist() == [True, False, True, False]
    assert info.visible.tolist() == [True, False, False, False]
    assert np.isfinite(info.boxes).all()
    write_lines(folder / "b" / "cover.label", [0, 8, 8, 8])
    assert not build_dataset(f"FOLDER:{folder}").info(0).visible.any()


def test_sequences_left_out_by_the_list_or_missing_are_counted_those_of_the_split_alone(tmp_path, caplog):
    root, first, second = tmp_path / "got10k", "GOT-10k_Train_000001", "GOT-10k_Train_000002"
    make_got10k(root, ["c", first, second])
    write_lines(root / "list.txt", ["a", first])
    report = f"1 sequences are used; left out: 1 missing in {root} (a), 2 not in list.txt ({second}, c)"
    assert build_dataset(f"FOLDER:{root}").report == report
    assert len(load_dataset(f"folder:{root}")) == 1
    assert caplog.messages == [f"folder:{root}: {report}"]
    report = build_dataset("GOT10K_vottrain", tmp_path).report  # the second is validation's
    assert "7085 missing in" in report
    assert "not in list.txt" not in report


@pytest.mark.parametrize(
    ("file", "lines", "said"),
    [
        ("groundtruth.txt", ["1,2,3,4", "1,2,3,4", "1,2,three,4", "1,2,3,4"], ["line 3", "three"]),
        ("groundtruth.txt", ["1,2,3,4"] * 5, ["5 boxes", "4 frames in"]),
        ("absence.label", ["0", "0", "maybe", "0"], ["line 3", "maybe"]),
        ("cover.label", ["8", "8"], ["2 flags", "4 boxes"]),
        ("../list.txt", ["b", "a", "b"], ["line 3", "'b' is listed already in line 1"]),
        ("../list.txt", ["b", "a", "../a"], ["line 3", "'../a' is not the name of a folder"]),
    ],
)
def test_a_malformed_annotation_is_named_with_its_place(folder, file, lines, said):
    write_lines(folder / "a" / file, lines)
    message = user_error(f"FOLDER:{folder}", sequence=1)
    assert all(part in message for part in [str((folder / "a" / file).resolve()), *said])


@pytest.mark.parametrize("root", ["got10k/train", "got10k"])
def test_got10k_splits_are_the_published_ones_and_go_by_names(tmp_path, root):
    splits = {name: read_ranges(layouts.SPECS / f"got10k_{name}.ranges.txt") for name in ("vottrain", "votval", "val")}
    assert [len({*split}) for split in splits.values()] == [7086, 1249, 1401]
    assert not {*splits["vottrain"]} & {*splits["votval"]}
    names = [f"GOT-10k_Train_{number:06d}" for number in (1, 2, 3, 5)]
    make_got10k(tmp_path / root, names)
    for split, chosen in (("vottrain", [names[0], names[2]]), ("votval", [names[1]]), ("train_full", names)):
        dataset = build_dataset(f"GOT10K_{split}", tmp_path)
        assert [Path(dataset.source(i, 0)).parent.name for i in range(len(dataset))] == chosen
    if root.endswith("train"):
        (sequence,) = load_dataset("got10k_ltrval", tmp_path)
        assert (sequence.name, sequence.dataset, sequence.subfolder) == (names[1], "got10k_ltrval", "got10k")
    make_got10k(tmp_path / "other" / root, ["mine"])
    assert f"FOLDER:{tmp_path / 'other' / root}" in user_error("GOT10K_votval", tmp_path / "other")


@pytest.mark.parametrize("nested", [True, False])
def test_lasot_takes_training_videos_and_hides_by_both_labels(tmp_path, nested):
    root = make_lasot(tmp_path / "lasot", ["airplane-1", "airplane-2", "airplane-10"], nested)
    for path in root.rglob("airplane-10/*_*.txt"):
        path.unlink()
    dataset = build_dataset("LASOT", tmp_path)
    names = [Path(dataset.source(i, 0)).parents[1].name for i in range(len(dataset))]
    assert names == ["airplane-2", "airplane-10"]
    assert dataset.report.startswith("2 sequences are used; left out: 1118 missing in")
    assert [dataset.info(i).visible.tolist() for i in (0, 1)] == [[False, True, False], [True] * 3]
    assert shows(dataset.image(1, 2), 2, 2)


def test_trackingnet_reads_parts_by_number_and_frames_from_zero(tmp_path):
    make_trackingnet(tmp_path / "trackingnet", ["TRAIN_0/b_0", "TRAIN_2/b_0", "TRAIN_11/a_2"])  # one name, two videos
    dataset = build_dataset("TRACKINGNET", tmp_path)
    assert [Path(dataset.source(i, 0)).parts[-4] for i in range(3)] == ["TRAIN_0", "TRAIN_2", "TRAIN_11"]
    assert [Path(dataset.source(2, f)).name for f in (0, 9, 10)] == ["0.jpg", "9.jpg", "10.jpg"]
    np.testing.assert_array_equal(dataset.info(1).boxes, boxes(1, 12))
    assert "9 parts missing in" in dataset.report


def test_trackingnet_as_it_is_published_with_an_lmdb_for_each_part(tmp_path):
    root = make_trackingnet(tmp_path / "trackingnet", ["TRAIN_0/a_0", "TRAIN_11/b_0", "TRAIN_11/c_0"])
    packed = tmp_path / "trackingnet_lmdb"
    write_lines(packed / "seq_list.json", ['[[0, "a_0"], [11, "b_0"], [11, "c_0"]]'])
    for part in ("TRAIN_0", "TRAIN_11"):
        write_lmdb(packed / f"{part}_lmdb", root / part)
    dataset = build_dataset("TRACKINGNET", tmp_path, use_lmdb=True, cache=tmp_path / "cache")
    dataset.keep_annotations()
    assert_same(build_dataset("TRACKINGNET", tmp_path), dataset)
    assert dataset.source(1, 2) == f"{packed}:TRAIN_11/frames/b_0/2.jpg"
    assert [dataset.storage.exists(path) for path in ("TRAIN_11", "TRAIN_3/anno")] == [True, False]
    with pytest.raises(UserError, match="cannot read .*TRAIN_3/anno/x.txt: No such file"):
        dataset.storage.read_bytes("TRAIN_3/anno/x.txt")


def test_training_and_testing_read_the_same(tmp_path):
    make_got10k(tmp_path / "got10k/val", ["a"])
    write_lines(tmp_path / "got10k/val/a/absence.label", [0, 1, 0])
    for number in (1, 2):  # of testing, and of training
        make_lasot(tmp_path / "lasot", [f"airplane-{number}"])
    make_trackingnet(tmp_path / "trackingnet", ["TRAIN_0/a_0"])
    make_trackingnet(tmp_path / "trackingnet", ["TEST/a_0"])
    names = {f"FOLDER:{tmp_path / 'got10k/val'}": "got10k_val", "LASOT": "lasot", "TRACKINGNET": "trackingnet"}
    for training, testing in ((build_dataset(name, tmp_path), load_dataset(names[name], tmp_path)) for name in names):
        info, (sequence,) = training.info(0), testing
        np.testing.assert_array_equal(info.boxes, np.float32(sequence.truth), strict=True)
        visible = np.ones(len(info), bool) if sequence.visible is None else sequence.visible
        assert info.visible.tolist() == (info.valid & visible).tolist()
        assert [Path(training.source(0, i)).name for i in range(len(info))] == [path.name for path in sequence.frames]


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_default.json", "images/default"),  # CVAT
        ("test/_annotations.coco.json", "test"),  # Roboflow
        ("_annotations.coco.json", ""),
    ],
)
def test_coco_has_one_frame_an_object_without_crowds_in_each_tool_s_layout(tmp_path, file, images):
    path = make_outlined_coco(tmp_path, images=2, folder=images) / "annotations/instances_train2017.json"
    text = path.read_text().replace("[4.0, 6.0, 24, 20]", "[1, 1, 0, 5]")
    path.unlink()
    write_lines(tmp_path / file, [text])
    dataset = build_dataset(f"COCO:{tmp_path}")
    assert (len(dataset), dataset.is_video) == (7, False)
    assert dataset.report == "7 of 10 objects are used; 2 are crowds, 1 have no area"
    assert dataset.info(3).boxes.tolist() == [[5, 6, 24, 20]]
    assert dataset.info(3).visible.tolist() == [True]
    assert (dataset.image(3, 0)[7:11, 7:21] > 60).all()
    assert list(dataset.files()) == [file, *(f"{images}/{i}.jpg".lstrip("/") for i in range(2))]


def test_a_malformed_coco_annotation_is_named(tmp_path):
    path = make_outlined_coco(tmp_path / "coco") / "annotations" / "instances_train2017.json"
    text = path.read_text()
    for old, new, said in (
        ("[36, 20, 20, 20]", "[36, 20, 20]", "the bbox [36, 20, 20] of annotation None is not x, y, width"),
        ("[36, 20, 20, 20]", "[36, 20, 20, NaN]", "of annotation None is not x, y, width, height"),
        ('"image_id": 2', '"image_id": 77', "an annotation is of the image id 77, and no image has it"),
        ('"image_id"', '"picture"', "'image_id' is missing"),
        ('{"id": 1, "file_name"', '{"id": 2, "file_name"', "image id 2 stands for 1.jpg and 2.jpg"),
        (", 20]", ", 0]", "no object with an area"),
        ('"annotations"', "annotations", "is not a COCO annotation file"),
    ):
        path.write_text(text.replace("[1, 1, 8, 40]", "[1, 1, 8, 20]").replace(old, new))
        message = user_error("COCO17", tmp_path)
        assert str(path) in message
        assert said in message


def test_coco_says_which_splits_it_does_not_read_and_which_layouts_it_looked_for(tmp_path):
    path = make_outlined_coco(tmp_path, folder="train") / "annotations/instances_train2017.json"
    for split in ("train", "valid"):
        (tmp_path / split).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / split / "_annotations.coco.json")
    assert "valid/ are not read: to use them, name them as" in build_dataset(f"COCO:{tmp_path}").report
    message = user_error(f"COCO:{tmp_path / 'annotations'}")
    assert all(known in message for known in ("images/train2017/", "instances_default.json", "valid/_annotations.coco"))


@pytest.mark.parametrize("base", ["vid", "vid/ILSVRC2015"])
def test_vid_makes_a_sequence_of_every_object_until_its_first_gap(tmp_path, base, monkeypatch, caplog):
    root = make_vid(tmp_path / base)
    index, annotation = root / "cache.json", next(root.rglob("000002.xml"))
    annotation.with_name("notes.txt").write_text("no annotation")
    text = annotation.read_text()
    annotation.write_text(text.replace("xmin>", "x>"))
    assert f"{annotation} is not an annotation of VID: bndbox/xmin is missing" in user_error("VID", tmp_path)
    annotation.write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr("lib.data.object_sets.write_text", Mock(side_effect=OSError(30, "Read-only file system")))
        assert len(build_dataset("VID", tmp_path)) == 3
    assert f"cannot write {index}" in caplog.text
    for _ in range(2):  # The second time from the index: no annotation is left.
        dataset = build_dataset("VID", tmp_path)
        infos = [dataset.info(i) for i in range(len(dataset))]
        assert [len(info) for info in infos] == [2, 3, 1]
        assert infos[1].visible.tolist() == [True, True, False]
        np.testing.assert_array_equal(infos[1].boxes, [[2, frame + 2, 10, 6] for frame in (1, 2, 3)])
        assert shows(dataset.image(1, 0), 0, 1)
        assert shows(dataset.image(2, 0), 1, 4)
        assert dataset.report == "3 of 4 objects are used; 1 fill the image in the first frame"
        shutil.rmtree(root / "Annotations", ignore_errors=True)
    entries = json.loads(index.read_text())  # as it was made when sequences went on after a gap
    entries[1]["anno"][1] = [0, 0, 0, 0]
    index.write_text(json.dumps(entries))
    assert len(build_dataset("VID", tmp_path).info(1)) == 1
    for content in ("[]", '[{"anno": [[1, 2, 3, 4]]}]'):
        index.write_text(content)
        assert f"{index} " in user_error("VID", tmp_path)


def test_names_that_are_unknown_or_of_missing_folders(tmp_path):
    assert "did you mean 'GOT10K_vottrain'?" in user_error("got10k_vottrian", tmp_path)
    assert "TRACKINGNET" in user_error("imagenet", tmp_path)
    assert "FOLDER:<path>" in user_error("FOLDER:", tmp_path)
    assert str(tmp_path / "nowhere") in user_error(f"FOLDER:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("name", MAKERS)
def test_a_root_that_is_missing_or_empty_says_where_it_is_and_what_is_expected(tmp_path, name):
    root = MAKERS[name](tmp_path)
    (folder,) = tmp_path.iterdir()
    shutil.rmtree(folder)
    message = user_error(name, tmp_path)
    assert f"{folder}: put it there, or set STARK_DATA_DIR" in message
    root.mkdir(parents=True)
    message = user_error(name, tmp_path)
    assert str(tmp_path) in message
    assert "expected" in message or "put" in message


def test_a_subclass_hears_what_it_lacks():
    class Whole(TrackingDataset):
        info = frame_path = files = __len__ = __init__ = lambda *_: None

    dataset = Whole("WHOLE", None)
    for use in (lambda: dataset.image(0, 0), lambda: dataset.name):
        with pytest.raises(AttributeError, match=r"call super\(\).__init__\(name, storage\) in Whole.__init__"):
            use()
    with pytest.raises(AttributeError, match="'Whole' object has no attribute 'nmae'$"):
        _ = dataset.nmae


def test_the_embedded_default_is_generated_once(tmp_path, monkeypatch):
    small = {"seed": 1, "sequences": 1, "frames": 3, "size": (96, 72), "workers": 1, "progress": False}
    monkeypatch.setattr(synthetic, "DEFAULT_SETS", {"train": small})
    first = Path(build_dataset("EMBEDDED_train", tmp_path).source(0, 2)).stat().st_mtime_ns
    assert Path(build_dataset("EMBEDDED_train", tmp_path).source(0, 2)).stat().st_mtime_ns == first
