"""Training sets from LMDB: the same as from folders, packed without loss, continued, verified, safe in workers."""

import multiprocessing
import pickle
from pathlib import Path

import pytest

from lib.data import pack
from lib.data.dataset import TrackingDataset
from lib.data.images import ImageReadError
from lib.data.registry import build_dataset
from lib.data.storage import LmdbStorage, Storage
from lib.utils.errors import UserError
from tests.data.made_trees import (
    MAKERS,
    assert_same,
    make_coco,
    make_got10k,
    make_lasot,
    make_trackingnet,
    shows,
    write_lmdb,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_got10k(tmp_path / "own", ["b", "a"], frames=4)


@pytest.mark.parametrize("name", MAKERS)
def test_packed_and_folder_are_the_same(tmp_path, name):
    MAKERS[name](tmp_path)
    output = pack.pack(name, tmp_path, progress=False)
    folder, packed = build_dataset(name, tmp_path), build_dataset(name, tmp_path, use_lmdb=True)
    assert_same(folder, packed)
    assert packed.source(0, 0).startswith(str(output))
    assert not list(tmp_path.glob("*.partial"))


def test_packing_a_split_packs_the_whole_set(tmp_path):
    make_got10k(tmp_path / "got10k", [f"GOT-10k_Train_{number:06d}" for number in (1, 2)])
    pack.pack("GOT10K_vottrain", tmp_path, progress=False)
    assert_same(build_dataset("GOT10K_votval", tmp_path), build_dataset("GOT10K_votval", tmp_path, use_lmdb=True))
    make_lasot(tmp_path / "lasot", ["airplane-1", "airplane-2"])
    output = pack.pack("LASOT", tmp_path, progress=False)
    assert LmdbStorage(output).exists("airplane/airplane-1/img/00000003.jpg")


def test_folders_and_coco_anywhere_are_packed_beside_them(folder, tmp_path):
    make_coco(tmp_path / "photos", "train2017")
    for name in (f"FOLDER:{folder}", f"COCO:{tmp_path / 'photos'}"):
        output = pack.pack(name, progress=False)
        assert output == Path(f"{name.partition(':')[2]}_lmdb")
        assert_same(build_dataset(name), build_dataset(name, use_lmdb=True))
    assert len(build_dataset(f"FOLDER:{folder}_lmdb")) == 2


def test_trackingnet_as_it_is_published_with_an_lmdb_for_each_part(tmp_path):
    root = make_trackingnet(tmp_path / "trackingnet", ["TRAIN_0/a_0", "TRAIN_11/b_0", "TRAIN_11/c_0"])
    packed = tmp_path / "trackingnet_lmdb"
    packed.mkdir()
    for part in ("TRAIN_0", "TRAIN_11"):
        write_lmdb(packed / f"{part}_lmdb", root / part)
    (packed / "seq_list.json").write_text('[[0, "a_0"], [11, "b_0"], [11, "c_0"]]')
    dataset = build_dataset("TRACKINGNET", tmp_path, use_lmdb=True, cache=tmp_path / "cache")
    dataset.keep_annotations()
    assert_same(build_dataset("TRACKINGNET", tmp_path), dataset)
    assert dataset.source(1, 2) == f"{packed}:TRAIN_11/frames/b_0/2.jpg"
    assert not dataset.storage.exists("TRAIN_3/anno")
    with pytest.raises(UserError, match="cannot read .*TRAIN_3/anno/x.txt: No such file"):
        dataset.storage.read_bytes("TRAIN_3/anno/x.txt")


def test_names_and_existence_are_those_of_a_folder(tmp_path):
    for file in ("a/x", "a-1.txt", "a-1/y", "a-10/y", "a/b/c", "a/b0", "a0/d", "a.txt", "top", ".hidden/e"):
        path = tmp_path / "tree" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    write_lmdb(tmp_path / "tree_lmdb", tmp_path / "tree")
    plain, packed = Storage(tmp_path / "tree"), LmdbStorage(tmp_path / "tree_lmdb")
    assert packed.names() == ["a", "a-1", "a-1.txt", "a-10", "a.txt", "a0", "top"]
    for path in ["", "a", "a/b", "a-1", "none", "to", "top"]:
        assert packed.names(path) == plain.names(path), path
        assert not path or packed.exists(path) == plain.exists(path), path
    assert packed.read_bytes("a/b/c") == b"a/b/c"
    with pytest.raises(UserError, match="tree_lmdb:a/none"):
        packed.read_bytes("a/none")
    with pytest.raises(ImageReadError, match="tree_lmdb:a/none"):
        packed.image("a/none")
    with pytest.raises(ImageReadError, match="tree_lmdb:top"):
        packed.image("top")


def test_a_run_that_ends_early_leaves_nothing(folder, monkeypatch):
    original, read = Storage.read_bytes, []

    def broken(self: Storage, path: str) -> bytes:
        read.append(path)
        if len(read) == 7:
            raise KeyboardInterrupt
        return original(self, path)

    monkeypatch.setattr(Storage, "read_bytes", broken)
    with pytest.raises(KeyboardInterrupt):
        pack.pack(f"FOLDER:{folder}", progress=False)
    assert [path.name for path in folder.parent.iterdir() if "lmdb" in path.name] == []


def test_packing_takes_the_room_it_needs_and_no_folder_that_exists(folder, monkeypatch):
    monkeypatch.setattr(pack, "_FIRST_MAP_BYTES", 1 << 14)
    (folder / "a" / "00000001.jpg").write_bytes(bytes(300_000))
    output = pack.pack(f"FOLDER:{folder}", progress=False)
    assert LmdbStorage(output).entries() == 11
    with pytest.raises(UserError, match="choose another folder"):
        pack.pack(f"FOLDER:{folder}", progress=False)


def test_damaged_and_truncated_lmdbs_end_clearly(folder):
    path = pack.pack(f"FOLDER:{folder}", progress=False) / "data.mdb"
    for content, message in ((path.read_bytes()[:-4096], "of its"), (b"x" * 20_000, "cannot open the LMDB")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            build_dataset(f"FOLDER:{folder}", use_lmdb=True)


def _reads_well(dataset: TrackingDataset) -> bool:
    return shows(dataset.image(1, 3), 1, 3) and dataset.info(0).boxes[0, 0] == 1.5


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_a_set_that_was_read_before(folder, method):
    pack.pack(f"FOLDER:{folder}", progress=False)
    training, validation = (build_dataset(f"FOLDER:{folder}", use_lmdb=True) for _ in range(2))
    assert _reads_well(training)
    assert_same(pickle.loads(pickle.dumps(training)), training)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_reads_well, (training,))
        assert _reads_well(validation)
        assert pool.apply(_reads_well, (validation,))
    assert _reads_well(training)


def test_the_command_packs_and_reports(folder, run_script, capsys):
    assert run_script("make_lmdb.py", f"FOLDER:{folder}") == 0
    said = capsys.readouterr()
    assert said.out == f"packed and verified: {folder}_lmdb\n"
    assert "100%" in said.err
    assert run_script("make_lmdb.py", "LASSOT") == 2
    assert "did you mean 'LASOT'?" in capsys.readouterr().err
