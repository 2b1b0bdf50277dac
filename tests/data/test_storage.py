"""Training sets from LMDB and from the annotation cache: the same as from folders."""

import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import lmdb
import pytest

from lib.data import storage
from lib.data.dataset import TrackingDataset, VideoSet
from lib.data.images import ImageReadError
from lib.data.registry import build_dataset, pack
from lib.data.storage import LmdbStorage, Storage
from lib.utils.errors import UserError
from tests.data.made_trees import MAKERS, assert_same, make_got10k, make_outlined_coco, shows, write_lines, write_lmdb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_got10k(tmp_path / "own", ["a", "b", "c"], frames=4)


@pytest.mark.parametrize("name", MAKERS)
def test_folder_lmdb_and_cache_are_the_same(tmp_path, name, monkeypatch):
    MAKERS[name](tmp_path)
    folder = build_dataset(name, tmp_path)
    for again in (False, True):
        if again:
            monkeypatch.setattr("lib.data.object_sets._read_arrays", lambda *_: pytest.fail("parsed again"))
        cached = build_dataset(name, tmp_path, cache=tmp_path / "cache")
        cached.keep_annotations()
        assert_same(cached, folder)
    monkeypatch.undo()
    output = pack(name, tmp_path, progress=False)
    packed = build_dataset(name, tmp_path, use_lmdb=True)
    assert_same(folder, packed)
    assert packed.source(0, 0).startswith(str(output))
    assert not list(tmp_path.glob("*.partial"))


def test_packing_a_split_packs_the_whole_set_and_folders_anywhere_are_packed_beside_them(folder, tmp_path):
    make_got10k(tmp_path / "got10k", [f"GOT-10k_Train_{number:06d}" for number in (1, 2)])
    pack("GOT10K_vottrain", tmp_path, progress=False)
    assert_same(build_dataset("GOT10K_votval", tmp_path), build_dataset("GOT10K_votval", tmp_path, use_lmdb=True))
    make_outlined_coco(tmp_path / "photos", folder="train2017")
    for name in (f"FOLDER:{folder}", f"COCO:{tmp_path / 'photos'}"):
        output = pack(name, progress=False)
        assert output == Path(f"{name.partition(':')[2]}_lmdb")
        assert_same(build_dataset(name), build_dataset(name, use_lmdb=True))
    assert len(build_dataset(f"FOLDER:{folder}_lmdb")) == 3


def test_names_and_existence_are_those_of_a_folder(tmp_path, monkeypatch):
    for file in ("a/x", "a-1.txt", "a-1/y", "a-10/y", "a/b/c", "a/b0", "a0/d", "a.txt", "top", ".hidden/e"):
        path = tmp_path / "tree" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    write_lmdb(tmp_path / "tree_lmdb", tmp_path / "tree")
    plain, packed = Storage(tmp_path / "tree"), LmdbStorage(tmp_path / "tree_lmdb")
    for path in ["", "a", "a/b", "a-1", "none", "to", "top"]:
        assert packed.names(path) == plain.names(path), path
        assert packed.exists(path) == plain.exists(path), path
    assert packed.read_bytes("a/b/c") == b"a/b/c"
    with pytest.raises(UserError, match="cannot read .*tree_lmdb:a/none: No such file"):
        packed.read_bytes("a/none")
    with pytest.raises(ImageReadError, match="tree_lmdb:top"):
        packed.image("top")
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", Mock(side_effect=PermissionError(13, "Permission denied")))
        with pytest.raises(UserError, match="cannot list .*tree/a: Permission denied"):
            plain.names("a")
    monkeypatch.setattr(storage, "_environment", Mock(side_effect=lmdb.CorruptedError("damaged")))
    with pytest.raises(ImageReadError, match="cannot read .*tree_lmdb:top: damaged"):
        packed.image("top")


