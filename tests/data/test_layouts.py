"""Test sets in their exact layouts, on small trees."""

import pickle

import numpy as np
import pytest

from lib.data import layouts
from lib.data.box_files import parse_regions
from lib.data.registry import dataset_label, load_dataset, select_sequences
from lib.utils.errors import UserError
from lib.utils.files import read_ranges
from tests.data.made_sets import frame_index, moving_boxes, write_boxes, write_frames, write_sequence
from tests.data.made_trees import make_lasot, write_lmdb


def test_lasot_from_an_lmdb(tmp_path, caplog):
    make_lasot(tmp_path / "lasot", ["airplane-1"])
    write_lmdb(tmp_path / "lasot_lmdb", tmp_path / "lasot")
    (folder,) = load_dataset("lasot", tmp_path)
    assert "lasot: 1 sequences are used; left out: 279 missing in" in caplog.text
    (packed,) = load_dataset("lasot_lmdb", tmp_path)
    packed = pickle.loads(pickle.dumps(packed))  # as it goes to a worker
    assert (packed.name, packed.dataset, packed.subfolder) == (folder.name, folder.dataset, folder.subfolder)
    assert len(packed) == 3
    assert np.array_equal(packed.truth, folder.truth)
    assert packed.visible.tolist() == folder.visible.tolist() == [False, True, False]
    assert np.array_equal(packed.read_frame(2), folder.read_frame(2))
    assert packed.frame_name(2).endswith("lasot_lmdb:airplane/airplane-1/img/00000003.jpg")
    with pytest.raises(UserError, match="lasot_lmdb: folder not found"):
        load_dataset("lasot_lmdb", tmp_path / "nowhere")


def test_the_extension_of_lasot_is_found_by_its_folders(tmp_path):
    root = make_lasot(tmp_path / "LaSOT_extension_subset", ["wingsuit-10", "wingsuit-2", "atv-1"])
    (root / "atv" / "notes").mkdir()
    sequences = load_dataset("lasot_ext", tmp_path)
    assert [sequence.name for sequence in sequences] == ["atv-1", "wingsuit-2", "wingsuit-10"]
    assert sequences[0].visible.tolist() == [False, True, False]
    assert (sequences[1].object_class, len(sequences[1])) == ("wingsuit", 3)


def test_got10k_ltrval_is_the_published_list(tmp_path):
    root = tmp_path / "got10k" / "train"
    indices = read_ranges(layouts.SPECS / "got10k_val.ranges.txt")
    assert len(indices) == 1401
    for index in (0, *indices[:3]):
        (root / f"GOT-10k_Train_{index + 1:06d}").mkdir(parents=True, exist_ok=True)
        (root / f"GOT-10k_Train_{index + 1:06d}" / "groundtruth.txt").write_text("1,2,3,4\n")
    sequences = load_dataset("got10k_ltrval", tmp_path)
    assert [sequence.name for sequence in sequences] == [f"GOT-10k_Train_{index + 1:06d}" for index in indices[:3]]
    assert (sequences[0].dataset, sequences[0].subfolder) == ("got10k_ltrval", "got10k")


def test_nfs_as_it_is_prepared_and_as_it_is_downloaded(tmp_path):
    names = [f"{number:05d}.jpg" for number in range(1, 1 + 99)]
    write_frames(tmp_path / "a" / "nfs" / "sequences" / "MachLoop_jet", names[:3])
    write_boxes(tmp_path / "a" / "nfs" / "anno" / "nfs_MachLoop_jet.txt", moving_boxes(99))
    folder = tmp_path / "b" / "nfs" / "MachLoop_jet" / "30"
    write_frames(folder / "MachLoop_jet", names[:3])
    corners = np.concatenate((moving_boxes(792)[:, :2], moving_boxes(792)[:, :2] + moving_boxes(792)[:, 2:]), axis=1)
    lines = [f"0 {' '.join(map(str, row))} {number} 0 0 0 jet" for number, row in enumerate(corners)]
    (folder / "MachLoop_jet.txt").write_text("\n".join(lines))
    for part, step in (("a", 1), ("b", 8)):
        (sequence,) = load_dataset("nfs", tmp_path / part)
        assert (sequence.name, len(sequence), frame_index(sequence.read_frame(2))) == ("nfs_MachLoop_jet", 99, 2)
        np.testing.assert_allclose(sequence.truth, moving_boxes(99 * step)[::step], atol=0.01)
    (tmp_path / "c" / "nfs").mkdir(parents=True)
    with pytest.raises(UserError, match="expected Gymnastics/30/Gymnastics.txt and Gymnastics/30/Gymnastics/, and"):
        load_dataset("nfs", tmp_path / "c")


