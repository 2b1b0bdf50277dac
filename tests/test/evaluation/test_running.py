"""Running trackers over test sets: what is written, kept, and reported."""

import os
import runpy
import sys
from pathlib import Path

import pytest

from lib.data.registry import load_dataset
from lib.test.evaluation.result_files import (
    WEIGHTS_NOTE,
    read_seconds,
    refuse_other_weights,
    remove_unfinished,
    result_path,
    run_dir,
)
from lib.test.evaluation.running import ALONE, run_sequences
from lib.test.tracker.still import StillTracker
from lib.utils.errors import UserError
from tests.data.made_sets import ScriptedTracker, moving_boxes, score_tracker, write_sequence

REPOSITORY = Path(__file__).resolve().parents[3]
REAL_DATA = Path(os.environ.get("STARK_REAL_DATA", REPOSITORY.parent / "shared" / "real"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, (name, count) in enumerate((("ant", 6), ("bee", 10), ("cow", 3))):
        write_sequence(tmp_path / "set", name, count, moving_boxes(count) + [0.75, index, 0.3, 0])
    return tmp_path / "set"


@pytest.fixture
def sequences(root: Path) -> list:
    return load_dataset(f"folder:{root}")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def run(make_tracker, sequences, output_dir):
    lines = []
    return run_sequences(make_tracker, sequences, output_dir, say=lines.append), lines


def test_results_are_written_as_published(sequences, tmp_path):
    tracker = ScriptedTracker(sequences, lambda _, box: box + 100)
    report, lines = run(lambda _: tracker, sequences, tmp_path / "out")
    assert report.done == ["bee", "ant", "cow"]  # the longest first
    assert tracker.frames == [*range(10), *range(6), *range(3)]
    assert not report.failed
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


def test_a_second_run_keeps_what_is_finished(sequences, tmp_path):
    run(lambda _: ScriptedTracker(sequences), sequences, tmp_path / "out")
    folder = tmp_path / "out" / sequences[0].subfolder
    (folder / "bee.txt").unlink()  # as a run leaves it that was stopped between the two files
    before = (folder / "ant.txt").stat().st_mtime_ns
    tracker = ScriptedTracker(sequences)
    report, _ = run(lambda _: tracker, sequences, tmp_path / "out")
    assert (report.done, report.kept) == (["bee"], ["ant", "cow"])
    assert len(tracker.frames) == 10
    assert (folder / "ant.txt").stat().st_mtime_ns == before

    def never(_):
        raise AssertionError("nothing is left to track")

    report, lines = run(never, sequences, tmp_path / "out")
    assert sorted(report.kept) == ["ant", "bee", "cow"]
    assert lines == ["3 sequences have results from before and are skipped"]


def test_a_kept_result_of_other_data_is_not_taken_for_this(sequences, root, tmp_path):
    run(lambda _: ScriptedTracker(sequences), sequences, tmp_path / "out")
    write_sequence(root, "ant", 8)
    write_sequence(root, "cow", 3, moving_boxes(3) + 40)
    changed = load_dataset(f"folder:{root}")
    report, _ = run(lambda _: ScriptedTracker(changed), changed, tmp_path / "out")
    assert report.kept == ["bee"]
    assert set(report.failed) == {"ant", "cow"}
    assert "belongs to other data; move it away" in report.failed["cow"]


def test_a_sequence_that_fails_is_logged_and_the_others_go_on(sequences, tmp_path):
    def move(index, box):
        if index == 7:
            raise RuntimeError("lost my way")
        return box

    report, lines = run(lambda _: ScriptedTracker(sequences, move), sequences, tmp_path / "out")
    assert report.done == ["ant", "cow"]
    assert report.failed == {"bee": "RuntimeError: lost my way"}
    assert lines[0] == "[1/3] bee: failed: RuntimeError: lost my way"
    log = (tmp_path / "out" / ALONE.failure_log).read_text()
    assert "bee failed" in log
    assert "Traceback" in log
    assert "in move" in log
    assert not [name for name in files(tmp_path / "out") if name.startswith(("bee", ".bee"))]

    scores = score_tracker(tmp_path, ".", "out", sequences)
    assert scores.missing == ["bee"]
    report, _ = run(lambda _: ScriptedTracker(sequences), sequences, tmp_path / "out")
    assert report.done == ["bee"]


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, float("nan"), 4], [1, 2, -3, 4], "none"])
def test_what_is_not_a_box_is_not_written(sequences, tmp_path, box):
    report, _ = run(lambda _: ScriptedTracker(sequences, lambda *_: box), sequences[:1], tmp_path / "out")
    assert "ValueError" in report.failed["ant"]
    assert files(tmp_path / "out") == {ALONE.failure_log}


def test_damaged_data_fails_by_name(sequences, root, tmp_path):
    (root / "ant" / "00000004.jpg").write_bytes(b"not an image")
    (root / "bee" / "groundtruth.txt").write_text("1,2,3\n")
    run(lambda _: StillTracker(), sequences[2:], tmp_path / "out")
    changed = load_dataset(f"folder:{root}")
    report, _ = run(lambda _: StillTracker(), changed, tmp_path / "out")
    assert report.kept == ["cow"]
    assert "00000004.jpg" in report.failed["ant"]
    assert "groundtruth.txt, line 1" in report.failed["bee"]


