"""The commands of evaluation, with their arguments as a user gives them."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.data.registry import load_dataset
from lib.test.analysis.selection import find_runs
from lib.test.evaluation.result_files import run_dir, write_result
from tests.data.made_sets import write_sequence
from tests.test.analysis.test_got10k_report import write_report

TRACKING = Path(__file__).resolve().parents[3] / "tracking"


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    for name in ("ant", "bee"):
        write_sequence(tmp_path / "set", name)
    return f"folder:{tmp_path / 'set'}"


def command(monkeypatch, script: str, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TRACKING / script), run_name="__main__")
    return stop.value.code


def write_results(dataset: str, results: Path, tracker: str, run_id: int | None = None, shift: float = 0.0) -> None:
    for sequence in load_dataset(dataset):
        boxes = sequence.truth + np.array([shift, 0, 0, 0])
        write_result(run_dir(results, tracker, "c", run_id), sequence, boxes, np.full(len(boxes), 0.1))


def test_analysis(tmp_path, dataset, monkeypatch, capsys):
    for run_id in (0, 1):
        write_results(dataset, tmp_path / "test" / "tracking_results", "stark_s", run_id, shift=run_id)
    arguments = ["--trackers", "stark_s:c:0-1", "--dataset", dataset, "--plot", "norm_precision", "--merge"]
    assert command(monkeypatch, "analysis_results.py", *arguments, "--per_sequence", "--filter", "a*") == 0
    printed = capsys.readouterr().out
    assert "set, 1 of 2 sequences" in printed
    assert "stark_s:c (2 runs)" in printed
    assert "AUC by sequence" in printed
    (output,) = (tmp_path / "test" / "result_plots").iterdir()
    assert {path.name for path in output.glob("*.p*")} == {"norm_precision.png", "norm_precision.pdf"}


def test_a_place_that_cannot_be_written_is_named(tmp_path, dataset, monkeypatch, capsys):
    write_results(dataset, tmp_path / "test" / "tracking_results", "stark_s")
    (tmp_path / "file").write_text("mine")
    arguments = ["--trackers", "stark_s:c", "--dataset", dataset, "--output", tmp_path / "file"]
    assert command(monkeypatch, "analysis_results.py", *arguments) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error
    assert error.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_an_analysis_leaves_nothing_of_the_one_before(tmp_path, dataset, monkeypatch):
    write_results(dataset, tmp_path / "test" / "tracking_results", "stark_s")
    arguments = ["--trackers", "stark_s:c", "--dataset", dataset, "--output", tmp_path / "out"]
    assert command(monkeypatch, "analysis_results.py", *arguments) == 0
    assert command(monkeypatch, "analysis_results.py", *arguments, "--plot", "success") == 0
    assert {path.name for path in (tmp_path / "out").glob("*.p*")} == {"success.png", "success.pdf"}


def test_analysis_of_server_reports(tmp_path, dataset, monkeypatch, capsys):
    report = write_report(tmp_path / "r.json", "mine", 0.5)
    assert command(monkeypatch, "analysis_results.py", "--got_reports", report, "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines()[2].split()[:2] == ["mine", "50.0"]
    assert (tmp_path / "out" / "got_success.pdf").stat().st_size > 1000
    assert command(monkeypatch, "analysis_results.py", "--trackers", "a:b") == 2
    assert "--trackers and --dataset are needed" in capsys.readouterr().err
    assert command(monkeypatch, "analysis_results.py", "--got_reports", report, "--dataset", dataset) == 2


def test_all_runs_of_one_tracker(tmp_path, dataset, monkeypatch, capsys):
    results = tmp_path / "test" / "tracking_results"
    for run_id, shift in ((None, 0.0), (0, 1.0), (12, 5.0)):
        write_results(dataset, results, "stark_st", run_id, shift)
    write_results(dataset, results, "stark_st", shift=0)
    (results / "stark_st" / "c_other").mkdir()
    (results / "stark_st" / "c_002").mkdir()  # of a run that was killed at once
    assert [source.folder.name for source in find_runs(results, "stark_st", "c")] == ["c", "c_000", "c_002", "c_012"]

    # By the script that trains it, as well as by its own name.
    for script in ("stark_st2", "stark_st"):
        assert (
            command(monkeypatch, "analysis_results_ITP.py", "--script", script, "--config", "c", "--dataset", dataset)
            == 0
        )
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "set, 2 sequences"
        assert [line.split()[0] for line in lines[3:6]] == ["stark_st:c", "stark_st:c_000", "stark_st:c"]
        assert lines[5].startswith("stark_st:c (2 runs)")
        assert lines[-1] == "without a result on these sequences: stark_st:c_002"
    assert not (tmp_path / "test" / "result_plots").exists()


def test_a_tracker_without_any_results(tmp_path, dataset, monkeypatch, capsys):
    assert (
        command(monkeypatch, "analysis_results_ITP.py", "--script", "stark_s", "--config", "none", "--dataset", dataset)
        == 2
    )
    assert capsys.readouterr().err.startswith("error: no results of stark_s:none in ")
