"""Archives for servers: complete, in the server's form, and never at the cost of what is there."""

import dataclasses
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lib.data.registry import load_dataset
from lib.test.evaluation.result_files import run_dir, write_result
from lib.test.evaluation.submission import GOT10K, TRACKINGNET, make_archive
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.data.made_sets import moving_boxes, write_boxes, write_frames, write_sequence

SMALL_GOT10K = dataclasses.replace(GOT10K, count=3)
SMALL_TRACKINGNET = dataclasses.replace(TRACKINGNET, count=3)
LENGTHS = {1: 6, 2: 4, 3: 5}


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    """Both test sets, of three sequences each."""
    data = tmp_path / "data"
    monkeypatch.setenv("STARK_DATA_DIR", str(data))
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path / "save"))
    for number, count in LENGTHS.items():
        write_sequence(data / "got10k" / "test", f"GOT-10k_Test_{number:06d}", count)
        write_boxes(data / "trackingnet" / "TEST" / "anno" / f"v{number}.txt", moving_boxes(1))
        write_frames(data / "trackingnet" / "TEST" / "frames" / f"v{number}", [f"{i}.jpg" for i in range(count)])
    return data


def track(results: Path, dataset: str, run_id: int | None = None) -> Path:
    """Results of `t:c`; gives their folder."""
    folder = run_dir(results, "t", "c", run_id)
    for sequence in load_dataset(dataset):
        count = LENGTHS[int(sequence.name[-1])]
        write_result(folder, sequence, moving_boxes(count) + 0.9, np.full(count, 0.25))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_got10k(tmp_path):
    folder = track(tmp_path, "got10k_test")
    before = content(folder)
    path = make_archive(SMALL_GOT10K, "t", "c", results_dir=tmp_path)
    assert path == folder / "got10k_submit.zip"
    after = content(folder)
    assert after.pop("got10k_submit.zip")
    assert after == before  # the originals are still there
    with zipfile.ZipFile(path) as archive:
        name = "GOT-10k_Test_000002"
        assert len(archive.namelist()) == 6
        assert {f"{name}/{name}_001.txt", f"{name}/{name}_time.txt"} <= set(archive.namelist())
        boxes = np.loadtxt(archive.open(f"{name}/{name}_001.txt"), delimiter=",")
        assert boxes.tolist() == np.floor(moving_boxes(4) + 0.9).tolist()
        assert np.loadtxt(archive.open(f"{name}/{name}_time.txt")).tolist() == [0.25] * 4


def test_trackingnet_of_a_run_in_equal_archives_of_which_none_is_replaced_unasked(tmp_path):
    track(tmp_path, "trackingnet", run_id=2)
    where = {"run_id": 2, "results_dir": tmp_path, "output": tmp_path / "mine.zip"}
    path = make_archive(SMALL_TRACKINGNET, "t", "c", **where)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["v1.txt", "v2.txt", "v3.txt"]
        assert archive.read("v3.txt").decode().splitlines()[0] == "10,30,20,16"
    first = path.read_bytes()
    with pytest.raises(UserError, match="exists: give --overwrite"):
        make_archive(SMALL_TRACKINGNET, "t", "c", **where)
    make_archive(SMALL_TRACKINGNET, "t", "c", overwrite=True, **where)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("ending", "text", "message"),
    [
        ("", None, r"cannot read .*_000001\.txt: No such file"),
        ("", "1\t2\t3\t4\n" * 5, r"_000001\.txt has 5 boxes for 6 frames"),
        ("", "1\t2\t3\t4\n" * 7, r"_000001\.txt has 7 boxes for 6 frames"),
        ("", "1\t2\t3\t4\n" * 5 + "nan\t1\t1\t1", r"_000001\.txt, line 6: nan"),
        ("", "1|2|3|4\n" * 6, r"_000001\.txt, line 1: '1\|2\|3\|4' is not x, y"),
        ("_time", None, "is missing or does not hold 6 times"),
        ("_time", "0.1\n" * 5, "does not hold 6 times"),
        ("_time", "0.1\n" * 5 + "nan\n", "does not hold seconds"),
    ],
)
def test_what_a_server_would_refuse_is_named(tmp_path, ending, text, message):
    folder = track(tmp_path, "got10k_test")
    path = folder / "got10k" / f"GOT-10k_Test_000001{ending}.txt"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=f"1 of 3 sequences cannot be packed: .*{message}"):
        make_archive(SMALL_GOT10K, "t", "c", results_dir=tmp_path)
    assert not (folder / "got10k_submit.zip").exists()


@pytest.mark.parametrize(("server", "dataset"), [(GOT10K, "got10k_test"), (TRACKINGNET, "trackingnet")])
def test_all_sequences_are_needed_and_the_data_set_may_be_elsewhere(tmp_path, monkeypatch, capsys, server, dataset):
    folder, small = track(tmp_path, dataset), dataclasses.replace(server, count=3)
    with pytest.raises(UserError, match=f"has 3 sequences, but the server expects all {server.count}"):
        make_archive(server, "t", "c", results_dir=tmp_path)
    # On another machine than the one that tracked, the numbers of frames cannot be checked, and it says so.
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path / "nowhere"))
    with zipfile.ZipFile(make_archive(small, "t", "c", results_dir=tmp_path)) as archive:
        assert len(archive.namelist()) == (6 if server.folders else 3)
    assert "line counts cannot be checked" in capsys.readouterr().out
    next((folder / server.folder).glob("*3.txt")).unlink()
    with pytest.raises(UserError, match=r"000003\.txt: No such file|has 2 sequences, but the server expects all 3"):
        make_archive(small, "t", "c", results_dir=tmp_path, output=tmp_path / "other.zip")


@pytest.mark.parametrize("name", ["got10k", "trackingnet"])
def test_the_commands(tmp_path, monkeypatch, capsys, name):
    script = REPOSITORY / "lib" / "test" / "utils" / f"transform_{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--tracker_name", "t", "--cfg_name", "c", "--runid", "4"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(script), run_name="__main__")
    assert "no results on" in capsys.readouterr().err
