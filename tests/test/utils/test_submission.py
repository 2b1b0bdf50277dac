"""Archives for servers: complete, in the server's form, and never at the cost of what is there."""

import dataclasses
import re
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
def data(tmp_path, monkeypatch) -> None:
    """Both test sets, of three sequences each."""
    data = tmp_path / "data"
    monkeypatch.setenv("STARK_DATA_DIR", str(data))
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path / "save"))
    for number, count in LENGTHS.items():
        write_sequence(data / "got10k" / "test", f"GOT-10k_Test_{number:06d}", count)
        write_boxes(data / "trackingnet" / "TEST" / "anno" / f"v{number}.txt", moving_boxes(1))
        write_frames(data / "trackingnet" / "TEST" / "frames" / f"v{number}", [f"{i}.jpg" for i in range(count)])


def track(results: Path, dataset: str, run_id: int | None = None) -> Path:
    """Results of `t:c`; gives their folder."""
    folder = run_dir(results, "t", "c", run_id)
    for sequence in load_dataset(dataset):
        count = LENGTHS[int(sequence.name[-1])]
        write_result(folder, sequence, moving_boxes(count) + 0.9, np.full(count, 0.25))
    return folder


def test_got10k(tmp_path):
    folder = track(tmp_path, "got10k_test")
    before = {path: path.read_bytes() for path in folder.rglob("*.txt")}
    path = make_archive(SMALL_GOT10K, "t", "c", results_dir=tmp_path)
    assert path == folder / "got10k_submit.zip"
    assert {path: path.read_bytes() for path in folder.rglob("*.txt")} == before
    with zipfile.ZipFile(path) as archive:
        name = "GOT-10k_Test_000002"
        assert len(archive.namelist()) == 6
        assert {f"{name}/{name}_001.txt", f"{name}/{name}_time.txt"} <= set(archive.namelist())
        boxes = np.loadtxt(archive.open(f"{name}/{name}_001.txt"), delimiter=",")
        assert boxes.tolist() == np.floor(moving_boxes(4) + 0.9).tolist()
        assert np.loadtxt(archive.open(f"{name}/{name}_time.txt")).tolist() == [0.25] * 4
    path.unlink()
    for ending, text, message in (
        ("_time", "0.1\n" * 5, "is missing or does not hold 6 times"),
        ("", "1\t2\t3\t4\n" * 5, r"_000001\.txt has 5 boxes for 6 frames"),
        ("", "1\t2\t3\t4\n" * 5 + "nan\t1\t1\t1", r"_000001\.txt, line 6: nan"),
    ):
        (folder / "got10k" / f"GOT-10k_Test_000001{ending}.txt").write_text(text)
        with pytest.raises(UserError, match=f"1 of 3 sequences cannot be packed: .*{message}"):
            make_archive(SMALL_GOT10K, "t", "c", results_dir=tmp_path)
        assert not path.exists()


def test_trackingnet_of_a_run_in_equal_archives_of_which_none_is_replaced_unasked(tmp_path):
    folder = track(tmp_path, "trackingnet", run_id=2)
    where = {"run_id": 2, "results_dir": tmp_path, "output": tmp_path / "mine.zip"}
    path = make_archive(SMALL_TRACKINGNET, "t", "c", **where)
    with zipfile.ZipFile(path) as archive:
        assert [each.date_time[0] for each in archive.infolist()] == [1980] * 3
        assert archive.namelist() == ["v1.txt", "v2.txt", "v3.txt"]
        assert archive.read("v3.txt").decode().splitlines()[0] == "10,30,20,16"
    first = path.read_bytes()
    with pytest.raises(UserError, match="exists: give --overwrite"):
        make_archive(SMALL_TRACKINGNET, "t", "c", **where)
    make_archive(SMALL_TRACKINGNET, "t", "c", overwrite=True, **where)
    assert path.read_bytes() == first
    (folder / "trackingnet" / "v1.txt").unlink()
    with pytest.raises(UserError, match=r"cannot read .*v1\.txt: No such file"):
        make_archive(SMALL_TRACKINGNET, "t", "c", overwrite=True, **where)


@pytest.mark.parametrize(("server", "dataset"), [(GOT10K, "got10k_test"), (TRACKINGNET, "trackingnet")])
def test_all_sequences_are_needed_and_the_data_set_may_be_elsewhere(tmp_path, monkeypatch, capsys, server, dataset):
    folder, small = track(tmp_path, dataset), dataclasses.replace(server, count=3)
    with pytest.raises(UserError, match=f"3 sequences, but the server expects all {server.count}"):
        make_archive(server, "t", "c", results_dir=tmp_path)
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path / "nowhere"))
    with zipfile.ZipFile(make_archive(small, "t", "c", results_dir=tmp_path)) as archive:
        assert len(archive.namelist()) == (6 if server.folders else 3)
    assert "line counts cannot be checked" in capsys.readouterr().out
    next((folder / server.folder).glob("*3.txt")).unlink()
    script = REPOSITORY / "lib" / "test" / "utils" / f"transform_{server.folder}.py"
    arguments = ["--tracker_name", "t", "--cfg_name", "c", "--results_dir", str(tmp_path), "--overwrite"]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(script), run_name="__main__")
    assert re.search("178 of 180 .*000003.txt: No such file|has 2 sequences, but .* all 511", capsys.readouterr().err)
