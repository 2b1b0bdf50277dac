"""The commands of analysis, with their arguments as a user gives them."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.analysis.report import plot_got_success, read_got_report
from lib.test.analysis.selection import filter_sets, find_groups, joined, load_sets, parse_tracker, parse_trackers
from lib.test.evaluation.result_files import run_dir
from lib.utils.errors import UserError
from tests.data.made_sets import write_results, write_sequence


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    for name in ("ant", "bee"):
        write_sequence(tmp_path / "set", name)
    return f"folder:{tmp_path / 'set'}"


@pytest.fixture
def results(tmp_path, dataset):
    """Results of runs of `stark_st:c`, and their folder."""
    folder = tmp_path / "test" / "tracking_results"
    for run_id in (None, 0, 12):
        write_results(run_dir(folder, "stark_st", "c", run_id), load_dataset(dataset), shift=run_id or 0)
    return folder


def test_analysis_leaves_nothing_of_the_one_before(tmp_path, dataset, results, run_script, capsys):
    arguments = ["--trackers", "stark_st:c:0", "stark_st:c", "--dataset", dataset, "--merge"]
    assert run_script("analysis_results.py", *arguments) == 0
    capsys.readouterr()
    more = ["--plot", "norm_precision", "--per_sequence", "--filter", "a*"]
    assert run_script("analysis_results.py", *arguments, *more) == 0
    printed = capsys.readouterr().out
    assert "set, 1 of 2 sequences" in printed
    assert "stark_st:c (2 runs)" in printed
    assert "AUC by sequence" in printed
    (output,) = (tmp_path / "test" / "result_plots").iterdir()
    assert {path.name for path in output.glob("*.p*")} == {"norm_precision.png", "norm_precision.pdf"}


def test_all_runs_of_one_tracker(tmp_path, dataset, results, run_script, capsys):
    (results / "stark_st" / "c_other").mkdir()
    (results / "stark_st" / "c_002").mkdir()  # of a run that was killed at once
    arguments = ["--config", "c", "--dataset", dataset, "--script"]
    assert run_script("analysis_results_ITP.py", *arguments, "stark_st2") == 0  # that trains it
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "set, 2 sequences"
    assert sorted(line.split("  ")[0] for line in lines[3:7]) == [
        *("stark_st:c", "stark_st:c (2 runs)", "stark_st:c_000", "stark_st:c_012")
    ]
    assert lines[-1] == "without a result on these sequences: stark_st:c_002"
    assert not (tmp_path / "test" / "result_plots").exists()
    assert run_script("analysis_results_ITP.py", *arguments, "stark_s") == 2
    assert capsys.readouterr().err.startswith("error: no results of stark_s:c for these sequences in ")


def test_table_and_plots_of_server_reports(tmp_path, dataset, run_script, capsys):
    files = tmp_path / "a.json", tmp_path / "b.json"
    slow = {"ao": 0.4, "sr": 0.5, "speed_fps": -1, "succ_curve": [1, 0.6875, 0.375, 0.0625, 0]}
    good = {"ao": 0.5, "sr": 0.5, "speed_fps": 31.5, "succ_curve": np.linspace(1, 0, 101).tolist()}
    for file, tracker, overall in zip(files, ("slow", "good"), (slow, good), strict=True):
        file.write_text(json.dumps({tracker: {"overall": overall, "seq_wise": {"GOT-10k_Test_000001": {"ao": 0.5}}}}))
    assert run_script("analysis_results.py", "--got_reports", *files, "--output", tmp_path / "out") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["Tracker", "AO", "SR0.50", "SR0.75", "FPS"]
    assert lines[2] == ["good", "50.0", "50.0", "25.0", "31.5"]
    assert lines[3] == ["slow", "40.0", "37.5", "6.2", "-"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"got_success.png", "got_success.pdf"}
    assert (tmp_path / "out" / "got_success.pdf").stat().st_size > 1000
    with pytest.raises(UserError, match="two reports are of a tracker called 'good'"):
        plot_got_success([files[1], files[1]], tmp_path)
    before = files[0].read_text()
    assert run_script("analysis_results.py", "--got_reports", *files, "--output", files[0]) == 2
    error = capsys.readouterr().err  # a place that cannot be written
    assert str(files[0]) in error
    assert error.count("\n") == 1
    assert files[0].read_text() == before
    assert run_script("analysis_results.py", "--trackers", "a:b") == 2
    assert "--trackers and --dataset are needed" in capsys.readouterr().err
    assert run_script("analysis_results.py", "--got_reports", files[0], "--dataset", dataset) == 2


def test_old_reports_and_files_that_are_no_reports(tmp_path):
    path, old = tmp_path / "r.json", {"ao": 1, "succ_curve": [1, 1]}
    path.write_text(json.dumps({"a": {"overall": {"ao": 0.5, "succ_curve": [1, 0]}}, "b": old}))
    reports = [(tracker, ao, curve[[50, 75]].tolist()) for tracker, ao, curve, _ in read_got_report(path)]
    assert reports == [("a", 50, [50, 25]), ("b", 100, [100, 100])]
    number = '{"t": {"ao": %s, "succ_curve": %s}}'
    ranges = (number % each for each in ((0.5, '[1, "x"]'), (0.5, "[1]"), (50, "[1, 0]"), ("NaN", "[1, 0]")))
    for content in ("", "[" * 100_000, "[]", "{}", '{"t": {"overall": {"ao": 0.5}}}', *ranges):
        path.write_text(content)
        with pytest.raises(UserError, match=r"r\.json is not a report of GOT-10k \(.*\): expected JSON with numbers"):
            read_got_report(path)


RESULTS = Path("results")
# As much of sequences as choosing needs.
CAR1 = SimpleNamespace(name="Car1", object_class="car", attributes=("Occlusion", "Scale"))
CAR2 = SimpleNamespace(name="Car2", object_class="car", attributes=("Scale",))
GIRL = SimpleNamespace(name="Girl", object_class="person", attributes=("Occlusion",))
SETS = {"otb": {"Car1": CAR1, "Girl": GIRL}, "more": {"Car2": CAR2}}


def labels(*texts: str) -> list[str]:
    return [source.label for source in parse_trackers(texts, RESULTS)]


def test_our_trackers_their_runs_and_folders_of_other_programs(tmp_path):
    sources = parse_tracker("stark_s:baseline:9-11", RESULTS)
    assert [s.folder for s in sources] == [RESULTS / "stark_s" / f"baseline_{n}" for n in ("009", "010", "011")]
    assert len({source.group for source in sources}) == 1
    assert labels("a:b:0-1=Ours") == ["Ours_000", "Ours_001"]
    assert labels("a:b:0-2", "a:b:1", "a:b") == ["a:b_000", "a:b_001", "a:b_002", "a:b"]  # one named twice counts once
    (tmp_path / "x=1").mkdir()
    assert labels(f"folder:{tmp_path / 'x=1'}") == ["x=1"]  # the name of a folder goes before a label
    (source,) = parse_tracker(f"folder:{tmp_path / 'x=1'}=OSTrack", RESULTS)
    assert source.label == "OSTrack"
    sequence = Sequence("uav_bike1", "uav", tmp_path, tmp_path / "anno.txt")
    for name in ("bike1.txt", "uav_bike1.txt"):  # without the set's prefix, and with it, which goes before
        (source.folder / name).touch()
        assert source.files(sequence)[0] == source.folder / name


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        *(((text,), "does not name a tracker's results: expected tracker:config") for text in ("stark_s", "a:b:4-2")),
        *(((text,), "folder of results not found") for text in ("folder:none", "folder:=Label")),
        (("a:b=Foo", "c:d=Foo"), "two trackers are called 'Foo'; give one of them another name with =Label"),
        (("a:c:0-1=Foo", "b:c:3=Foo"), "two trackers are called 'Foo"),  # --merge would make one row of them
    ],
)
def test_trackers_that_are_refused(texts, message):
    with pytest.raises(UserError, match=message):
        labels(*texts)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["car*"], ["Car1", "Car2"]),
        (["name=CAR?"], ["Car1", "Car2"]),
        (["attribute=occlusion"], ["Car1", "Girl"]),
        (["class=Person"], ["Girl"]),
        (["attribute=Scale", "*2"], ["Car2"]),
    ],
)
def test_filters(filters, names):
    left = filter_sets(SETS, filters, ())
    assert list(joined(left)) == names
    assert all(left.values())  # a set of which nothing is left is dropped
    with pytest.raises(UserError, match="--filter attribute=Blur: no sequence is left; valid: Occlusion, Scale"):
        filter_sets(SETS, ["attribute=Blur"], ())
    with pytest.raises(UserError, match="expected PATTERN, name=PATTERN"):
        filter_sets(SETS, ["size=3"], ())


def test_groups_are_the_attributes_and_the_sets_also_of_one_name(tmp_path):
    assert find_groups(SETS) == {
        ("set", "otb"): ["Car1", "Girl"],
        ("set", "more"): ["Car2"],
        ("attribute", "Occlusion"): ["Car1", "Girl"],
        ("attribute", "Scale"): ["Car1", "Car2"],
    }
    folders = [f"folder:{tmp_path}/{place}/set" for place in "ab"]
    for place in "ab":
        write_sequence(tmp_path / place / "set", "ant")
    assert len(find_groups(load_sets(folders))) == 2
    assert find_groups(load_sets([folders[0], f"{folders[0]}/"])) == {}
