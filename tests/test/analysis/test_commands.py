"""The commands of analysis, with their arguments as a user gives them."""

import pytest

from lib.data.registry import load_dataset
from lib.test.analysis.selection import find_runs
from lib.test.evaluation.result_files import run_dir
from tests.data.made_sets import write_results, write_sequence
from tests.test.analysis.test_got10k_report import write_report


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    for name in ("ant", "bee"):
        write_sequence(tmp_path / "set", name)
    return f"folder:{tmp_path / 'set'}"


@pytest.fixture
def results(tmp_path, dataset):
    """Results of runs of `stark_s:c`, and their folder."""
    folder = tmp_path / "test" / "tracking_results"
    for run_id in (None, 0, 12):
        write_results(run_dir(folder, "stark_s", "c", run_id), load_dataset(dataset), shift=run_id or 0)
    return folder


def test_analysis(tmp_path, dataset, results, run_script, capsys):
    arguments = ["--trackers", "stark_s:c:0", "stark_s:c", "--dataset", dataset, "--plot", "norm_precision", "--merge"]
    assert run_script("analysis_results.py", *arguments, "--per_sequence", "--filter", "a*") == 0
    printed = capsys.readouterr().out
    assert "set, 1 of 2 sequences" in printed
    assert "stark_s:c (2 runs)" in printed
    assert "AUC by sequence" in printed
    (output,) = (tmp_path / "test" / "result_plots").iterdir()
    assert {path.name for path in output.glob("*.p*")} == {"norm_precision.png", "norm_precision.pdf"}


def test_a_place_that_cannot_be_written_is_named(tmp_path, dataset, results, run_script, capsys):
    (tmp_path / "file").write_text("mine")
    arguments = ["--trackers", "stark_s:c", "--dataset", dataset, "--output", tmp_path / "file"]
    assert run_script("analysis_results.py", *arguments) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error
    assert error.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_an_analysis_leaves_nothing_of_the_one_before(tmp_path, dataset, results, run_script):
    arguments = ["--trackers", "stark_s:c", "--dataset", dataset, "--output", tmp_path / "out"]
    assert run_script("analysis_results.py", *arguments) == 0
    assert run_script("analysis_results.py", *arguments, "--plot", "success") == 0
    assert {path.name for path in (tmp_path / "out").glob("*.p*")} == {"success.png", "success.pdf"}


def test_analysis_of_server_reports(tmp_path, dataset, run_script, capsys):
    report = write_report(tmp_path / "r.json", "mine", 0.5)
    assert run_script("analysis_results.py", "--got_reports", report, "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines()[2].split()[:2] == ["mine", "50.0"]
    assert (tmp_path / "out" / "got_success.pdf").stat().st_size > 1000
    assert run_script("analysis_results.py", "--trackers", "a:b") == 2
    assert "--trackers and --dataset are needed" in capsys.readouterr().err
    assert run_script("analysis_results.py", "--got_reports", report, "--dataset", dataset) == 2


@pytest.mark.parametrize("script", ["stark_st2", "stark_st"])  # that trains it, and its own name
def test_all_runs_of_one_tracker(tmp_path, dataset, results, run_script, capsys, script):
    (results / "stark_s").rename(results / "stark_st")
    (results / "stark_st" / "c_other").mkdir()
    (results / "stark_st" / "c_002").mkdir()  # of a run that was killed at once
    assert [source.folder.name for source in find_runs(results, "stark_st", "c")] == ["c", "c_000", "c_002", "c_012"]
    arguments = ["--script", script, "--config", "c", "--dataset", dataset]
    assert run_script("analysis_results_ITP.py", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "set, 2 sequences"
    assert sorted(line.split("  ")[0] for line in lines[3:7]) == [
        *("stark_st:c", "stark_st:c (2 runs)", "stark_st:c_000", "stark_st:c_012")
    ]
    assert lines[-1] == "without a result on these sequences: stark_st:c_002"
    assert not (tmp_path / "test" / "result_plots").exists()


def test_a_tracker_without_any_results(dataset, run_script, capsys):
    arguments = ["--script", "stark_s", "--config", "none", "--dataset", dataset]
    assert run_script("analysis_results_ITP.py", *arguments) == 2
    assert capsys.readouterr().err.startswith("error: no results of stark_s:none in ")