def test_a_tracker_that_cannot_be_made_ends_the_run(sequences, tmp_path):
    def make_tracker(_):
        raise UserError("no checkpoint")

    with pytest.raises(UserError, match="no checkpoint"):
        run(make_tracker, sequences, tmp_path / "out")


def test_the_summary_counts_track_calls_and_the_whole_loop(sequences, tmp_path):
    report, _ = run(lambda _: ScriptedTracker(sequences), sequences, tmp_path / "out")
    assert report.tracked_frames == 5 + 9 + 2
    assert 0 < report.track_seconds < report.loop_seconds
    report.track_seconds, report.loop_seconds = 0.1, 0.4
    assert report.summary() == "3 tracked, 0 finished before, 0 failed; 160.0 FPS in the tracker, 40.0 FPS with reading"


def command(monkeypatch, name: str, *arguments: str) -> int:
    """Run a script of `tracking/` in this process; gives its exit status."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(REPOSITORY / "tracking" / name), run_name="__main__")
    return end.value.code


def test_the_commands_from_frames_to_table(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    (root / "bee" / "groundtruth.txt").unlink()
    (root / "list.txt").write_text("ant\nbee\ncow\n")
    assert command(monkeypatch, "test.py", "still", "none", "--dataset_name", f"folder:{root}") == 1
    printed = capsys.readouterr().out
    assert "2 tracked, 0 finished before, 1 failed" in printed
    assert "failed: bee; see" in printed

    arguments = ["--trackers", "still:none", "--dataset_name", f"folder:{root}"]
    assert command(monkeypatch, "analysis_results.py", *arguments) == 0
    assert "no result for 1 of 3 sequences: bee" in capsys.readouterr().out
    (output,) = (tmp_path / "test" / "result_plots").iterdir()
    assert {"success.png", "precision.png", "scores.json"} <= files(output)


def test_the_command_for_one_sequence_and_another_place(root, tmp_path, monkeypatch, capsys):
    place = ["--dataset", f"folder:{root}", "--results_dir", str(tmp_path / "here")]
    assert command(monkeypatch, "test.py", "still", "none", *place, "--sequence", "1") == 0
    assert files(tmp_path / "here" / "still" / "none") == {"bee.txt", "bee_time.txt"}
    more = ["--sequence", "cow,0", "--runid", "3", "--threads", "2", "--debug", "2"]
    assert command(monkeypatch, "test.py", "still", "none", *place, *more) == 0
    run = tmp_path / "here" / "still" / "none_003"
    assert {"ant.txt", "cow.txt"} <= files(run)
    assert "bee.txt" not in files(run)
    assert len(list(run.glob("debug/*/ant/*.jpg"))) == 6
    assert "frames a second in 2 processes" in capsys.readouterr().out
    assert command(monkeypatch, "test.py", "still", "none", "--dataset", "otb100") == 2
    assert capsys.readouterr().err.startswith("error: unknown test set 'otb100'")


@pytest.mark.skipif(not (REAL_DATA / "got10k").is_dir(), reason=f"no real data at {REAL_DATA} (STARK_REAL_DATA)")
def test_real_sequences(tmp_path):
    sequences = load_dataset(f"folder:{REAL_DATA / 'got10k' / 'val'}")
    report = run_sequences(lambda _: StillTracker(), sequences[:1], tmp_path / "still" / "none")
    assert not report.failed
    scores = score_tracker(tmp_path, "still", "none", sequences)
    assert scores.missing == [sequence.name for sequence in sequences[1:]]
    assert 0 < scores.scores["auc"] < 50  # the objects move
    assert len(scores.sequences[0].overlaps) == len(sequences[0].frames) - 1


def test_results_of_other_weights_or_engines_are_not_mixed(tmp_path):
    output, weights = tmp_path / "out", tmp_path / "a.pth.tar"
    weights.write_bytes(b"one")
    refuse_other_weights(output, weights, "onnx")
    refuse_other_weights(output, weights)  # the other one left no result
    result = output / "some_set" / "a.txt"
    result.parent.mkdir()
    result.write_text("1\t2\t3\t4\n")
    refuse_other_weights(output, weights)
    with pytest.raises(UserError, match="holds results of torch fp32, not of onnx fp32: .* --runid"):
        refuse_other_weights(output, weights, "onnx")
    note = output / WEIGHTS_NOTE
    note.write_text(note.read_text().splitlines()[0] + "\n")  # as notes were before engines
    refuse_other_weights(output, weights)
    weights.write_bytes(b"two")
    with pytest.raises(UserError, match="other weights than .*a.pth.tar"):
        refuse_other_weights(output, weights)


@pytest.mark.parametrize(
    ("tracker", "config", "run_id"), [("still", "../x", 1), ("../still", "x", None), ("a", "b", -1)]
)
def test_results_stay_in_their_folder(tracker, config, run_id, tmp_path):
    with pytest.raises(UserError, match="cannot name a folder of results|counted from 0"):
        run_dir(tmp_path, tracker, config, run_id)
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
