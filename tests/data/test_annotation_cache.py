"""Annotations that are kept: the same as those in the files, as long as these are as they were."""

import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.data import storage
from lib.data.dataset import VideoSet
from lib.data.pack import pack
from lib.data.registry import build_dataset
from lib.utils.errors import UserError
from tests.data.made_trees import MAKERS, assert_same, boxes, make_got10k, write_image, write_lines


@pytest.fixture
def read(monkeypatch):
    """The sequences whose files are read, in order."""
    seen, original = [], VideoSet._load

    def load(self, sequence):
        seen.append(self.sequences[sequence].name)
        return original(self, sequence)

    monkeypatch.setattr(VideoSet, "_load", load)
    return seen


@pytest.fixture
def folder(tmp_path):
    return make_got10k(tmp_path / "own", ["a", "b", "c"], frames=4)


def opened(folder, cache, **kwargs):
    dataset = build_dataset(f"FOLDER:{folder}", cache=cache, **kwargs)
    dataset.keep_annotations()
    return dataset


def test_files_are_read_once(folder, tmp_path, read, monkeypatch):
    plain = build_dataset(f"FOLDER:{folder}")
    assert_same(opened(folder, tmp_path / "cache"), plain)
    read.clear()
    kept = opened(folder, tmp_path / "cache")
    assert_same(pickle.loads(pickle.dumps(kept)), plain)  # as a worker gets it that is not forked
    assert not read
    monkeypatch.setattr(storage, "_CACHE_VERSION", 0)
    opened(folder, tmp_path / "cache")
    assert read == ["a", "b", "c"]


def replace_annotation(folder):
    """Another file of the same size and time of change."""
    annotation = folder / "a" / "groundtruth.txt"
    times = os.stat(annotation)
    other = folder / "other.txt"
    other.write_text(annotation.read_text().replace("4.0", "3.0"))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, annotation)


def add_frame(folder):
    write_image(folder / "c" / "00000005.jpg", 0, 0)
    with open(folder / "c" / "groundtruth.txt", "a") as file:
        file.write("1,1,1,1\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_lines(folder / "a" / "groundtruth.txt", ["9,9,9,9"] * 4),
        lambda folder: write_lines(folder / "b" / "absence.label", [0, 1, 0, 0]),
        lambda folder: (folder / "b" / "00000003.jpg").rename(folder / "b" / "other.jpg"),
        lambda folder: make_got10k(folder, ["d"], frames=4),
        lambda folder: write_lines(folder / "list.txt", ["c", "a"]),
        replace_annotation,
        add_frame,
    ],
)
def test_what_changed_is_read_anew(folder, tmp_path, read, change):
    opened(folder, tmp_path / "cache")
    change(folder)
    read.clear()
    assert_same(opened(folder, tmp_path / "cache"), build_dataset(f"FOLDER:{folder}"))
    assert read


@pytest.mark.parametrize("end", [b"", b"!" * 9])
def test_a_damaged_file_is_made_anew_with_a_note(folder, tmp_path, read, caplog, end):
    opened(folder, tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.npz")
    path.write_bytes(path.read_bytes()[:-9] + end)
    assert_same(opened(folder, tmp_path / "cache"), build_dataset(f"FOLDER:{folder}"))
    (note,) = caplog.messages
    assert str(path) in note
    assert "made again" in note
    read.clear()
    opened(folder, tmp_path / "cache")
    assert not read


def test_a_bad_annotation_is_not_kept_and_named_when_drawn(folder, tmp_path):
    write_lines(folder / "b" / "groundtruth.txt", ["1,2,3"] * 4)
    dataset = opened(folder, tmp_path / "cache")
    assert len(dataset.info(0)) == 4
    with pytest.raises(UserError, match=r"b/groundtruth\.txt, line 1"):
        dataset.info(1)
    write_lines(folder / "b" / "groundtruth.txt", [",".join(map(str, box)) for box in boxes(1, 4)])
    assert opened(folder, tmp_path / "cache").info(1).boxes[0, 0] == 2.5


def test_where_nothing_can_be_written_annotations_are_read_each_time(folder, tmp_path, read, caplog):
    (tmp_path / "cache").write_text("a file, not a folder")
    dataset = opened(folder, tmp_path / "cache")
    assert read == ["a", "b", "c"]
    assert "cannot write the annotation cache" in caplog.text
    assert_same(dataset, build_dataset(f"FOLDER:{folder}"))


def test_of_several_at_a_time_one_reads(folder, tmp_path, read):
    with ThreadPoolExecutor(3) as pool:  # the lock holds between threads as it does between processes
        found = list(pool.map(lambda _: opened(folder, tmp_path / "cache").info(2).boxes[0].tolist(), range(3)))
    assert (read, found) == (["a", "b", "c"], [[3.5, 2.0, 5.0, 4.0]] * 3)


def test_an_lmdb_is_read_anew_when_it_is_packed_anew(folder, tmp_path, read):
    pack(f"FOLDER:{folder}", progress=False)
    for expected in (["a", "b", "c"], []):
        read.clear()
        dataset = opened(folder, tmp_path / "cache", use_lmdb=True)
        assert read == expected
    write_lines(folder / "a" / "groundtruth.txt", ["9,9,9,9"] * 4)
    dataset.storage.close()
    shutil.rmtree(f"{folder}_lmdb")
    pack(f"FOLDER:{folder}", progress=False)
    assert opened(folder, tmp_path / "cache", use_lmdb=True).info(0).boxes[0, 0] == 9


@pytest.mark.parametrize("name", MAKERS)
def test_a_set_is_the_same_from_the_cache(name, tmp_path, monkeypatch):
    MAKERS[name](tmp_path)
    plain, annotation = build_dataset(name, tmp_path), tmp_path / "coco/annotations/instances_train2017.json"
    for again in (False, True):
        if again:
            monkeypatch.setattr("lib.data.coco._read_arrays", lambda *_: pytest.fail("parsed again"))
        dataset = build_dataset(name, tmp_path, cache=tmp_path / "cache")
        dataset.keep_annotations()
        assert_same(dataset, plain)
    monkeypatch.undo()
    if name == "COCO17":
        annotation.write_text(annotation.read_text().replace("[1.5, 2, 3, 4]", "[1.5, 2, 7, 4]"))
        changed = build_dataset("COCO17", tmp_path, cache=tmp_path / "cache")
        assert changed.info(0).boxes.tolist() == [[1.5, 2, 7, 4]]
