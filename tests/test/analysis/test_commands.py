"""The commands of analysis, with their arguments as a user gives them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.analysis.report import plot_got_success, read_got_report
from lib.test.analysis.selection import filter_sets, find_groups, find_runs, load_sets, parse_tracker, parse_trackers
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


def write_report(path: Path, tracker: str, ao: float, speed: float = 31.5, **changes: object) -> Path:
    """A report whose success curve falls evenly from 1 at overlap 0 to 0 at 2·ao."""
    curve = np.clip(1 - np.linspace(0, 1, 101) / (2 * ao), 0, 1).tolist()
    overall = {"ao": ao, "sr": 0.5, "speed_fps": speed, "succ_curve": curve} | changes
    path.write_text(json.dumps({tracker: {"overall": overall, "seq_wise": {"GOT-10k_Test_000001": {"ao": 0.5}}}}))
    return path


def test_table_and_plots_of_several_reports(tmp_path, capsys):
    files = [write_report(tmp_path / "a.json", "slow", 0.4, speed=-1), write_report(tmp_path / "b.json", "good", 0.5)]
    plot_got_success(files, tmp_path / "out")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["Tracker", "AO", "SR0.50", "SR0.75", "FPS"]
    assert lines[2] == ["good", "50.0", "50.0", "25.0", "31.5"]
    assert lines[3] == ["slow", "40.0", "37.5", "6.2", "-"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"got_success.png", "got_success.pdf"}
    picture = np.asarray(Image.open(tmp_path / "out" / "got_success.png").convert("RGB")).reshape(-1, 3)
    assert all((picture == colour).all(axis=1).sum() > 500 for colour in ([0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]))


def test_one_file_of_several_trackers_and_old_reports(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(
        json.dumps({"a": {"overall": {"ao": 0.5, "succ_curve": [1, 0]}}, "b": {"ao": 1, "succ_curve": [1, 1]}})
    )
    reports = [(tracker, ao, curve[[50, 75]].tolist()) for tracker, ao, curve, _ in read_got_report(path)]
    assert reports == [("a", 50, [50, 25]), ("b", 100, [100, 100])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a report of GOT-10k"),
        ("[" * 100_000, "is not a report of GOT-10k"),
        ("[]", "is not a report of GOT-10k"),
        ("{}", "without a tracker"),
        ('{"t": {"overall": {"ao": 0.5}}}', "'ao' and 'succ_curve' under 'overall'"),
        ('{"t": {"ao": 0.5, "succ_curve": [1]}}', "not numbers from 0 to 1"),
        ('{"t": {"ao": NaN, "succ_curve": [1, 0]}}', "not numbers from 0 to 1"),
        ('{"t": {"ao": 0.5, "succ_curve": [1, "x"]}}', "is not a report of GOT-10k"),
    ],
)
def test_files_that_are_no_reports(tmp_path, content, message):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_got_report(path)


def test_missing_and_double_reports(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.json"):
        read_got_report(tmp_path / "none.json")
    files = [write_report(tmp_path / f"{name}.json", "same", 0.4) for name in "ab"]
    with pytest.raises(UserError, match="two reports are of a tracker called 'same'"):
        plot_got_success(files, tmp_path)


RESULTS = Path("results")


@dataclass(frozen=True)
class Video:
    """As much of a sequence as choosing needs."""

    name: str
    dataset: str = "otb"
    subfolder: str = ""
    object_class: str = ""
    attributes: tuple[str, ...] = ()


CAR1 = Video("Car1", object_class="car", attributes=("Occlusion", "Scale"))
CAR2 = Video("Car2", object_class="car", attributes=("Scale",))
GIRL = Video("Girl", object_class="person", attributes=("Occlusion",))
SETS = {"otb": [CAR1, GIRL], "more": [CAR2]}


def labels(*texts: str) -> list[str]:
    return [source.label for source in parse_trackers(texts, RESULTS)]


def chosen(*filters: str, sources=()) -> list[str]:
    return [video.name for members in filter_sets(SETS, filters, sources).values() for video in members]


def test_our_trackers_and_their_runs():
    assert labels("stark_s:baseline", "stark_s:baseline:3") == ["stark_s:baseline", "stark_s:baseline_003"]
    sources = parse_tracker("stark_s:baseline:9-11", RESULTS)
    assert [s.folder for s in sources] == [RESULTS / "stark_s" / f"baseline_{n}" for n in ("009", "010", "011")]
    assert len({source.group for source in sources}) == 1
    assert labels("a:b:0-1=Ours") == ["Ours 000", "Ours 001"]
    assert labels("stark_s:experiments/mine/big.yaml") == ["stark_s:big"]
    assert labels("a:b:0-2", "a:b:1") == ["a:b_000", "a:b_001", "a:b_002"]  # one named twice counts once


@pytest.mark.parametrize(
    "text", ["stark_s", "stark_s:", ":baseline", "", "a:b:", "a:b:x", "a:b:1-", "a:b:1-2:3", "a:b:4-2", "a:b:0-9999"]
)
def test_what_names_no_tracker(text):
    with pytest.raises(UserError, match="does not name a tracker's results: expected tracker:config"):
        parse_tracker(text, RESULTS)


@pytest.mark.parametrize(
    "texts", [("a:b=Foo", "c:d=Foo"), ("a:c:0-1=Foo", "b:c:3=Foo"), ("a:c:0-1=Foo", "folder:{}=Foo")]
)
def test_two_of_one_name_are_refused(texts, tmp_path):
    with pytest.raises(UserError, match=r"two trackers are called 'Foo.*give one of them another name with =Label"):
        parse_trackers([text.format(tmp_path) for text in texts], tmp_path)


def test_folders_of_other_programs(tmp_path):
    (tmp_path / "x=1").mkdir()
    assert labels(f"folder:{tmp_path / 'x=1'}") == ["x=1"]  # the name of a folder goes before a label
    assert labels(f"folder:{tmp_path / 'x=1'}=OSTrack") == ["OSTrack"]
    for text in (f"folder:{tmp_path / 'none'}", "folder:", "folder:=Label"):
        with pytest.raises(UserError, match="folder of results not found"):
            labels(text)


def test_names_of_other_programs_without_the_sets_prefix(tmp_path):
    (tmp_path / "bike1.txt").touch()
    (source,) = parse_tracker(f"folder:{tmp_path}", RESULTS)
    sequence = Sequence("uav_bike1", "uav", tmp_path, tmp_path / "anno.txt")
    assert source.files(sequence)[0] == tmp_path / "bike1.txt"
    (tmp_path / "uav_bike1.txt").touch()
    assert source.files(sequence)[0] == tmp_path / "uav_bike1.txt"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([], ["Car1", "Girl", "Car2"]),
        (["car*"], ["Car1", "Car2"]),
        (["name=CAR?"], ["Car1", "Car2"]),
        (["attribute=occlusion"], ["Car1", "Girl"]),
        (["class=Person"], ["Girl"]),
        (["attribute=Scale", "*2"], ["Car2"]),
    ],
)
def test_filters(filters, names):
    assert chosen(*filters) == names
    assert all(filter_sets(SETS, filters, ()).values())  # a set of which nothing is left is dropped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Car7", "no sequence is left; possible are Car"),
        ("attribute=Blur", "no sequence is left; possible are .*Occlusion"),
        ("class=persons", "possible are person"),
        ("size=3", "expected PATTERN, name=PATTERN"),
        ("=3=", "expected PATTERN, name=PATTERN"),
    ],
)
def test_filters_that_leave_nothing(text, message):
    with pytest.raises(UserError, match=message):
        chosen(text)


def test_groups_are_the_sets_and_the_attributes_of_their_files():
    assert find_groups(SETS) == {
        ("set", "otb"): ["Car1", "Girl"],
        ("set", "more"): ["Car2"],
        ("attribute", "Occlusion"): ["Car1", "Girl"],
        ("attribute", "Scale"): ["Car1", "Car2"],
    }
    assert list(find_groups({"more": [CAR2]})) == [("attribute", "Scale")]


def test_one_folder_counts_once_and_two_of_one_name_are_told_apart(tmp_path):
    for place in (tmp_path / "a" / "set", tmp_path / "b" / "set"):
        write_sequence(place, "ant")
    once = load_sets([f"folder:{tmp_path}/a/set", f"folder:{tmp_path}/a/set/"])
    assert [(title, len(members)) for title, members in once.items()] == [("set", 1)]
    assert len(find_groups(load_sets([f"folder:{tmp_path}/a/set", f"folder:{tmp_path}/b/set"]))) == 2
