"""Running trackers over test sets: what is written, kept, and reported."""

import os
import re
import shutil
from functools import partial
from pathlib import Path

import pytest

from lib.config import load_config
from lib.data.registry import load_dataset
from lib.test.evaluation import running
from lib.test.evaluation.result_files import read_seconds, refuse_to_mix, remove_unfinished, result_path, run_dir
from lib.test.evaluation.running import Rank, evaluate_tracker, run_sequences, spread_devices
from lib.test.evaluation.sequences import SequenceResult
from lib.test.tracker.classic import StillTracker
from lib.utils.errors import UserError
from tests.data.made_sets import ScriptedTracker, moving_boxes, score_tracker, write_sequence


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, (name, count) in enumerate((("ant", 6), ("bee", 10), ("cow", 3))):
        write_sequence(tmp_path / "set", name, count, moving_boxes(count) + [0.75, index, 0.3, 0])
    return tmp_path / "set"


@pytest.fixture
def sequences(root: Path) -> list:
    return load_dataset(f"folder:{root}")


@pytest.fixture
def run(sequences: list, tmp_path: Path):
    """Run a scripted tracker into `out`; gives the report, and the frames that the tracker got."""

    def run(move=lambda _, box: box, sequences=sequences):
        tracker = ScriptedTracker(sequences, move)
        return run_sequences(lambda _: tracker, sequences, tmp_path / "out"), tracker.frames

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def names(outcomes: list[SequenceResult]) -> list[str]:
    return [outcome.name for outcome in outcomes]


def test_results_are_written_as_published(run, sequences, tmp_path, capsys):
    report, frames = run(lambda _, box: box + 100)
    assert names(report.tracked) == ["bee", "ant", "cow"]  # the longest first
    assert frames == [*range(10), *range(6), *range(3)]
    assert not report.failed
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("[1/3] bee: 10 frames, ")
    folder = tmp_path / "out" / sequences[0].subfolder
    rows = (folder / "bee.txt").read_text().splitlines()
    assert rows[0] == "10\t31\t20\t16"  # the given box, with fractions cut off
    assert rows[1] == "113\t132\t120\t116"
    assert len(rows) == 10
    seconds = [float(line) for line in (folder / "bee_time.txt").read_text().splitlines()]
    assert len(seconds) == 10
    assert min(seconds) >= 0
    assert files(tmp_path / "out") == {f"{name}{end}.txt" for name in ("ant", "bee", "cow") for end in ("", "_time")}


def test_a_second_run_keeps_what_is_finished(run, sequences, tmp_path, capsys):
    run()
    folder = tmp_path / "out" / sequences[0].subfolder
    (folder / "bee.txt").unlink()  # as a run leaves it that was stopped between the two files
    before = (folder / "ant.txt").stat().st_mtime_ns
    report, frames = run()
    assert (names(report.tracked), report.kept) == (["bee"], ["ant", "cow"])
    assert len(frames) == 10
    assert (folder / "ant.txt").stat().st_mtime_ns == before
    capsys.readouterr()
    report = run_sequences(lambda _: pytest.fail("nothing is left to track"), sequences, tmp_path / "out")
    assert sorted(report.kept) == ["ant", "bee", "cow"]
    assert capsys.readouterr().out == "3 sequences have results from before and are skipped\n"


def test_a_kept_result_of_other_data_is_not_taken_for_this(run, root):
    run()
    write_sequence(root, "ant", 8)
    write_sequence(root, "cow", 3, moving_boxes(3) + 40)
    report, _ = run(sequences=load_dataset(f"folder:{root}"))
    assert report.kept == ["bee"]
    assert names(report.failed) == ["ant", "cow"]
    assert "cow.txt is of other data, since here are 3 boxes from [50.0, 70.0, " in report.failed[1].reason


def test_a_sequence_that_fails_is_logged_and_the_others_go_on(run, sequences, tmp_path, capsys):
    def move(index, box):
        if index == 7:
            raise RuntimeError("lost my way")
        return box

    report, _ = run(move)
    assert names(report.tracked) == ["ant", "cow"]
    assert report.status == 1
    assert capsys.readouterr().out.startswith("[1/3] bee: failed: RuntimeError: lost my way")
    log = (tmp_path / "out" / "failures.log").read_text()
    assert "bee: failed" in log
    assert "Traceback" in log
    assert "in move" in log
    assert not [name for name in files(tmp_path / "out") if name.startswith(("bee", ".bee"))]
    assert score_tracker(tmp_path, ".", "out", sequences).missing == ["bee"]
    assert names(run()[0].tracked) == ["bee"]


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, float("nan"), 4], [1, 2, -3, 4], "none"])
def test_what_is_not_a_box_is_not_written(run, sequences, tmp_path, box):
    report, _ = run(lambda *_: box, sequences[:1])
    assert "ValueError" in report.failed[0].reason
    assert files(tmp_path / "out") == {"failures.log"}