def test_tc128_and_its_own_sequences(tmp_path):
    for name in ("Airport_ce", "Basketball"):
        folder = tmp_path / "tc128" / name
        write_frames(folder / "img", [f"{i:04d}.jpg" for i in range(1, 6)])
        write_boxes(folder / f"{name}_gt.txt", moving_boxes(3))
        (folder / f"{name}_frames.txt").write_text("2,4")
    (tmp_path / "tc128" / "Airport_ce" / "Airport_ce_att.txt").write_text("OCC, BC\r\n")
    airport, basketball = load_dataset("tc128", tmp_path)
    assert [path.name for path in airport.frames] == ["0002.jpg", "0003.jpg", "0004.jpg"]
    assert len(airport) == len(airport.truth) == 3
    assert {sequence.subfolder for sequence in (airport, basketball)} == {"tc128"}  # OTB has a Basketball, too
    assert (airport.attributes, basketball.attributes) == (("OCC", "BC"), ())
    assert [sequence.name for sequence in load_dataset("tc128ce", tmp_path)] == ["Airport_ce"]
    (tmp_path / "tc128" / "Basketball" / "Basketball_frames.txt").write_text("5,2")
    with pytest.raises(UserError, match=r"Basketball_frames\.txt, line 1: expected first and last"):
        load_dataset("tc128", tmp_path)


def test_tnl2k(tmp_path):
    root = tmp_path / "tnl2k"
    write_frames(root / "Cat_1" / "imgs", ["00001.png", "00002.png"])
    write_boxes(root / "Cat_1" / "groundtruth.txt", moving_boxes(2))
    (root / "attributes").mkdir()
    (root / "attributes" / "Cat_1.txt").write_text("1,0,1" + ",0" * 14)
    (sequence,) = load_dataset("tnl2k", tmp_path)
    assert (len(sequence), sequence.attributes) == (2, ("CM", "DEF"))


def test_attributes_of_uav123_otb_and_got10k(tmp_path):
    attributes = tmp_path / "uav" / "anno" / "UAV123" / "att"
    attributes.mkdir(parents=True)
    for number in (1, 2):
        write_boxes(tmp_path / "uav" / "anno" / "UAV123" / f"bike{number}.txt", moving_boxes(3))
    (attributes / "bike1.txt").write_text("1,0,0,0,0,0,0,0,0,0,1,1\n")
    (attributes / "bike2.txt").write_text("1,0,0\n")
    first, second = select_sequences(load_dataset("uav", tmp_path), "uav_bike1,uav_bike2")
    assert first.attributes == ("SV", "CM", "SOB")
    with pytest.raises(UserError, match=r"bike2\.txt has 3 flags, expected 12"):
        _ = second.attributes
    write_boxes(tmp_path / "otb" / "Basketball" / "groundtruth_rect.txt", moving_boxes(3))
    (tmp_path / "otb" / "Basketball" / "attrs.txt").write_text("IV, OCC, DEF\n")
    assert load_dataset("otb", tmp_path)[0].attributes == ("IV", "OCC", "DEF")
    write_sequence(tmp_path / "set", "a", 2)
    (tmp_path / "set" / "a" / "meta_info.ini").write_text("[METAINFO]\nroot_class: animal\nmotion_class: running\n")
    assert load_dataset(f"folder:{tmp_path / 'set'}")[0].attributes == ("root_class=animal", "motion_class=running")


def test_vot_folders(tmp_path):
    for name, place in (("ants", "color"), ("ball", ""), ("car", "rgb")):
        write_frames(tmp_path / name / place, [f"{i + 1:08d}.jpg" for i in range(2)])
        (tmp_path / name / "groundtruth.txt").write_text("1,2,3,4\nm5,6,3,2,1,2,3\n")
    (tmp_path / "car" / "sequence").write_text("fps=30\nchannels.color=rgb/%08d.jpg\n")
    (tmp_path / "ants" / "occlusion.tag").write_text("0\n1\n")
    (tmp_path / "ants" / "camera_motion.tag").write_text("0\n0\n")
    (tmp_path / "list.txt").write_text("car\nants\nball\n")
    sequences = load_dataset(f"vot:{tmp_path}")
    assert [sequence.name for sequence in sequences] == ["car", "ants", "ball"]
    assert [len(sequence) for sequence in sequences] == [2, 2, 2]
    assert sequences[1].attributes == ("occlusion",)
    assert sequences[1].truth.tolist() == [[1, 2, 3, 4], [6, 6, 2, 1]]
    assert sequences[1].subfolder == dataset_label(f"vot:{tmp_path}").replace("folder_", "vot_")


def test_regions_become_boxes():
    lines = "1,2,3,4\r\n0,0,4,1,3,5,-1,2\n0\nnan,nan,nan,nan\nm10,20,4,3,2,1,8,1\nm10,20,4,3,3,2,7\nm0,0,2,2,4\n"
    boxes = parse_regions(lines, "groundtruth.txt")
    assert boxes[[0, 1, 4, 5]].tolist() == [[1, 2, 3, 4], [-1, 0, 5, 5], [12, 20, 2, 3], [10, 20, 4, 2]]
    assert np.isnan(boxes[[2, 3, 6]]).all()


@pytest.mark.parametrize("line", ["1,2,3", "1,2,3,4,5", "m1,2,3", "m0,0,2,2,5", "m0,0,2,2,1.5", "m0,0,2,2,-1", "x"])
def test_malformed_regions_are_named(line):
    with pytest.raises(UserError, match=r"a\.txt, line 2: .* is not a VOT"):
        parse_regions(f"1,2,3,4\n{line}\n1,2,3,4\n", "a.txt")