def test_packing_that_ends_early_leaves_nothing_and_damaged_lmdbs_end_clearly(folder, run_script, capsys, monkeypatch):
    for name, fault, message in (
        ("write_lmdb", Mock(side_effect=KeyboardInterrupt("stopped")), "stopped"),
        ("write_lmdb", Mock(side_effect=OSError(28, "No space left on device")), "cannot write .*make room there"),
        ("LmdbStorage.entries", lambda _: 15, "not all of 16 files arrived: pack again"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"lib.data.registry.{name}", fault)
            with pytest.raises((UserError, KeyboardInterrupt), match=message):
                pack(f"FOLDER:{folder}", progress=False)
    assert [path.name for path in folder.parent.iterdir() if "lmdb" in path.name] == []
    monkeypatch.setattr(storage, "_FIRST_MAP_BYTES", 1 << 14)  # it grows
    (folder / "a" / "00000001.jpg").write_bytes(bytes(300_000))
    assert run_script("make_lmdb.py", f"FOLDER:{folder}") == 0
    said = capsys.readouterr()
    assert said.out == f"packed and verified: {folder}_lmdb\n"
    assert "100 %" in said.err
    with pytest.raises(UserError, match="choose another folder"):
        pack(f"FOLDER:{folder}", progress=False)
    path = Path(f"{folder}_lmdb/data.mdb")
    for content, message in ((path.read_bytes()[:-4096], "of its"), (b"x" * 20_000, "cannot open the LMDB")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            build_dataset(f"FOLDER:{folder}", use_lmdb=True)


def _reads_well(dataset: TrackingDataset) -> bool:
    return shows(dataset.image(1, 3), 1, 3) and dataset.info(0).boxes[0, 0] == 1.5


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_a_set_that_was_read_before(folder, method):
    pack(f"FOLDER:{folder}", progress=False)
    training, validation = (build_dataset(f"FOLDER:{folder}", use_lmdb=True) for _ in range(2))
    assert _reads_well(training)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_reads_well, (training,))
        assert _reads_well(validation)
        assert pool.apply(_reads_well, (validation,))
    assert _reads_well(training)


@pytest.fixture
def read(monkeypatch):
    """The sequences whose files are read, in order."""
    seen, original = [], VideoSet._load

    def load(self, sequence):
        seen.append(self.sequences[sequence].name)
        return original(self, sequence)

    monkeypatch.setattr(VideoSet, "_load", load)
    return seen


def opened(folder, cache, **kwargs):
    dataset = build_dataset(f"FOLDER:{folder}", cache=cache, **kwargs)
    dataset.keep_annotations()
    return dataset


def test_files_are_read_once_and_again_where_the_cache_is_old_or_damaged(folder, tmp_path, read, monkeypatch, caplog):
    plain, cache = build_dataset(f"FOLDER:{folder}"), tmp_path / "cache"
    assert_same(opened(folder, cache), plain)
    read.clear()
    kept = opened(folder, cache)
    assert_same(pickle.loads(pickle.dumps(kept)), plain)  # as a worker gets it that is not forked
    assert not read
    (path,) = cache.glob("*.npz")
    for end in (b"", b"!" * 9):
        path.write_bytes(path.read_bytes()[:-9] + end)
        assert_same(opened(folder, cache), plain)
        assert caplog.messages.pop().startswith(f"{path} is damaged")
        assert read == ["a", "b", "c"]
        read.clear()
    monkeypatch.setattr(storage, "_CACHE_VERSION", 0)
    opened(folder, cache)
    assert read == ["a", "b", "c"]
    assert_same(opened(folder, path), plain)  # a file, where no folder can be made
    assert "cannot write the annotation cache" in caplog.text
    read.clear()
    with ThreadPoolExecutor(3) as pool:  # one reads; the lock holds between threads as it does between processes
        found = pool.map(lambda _: opened(folder, tmp_path / "new").info(2).boxes[0].tolist(), range(3))
    assert (list(found), read) == ([[3.5, 2.0, 5.0, 4.0]] * 3, ["a", "b", "c"])


def replace_annotation(folder):
    """Another file of the same size and time of change."""
    annotation, other = folder / "a" / "groundtruth.txt", folder / "other.txt"
    times = os.stat(annotation)
    other.write_text(annotation.read_text().replace("4.0", "3.0"))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, annotation)


def test_what_changed_is_read_anew(folder, tmp_path, read):
    opened(folder, tmp_path / "cache")
    for change in (
        lambda: write_lines(folder / "b" / "absence.label", [0, 1, 0, 0]),
        lambda: (folder / "b" / "00000003.jpg").rename(folder / "b" / "other.jpg"),
        lambda: replace_annotation(folder),
        lambda: write_lines(folder / "list.txt", ["c", "a"]),
    ):
        change()
        read.clear()
        assert_same(opened(folder, tmp_path / "cache"), build_dataset(f"FOLDER:{folder}"))
        assert read


def test_a_bad_annotation_is_named_when_drawn_and_the_others_are_kept(folder, tmp_path, read):
    write_lines(folder / "b" / "groundtruth.txt", ["1,2,3"] * 4)
    opened(folder, tmp_path / "cache")
    read.clear()
    dataset = opened(folder, tmp_path / "cache")
    with pytest.raises(UserError, match=r"b/groundtruth\.txt, line 1"):
        dataset.info(1)
    assert (len(dataset.info(0)), read) == (4, ["b"])


def test_an_lmdb_is_read_anew_when_it_is_packed_anew(folder, tmp_path, read):
    for box, expected in (("1.5,2,5,4", ["a", "b", "c"]), ("9,9,9,9", ["a", "b", "c"]), (None, [])):
        if box is not None:
            write_lines(folder / "a" / "groundtruth.txt", [box] * 4)
            shutil.rmtree(f"{folder}_lmdb", ignore_errors=True)
            pack(f"FOLDER:{folder}", progress=False)
        storage._opened.clear()  # as in another process
        read.clear()
        dataset = opened(folder, tmp_path / "cache", use_lmdb=True)
        assert read == expected
    assert dataset.info(0).boxes[0, 0] == 9