def test_damaged_data_fails_by_name(run, sequences, root):
    (root / "ant" / "00000004.jpg").write_bytes(b"not an image")
    (root / "bee" / "groundtruth.txt").write_text("1,2,3\n")
    run(sequences=sequences[2:])
    report = run_sequences(lambda _: StillTracker(), load_dataset(f"folder:{root}"), root.parent / "out")
    assert report.kept == ["cow"]
    assert "groundtruth.txt, line 1" in report.failed[0].reason
    assert "00000004.jpg" in report.failed[1].reason


def test_the_summary_counts_track_calls_and_the_whole_loop(run):
    report, _ = run()
    assert all(0 < each.track_seconds < each.end - each.begin for each in report.tracked)
    report.tracked = [SequenceResult("a", "", "", 11, 0.1, 5.0, 5.4), SequenceResult("b", "", "", 7, 0.1, 5.0, 5.4)]
    assert str(report) == "2 tracked, 0 finished before, 0 failed; 80.0 FPS in the tracker, 20.0 FPS with reading"
    report.processes = 2
    assert str(report).endswith("20.0 FPS with reading in each process; 40.0 frames a second in 2 processes")


def test_the_commands_from_frames_to_table(root, tmp_path, monkeypatch, run_script, capsys):
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    (root / "bee" / "groundtruth.txt").unlink()
    (root / "list.txt").write_text("ant\nbee\ncow\n")
    assert run_script("test.py", "still", "none", "--dataset_name", f"folder:{root}") == 1
    printed = capsys.readouterr().out
    assert "2 tracked, 0 finished before, 1 failed" in printed
    assert "failed: bee; see" in printed

    arguments = ["--trackers", "still:none", "--dataset_name", f"folder:{root}"]
    assert run_script("analysis_results.py", *arguments) == 0
    assert "no result for 1 of 3 sequences: bee" in capsys.readouterr().out
    (output,) = (tmp_path / "test" / "result_plots").iterdir()
    assert {"success.png", "precision.png", "scores.json"} <= files(output)


def test_the_command_for_one_sequence_and_another_place(root, tmp_path, monkeypatch, run_script, capsys):
    place = ["--dataset", f"folder:{root}", "--results_dir", str(tmp_path / "here")]
    assert run_script("test.py", "still", "none", *place, "--sequence", "1") == 0
    assert files(tmp_path / "here" / "still" / "none") == {"bee.txt", "bee_time.txt", "run.json"}
    more = ["--sequence", "cow,0", "--runid", "3", "--threads", "2", "--debug", "2"]
    assert run_script("test.py", "still", "none", *place, *more) == 0
    run = tmp_path / "here" / "still" / "none_003"
    assert {"ant.txt", "cow.txt"} <= files(run)
    assert "bee.txt" not in files(run)
    assert len(list(run.glob("debug/*/ant/*.jpg"))) == 6
    assert "frames a second in 2 processes" in capsys.readouterr().out
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path))
    assert run_script("test.py", "still", "none") == 2
    assert capsys.readouterr().err.startswith("error: test set otb: folder not found")


@pytest.mark.parametrize("debug", ["0", "1"])
def test_a_name_that_is_not_utf8_ends_no_evaluation(root, tmp_path, run_script, capsys, debug):
    shutil.copytree(root / "ant", root / os.fsdecode(b"caf\xe9"))
    arguments = ["--dataset", f"folder:{root}", "--results_dir", str(tmp_path), "--debug", debug]
    assert run_script("test.py", "still", "none", *arguments) == 0
    printed = capsys.readouterr().out
    assert re.search("4 tracked, 0 finished .* 0 failed", printed)
    assert "[3/4] caf\\udce9: " in printed


def test_results_of_other_runs_are_not_mixed(tmp_path):
    output, weights = tmp_path / "out", tmp_path / "a.pth.tar"
    weights.write_bytes(b"one")
    refuse = partial(refuse_to_mix, output, [weights], "torch fp32", {"TEST.SEARCH_FACTOR": 5.0})
    refuse_to_mix(output, [weights], "onnx fp32", {})
    refuse()  # the other one left no result
    (output / "some_set").mkdir()
    (output / "some_set" / "a.txt").write_text("1\t2\t3\t4\n")
    refuse()
    for engine, options, message in (
        ("onnx fp32", {"TEST.SEARCH_FACTOR": 5.0}, r"\(engine torch fp32, not onnx fp32\): .* --runid"),
        ("torch fp32", {"TEST.SEARCH_FACTOR": 4.0, "TEST.WINDOW": 0.5}, "FACTOR 5.0, not 4.0; TEST.WINDOW None, not"),
    ):
        with pytest.raises(UserError, match=message):
            refuse_to_mix(output, [weights], engine, options)
    # Notes of earlier versions have one line or two, and no options.
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    (output / "run.json").rename(tmp_path / "note")
    (output / "weights.sha256").write_text(f"{digest}  a.pth.tar\n")
    refuse()
    (output / "weights.sha256").write_text(f"{digest}  a.pth.tar\nonnx fp32\n")
    with pytest.raises(UserError, match="engine onnx fp32, not torch fp32"):
        refuse()
    (tmp_path / "note").rename(output / "run.json")
    weights.write_bytes(b"two")
    with pytest.raises(UserError, match=f"weights {digest}, not .*"):
        refuse()


def test_a_network_is_warm_before_the_clock_and_its_configuration_is_noted(root, tmp_path, monkeypatch):
    calls = []

    class Tracker(StillTracker):
        def track(self, image):
            calls.append(image)
            return super().track(image)

    monkeypatch.setattr(running, "create_tracker", lambda *_, **how: Tracker() if how["engine"] == "torch" else None)
    cfg = load_config("stark_lightning_X_trt", "mini")
    monkeypatch.setattr(running, "tracker_config", lambda *_: cfg)

    def evaluate():
        return evaluate_tracker("stark_lightning_X_trt", "mini", f"folder:{root}", results_dir=tmp_path)

    assert sum(outcome.frames - 1 for outcome in evaluate().tracked) == len(calls) - 3 == 16
    cfg.TRAIN.LR, cfg.TEST.EPOCH = 5.0, 7  # which decide nothing here
    assert len(evaluate().kept) == 3
    cfg.TEST.SEARCH_FACTOR = 1.0
    with pytest.raises(UserError, match=r"holds other results \(TEST.SEARCH_FACTOR 4.2, not 1.0\)"):
        evaluate()


@pytest.mark.parametrize("names", [("still", "../x", 1), ("../still", "x", None), ("a", "b", -1)])
def test_results_stay_in_their_folder(names, tmp_path):
    with pytest.raises(UserError, match="cannot name a folder of results|counted from 0"):
        run_dir(tmp_path, *names)
    assert run_dir(tmp_path, "stark_s", "my/baseline.yaml", 7) == tmp_path / "stark_s" / "baseline_007"


@pytest.mark.parametrize("text", ["nan\n", "0.1\n-1\n", "0.1\ninf\n", "a\n"])
def test_what_is_not_a_time_is_refused(text, tmp_path):
    path = tmp_path / "a_time.txt"
    path.write_text(text)
    with pytest.raises(UserError, match="a_time.txt does not hold seconds"):
        read_seconds(path)
    path.write_text("0.1,0.2,0.3\n0.4,0.5,0.6\n")  # GOT-10k's toolkit writes a column a repeated run
    assert read_seconds(path).tolist() == [0.1, 0.4]


def test_only_unfinished_files_of_a_sequence_are_removed(sequences, tmp_path):
    folder = result_path(tmp_path, sequences[0]).parent
    folder.mkdir(parents=True)
    others = {"ant.txt", ".ant.b.abcd1234.txt", ".bee.abcd1234.txt", ".ant.txt"}
    for name in (*others, ".ant.abcd1234.txt", ".ant_time.abcd_234.txt"):
        (folder / name).touch()
    remove_unfinished(tmp_path, sequences[0])
    assert files(folder) == others


def test_ranks_are_read_from_the_environment(monkeypatch, capsys):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Rank.from_environment() == Rank()
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    rank = Rank.from_environment()
    assert rank == Rank(5, 8, 1, 4)
    rank.say("a")
    Rank().say("b")
    assert capsys.readouterr().out == "rank 5: a\nb\n"
    for value in ("8", "two", "-1"):
        monkeypatch.setenv("RANK", value)
        with pytest.raises(UserError, match=f"RANK={value}, WORLD_SIZE=8, .*: expected whole numbers, and RANK from 0"):
            Rank.from_environment()


def test_processes_are_dealt_out_over_the_gpus(monkeypatch, capsys):
    monkeypatch.setattr(running, "available_devices", lambda: ["cuda:0", "cuda:1", "cuda:2", "cpu"])
    assert spread_devices("auto", 4, None) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert spread_devices("auto", 3, 2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert spread_devices("auto", 0, None) == ["cuda:0"]
    assert spread_devices("auto", 0, None, Rank(5, 8, 1, 4)) == ["cuda:1"]
    assert spread_devices("auto", 2, None, Rank(5, 8, 1, 4)) == ["cuda:2", "cuda:0"]
    assert spread_devices("cuda:1", 2, None) == ["cuda:1", "cuda:1"]
    assert spread_devices("auto", 2, None, engine="onnx") == ["auto", "auto"]
    assert spread_devices("auto", 2, 2, engine="onnx") == ["cuda:0", "cuda:1"]
    assert spread_devices("cpu", 2, 2) == ["cpu", "cpu"]
    assert capsys.readouterr().out == ""
    assert spread_devices("auto", 5, 8) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert capsys.readouterr().out == "--num_gpus 8: this machine has 3, which are used\n"
    for threads, gpus in ((2, 0), (-1, None)):
        with pytest.raises(UserError, match=f"--threads {threads}, --num_gpus {gpus}: expected"):
            spread_devices("auto", threads, gpus)
    monkeypatch.setattr(running, "available_devices", lambda: ["cpu"])
    assert spread_devices("auto", 2, 8) == ["auto", "auto"]
