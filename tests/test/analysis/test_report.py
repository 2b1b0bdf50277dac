"""From result files to table, plots and numbers; what is missing or wrong is named."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.analysis.report import analyse
from lib.test.evaluation.result_files import result_path, run_dir, time_path, write_result
from lib.utils.errors import UserError
from tests.data.made_sets import moving_boxes, score_tracker, write_boxes, write_sequence


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    for name, count in (("ant", 6), ("bee", 10), ("cow", 4)):
        write_sequence(tmp_path / "set", name, count, np.round(moving_boxes(count)))
    return f"folder:{tmp_path / 'set'}"


def write_results(results: Path, tracker: str, dataset: str, shift: float = 0.0, seconds: float = 0.1) -> Path:
    """Results of `tracker:default` that are off to the right by `shift` pixels after the first frame."""
    output_dir = run_dir(results, tracker, "default")
    for sequence in load_dataset(dataset):
        boxes = sequence.truth.copy()
        boxes[1:, 0] += shift
        write_result(output_dir, sequence, boxes, np.array([5.0] + [seconds] * (len(boxes) - 1)))
    return output_dir


def score(results: Path, tracker: str, dataset: str):
    return score_tracker(results, tracker, "default", load_dataset(dataset))


def test_scores_of_a_known_shift(tmp_path, dataset):
    """10 px of about 20: overlap a third in all frames but the first."""
    for sequence in load_dataset(dataset):
        write_boxes(sequence.annotation, np.tile([10.0, 10, 20, 20], (len(sequence.frames), 1)))
    write_results(tmp_path, "off", dataset, shift=10, seconds=0.02)
    scores = score(tmp_path, "off", dataset).scores
    first_frames = np.mean([1 / 6, 1 / 10, 1 / 4])  # a mean over sequences, not over frames
    assert scores["op50"] == pytest.approx(100 * first_frames)
    assert scores["auc"] == pytest.approx(100 * (7 / 21 + 13 / 21 * first_frames))
    assert scores["precision"] == 100
    assert scores["ao"] == pytest.approx(100 / 3)  # without first frames
    assert scores["sr50"] == 0
    assert scores["fps"] == pytest.approx(50)  # without the initialisation


def test_ao_counts_frames_and_leaves_out_the_unseen(tmp_path, dataset):
    sequences = load_dataset(dataset)
    output_dir = write_results(tmp_path, "half", dataset)
    lost = sequences[1].truth.copy()
    lost[1:, 0] += 500
    write_result(output_dir, sequences[1], lost, np.zeros(10))
    assert score(tmp_path, "half", dataset).scores["ao"] == pytest.approx(100 * (5 + 3) / (5 + 9 + 3))

    folder = sequences[1].annotation.parent
    (folder / "absence.label").write_text("0\n" * 4 + "1\n" * 6)
    (folder / "cover.label").write_text("8\n" * 3 + "0\n" * 7)
    scores = score(tmp_path, "half", dataset).scores
    assert scores["ao"] == scores["sr75"] == pytest.approx(100 * (5 + 3) / (5 + 2 + 3))


def test_table_plots_and_numbers(tmp_path, dataset, capsys):
    write_results(tmp_path, "bad", dataset, shift=15)
    write_results(tmp_path, "good", dataset, shift=2)
    analyse(["bad:default", "good:default"], [dataset], tmp_path / "out", ("success", "precision"), tmp_path)

    table = capsys.readouterr().out.splitlines()
    columns = "Tracker AUC OP50 OP75 Prec NormPrec AO SR0.50 SR0.75 FPS Sequences"
    assert table[0] == "set, 3 sequences"
    assert table[1].split() == columns.split()
    assert [line.split()[0] for line in table[3:5]] == ["good:default", "bad:default"]
    assert table[3].split()[-2:] == ["10.0", "3/3"]
    assert not any("*" in line for line in table)

    plots = {f"{kind}.{suffix}" for kind in ("success", "precision") for suffix in ("png", "pdf")}
    numbers = {"scores.json", "scores.csv", "scores.tex", "sequences.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == plots | numbers | {"report.html"}
    for kind in ("success", "precision"):
        picture = np.asarray(Image.open(tmp_path / "out" / f"{kind}.png").convert("RGB")).reshape(-1, 3)
        for colour in ([0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]):  # a line for each tracker
            assert (picture == colour).all(axis=1).sum() > 500

    numbers = json.loads((tmp_path / "out" / "scores.json").read_text())
    good = numbers["trackers"]["good:default"]
    assert good["sequences_done"] == good["sequences_expected"] == 3
    assert len(good["curves"]["success_curve"]) == len(numbers["thresholds"]["success_curve"]) == 21
    assert f"{good['scores']['auc']:.1f}" == table[3].split()[1]
    assert set(good["sequences"]) == {"ant", "bee", "cow"}


def test_a_missing_sequence_is_named_and_not_averaged(tmp_path, dataset, capsys):
    output_dir = write_results(tmp_path, "gap", dataset)
    result_path(output_dir, load_dataset(dataset)[1]).unlink()
    scores = analyse(["gap:default"], [dataset], tmp_path / "out", ("success",), tmp_path)[0]
    printed = capsys.readouterr().out
    assert "2/3*" in printed
    assert "gap:default: no result for 1 of 3 sequences: bee" in printed
    assert scores.scores["op50"] == 100
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["trackers"]["gap:default"]["missing"] == ["bee"]


def test_short_and_long_results_are_named(tmp_path, dataset, capsys):
    output_dir = write_results(tmp_path, "odd", dataset)
    sequences = load_dataset(dataset)
    write_result(output_dir, sequences[0], sequences[0].truth[:3], np.zeros(3))
    write_result(output_dir, sequences[2], np.tile(sequences[2].truth, (2, 1)), np.zeros(8))
    scores = analyse(["odd:default"], [dataset], tmp_path / "out", ("success",), tmp_path)[0]
    printed = capsys.readouterr().out
    assert "odd:default: ant: 3 boxes for 6 frames; the rest count as failures" in printed
    assert "odd:default: cow: 8 boxes for 4 frames; the surplus is ignored" in printed
    assert scores.scores["op50"] == pytest.approx(100 * (0.5 + 1 + 1) / 3)


def test_lines_of_lost_frames_are_failures(tmp_path, dataset, capsys):
    """Other trackers write nan or -1 for a frame in which they find nothing."""
    path = result_path(write_results(tmp_path, "lost", dataset), load_dataset(dataset)[1])
    lines = path.read_text().splitlines()
    lines[3:6] = ["nan,nan,nan,nan", "-1 -1 -1 -1", "0\t0\t0\t0"]  # the last repeats the one before it
    path.write_text("\n".join(lines))
    (scores,) = analyse(["lost:default"], [dataset], tmp_path / "out", (), tmp_path)
    assert "lost:default: bee: 2 lost frames (nan or a negative size) count as failures" in capsys.readouterr().out
    row = scores.table.loc["bee"]
    for key in ("op50", "precision", "norm_precision"):
        assert row["score", key] == pytest.approx(70)
    assert scores.scores["ao"] == pytest.approx(100 * (5 + 6 + 3) / (5 + 9 + 3))


def test_frames_that_a_set_leaves_out_are_left_out_of_a_whole_result(tmp_path, dataset):
    """OTB's Tiger1 starts at its sixth frame, and others give boxes of all."""
    sequence = load_dataset(dataset)[1]
    late = dataclasses.replace(sequence, dataset="otb", subfolder="", skip_first=3)
    (tmp_path / "t" / "c").mkdir(parents=True)
    write_boxes(tmp_path / "t" / "c" / "bee.txt", sequence.truth)
    scores = score_tracker(tmp_path, "t", "c", [late])
    assert scores.scores["op75"] == scores.scores["ao"] == 100
    assert scores.notes == ["t:c: bee: the first 3 boxes are of frames that the set leaves out"]


@pytest.mark.parametrize(("count", "share"), [(9, 100), (7, 87.5), (5, None)])
def test_a_result_on_lasot_may_be_one_line_off(tmp_path, count, share):
    boxes = write_sequence(tmp_path / "lasot" / "cat", "cat-1", 8)
    folder = tmp_path / "lasot" / "cat" / "cat-1"
    sequence = Sequence("cat-1", "lasot", folder, folder / "groundtruth.txt")
    write_result(tmp_path / "t" / "c", sequence, np.concatenate((boxes, boxes))[:count], np.zeros(count))
    if share is None:
        with pytest.raises(UserError, match=r"cat-1\.txt: the result has 5 boxes and the ground truth 8"):
            score_tracker(tmp_path, "t", "c", [sequence])
    else:
        scores = score_tracker(tmp_path, "t", "c", [sequence])
        assert scores.scores["op50"] == scores.scores["precision"] == share
        assert f"{count} boxes for 8 frames" in scores.notes[0]


def test_a_baseline_has_no_speed(tmp_path, dataset):
    write_results(tmp_path, "still", dataset)
    assert np.isnan(score(tmp_path, "still", dataset).scores["fps"])


@pytest.mark.parametrize(
    ("line", "message"),
    [("1\t2\t3", "not x, y"), ("1 2 3 x", "not x, y"), ("1e9\t1\t1\t1", "too large")],
)
def test_a_malformed_result_names_file_and_line(tmp_path, dataset, line, message):
    path = result_path(write_results(tmp_path, "bad", dataset), load_dataset(dataset)[1])
    lines = path.read_text().splitlines()
    lines[3] = line
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"bee\.txt, line 4: .*{message}"):
        score(tmp_path, "bad", dataset)


def test_a_malformed_time_file_names_it(tmp_path, dataset):
    path = time_path(write_results(tmp_path, "bad", dataset), load_dataset(dataset)[0])
    path.write_text("0.1\nquick\n")
    with pytest.raises(UserError, match=r"ant_time\.txt does not hold seconds"):
        score(tmp_path, "bad", dataset)


def test_results_of_other_programs_may_lack_times(tmp_path, dataset, capsys):
    output_dir = write_results(tmp_path, "alien", dataset)
    for sequence in load_dataset(dataset):
        time_path(output_dir, sequence).unlink()
        write_boxes(result_path(output_dir, sequence), sequence.truth, separator=" , ", end="\r\n")
    analyse(["alien:default"], [dataset], tmp_path / "out", ("success",), tmp_path)
    assert capsys.readouterr().out.splitlines()[3].split()[-2:] == ["-", "3/3"]
    assert (
        json.loads((tmp_path / "out" / "scores.json").read_text())["trackers"]["alien:default"]["scores"]["fps"] is None
    )


def test_a_tracker_without_results_is_an_error(tmp_path, dataset):
    with pytest.raises(UserError, match=r"no results of absent:default .*tracking/test\.py"):
        score(tmp_path, "absent", dataset)


def test_ground_truth_of_the_first_frame_alone_cannot_be_scored(tmp_path, dataset):
    write_results(tmp_path, "any", dataset)
    sequence = load_dataset(dataset)[0]
    write_boxes(sequence.annotation, sequence.truth[:1])
    with pytest.raises(UserError, match="ant: .* holds the first box only"):
        score(tmp_path, "any", dataset)


def test_all_that_is_wrong_is_named_at_once(tmp_path, dataset):
    output_dir = write_results(tmp_path, "bad", dataset)
    sequences = load_dataset(dataset)
    result_path(output_dir, sequences[0]).write_text("1|2|3|4\n")
    result_path(output_dir, sequences[2]).write_text("")
    with pytest.raises(UserError, match=r"ant\.txt, line 1: '1\|2\|3\|4' is not x, y.*; .*cow\.txt is empty") as error:
        score(tmp_path, "bad", dataset)
    assert "\n" not in str(error.value)


def test_numbers_for_spreadsheets(tmp_path, dataset):
    """Every row has every column; what is missing is a row, too, and no number is made up for it."""
    output_dir = write_results(tmp_path, "odd", dataset)
    write_results(tmp_path, "good", dataset, shift=2)
    sequences = load_dataset(dataset)
    result_path(output_dir, sequences[1]).unlink()
    scores = analyse(["odd:default", "good:default"], [dataset], tmp_path / "out", (), tmp_path)
    with open(tmp_path / "out" / "sequences.csv", newline="") as file:
        rows = {(row["sequence"], row["tracker"]): row for row in csv.DictReader(file)}
    assert len(rows) == 6
    assert rows["bee", "odd:default"] == dict.fromkeys(rows["bee", "odd:default"], "") | {
        "sequence": "bee",
        "tracker": "odd:default",
        "note": "no result",
    }
    assert float(rows["bee", "good:default"]["auc"]) == pytest.approx(
        scores[1].table.loc["bee", ("score", "auc")], abs=1e-4
    )
    with open(tmp_path / "out" / "scores.csv", newline="") as file:
        totals = list(csv.DictReader(file))
    assert [(row["sequences"], row["expected"]) for row in totals] == [("2", "3"), ("3", "3")]
    assert float(totals[1]["ao"]) == pytest.approx(scores[1].scores["ao"], abs=1e-4)


def test_runs_are_shown_or_merged(tmp_path, dataset, capsys):
    """Three runs of one tracker: a row each, or one row with the mean of every score."""
    sequences = load_dataset(dataset)
    for run_id, shift in enumerate((1.0, 4.0, 9.0)):
        folder = run_dir(tmp_path, "three", "default", run_id)
        for sequence in sequences:
            boxes = sequence.truth.copy()
            boxes[1:, 0] += shift
            write_result(folder, sequence, boxes, np.full(len(boxes), 0.1))
    runs = analyse(["three:default:0-2"], [dataset], tmp_path / "out", (), tmp_path)
    assert [run.label for run in runs] == [f"three:default_00{i}" for i in range(3)]
    (merged,) = analyse(["three:default:0-2"], [dataset], tmp_path / "out", (), tmp_path, merge=True)
    for key in ("auc", "op50", "op75", "precision", "norm_precision", "ao", "sr50", "sr75"):
        assert merged.scores[key] == pytest.approx(np.mean([run.scores[key] for run in runs]))
    assert runs[0].scores["auc"] > merged.scores["auc"] > runs[2].scores["auc"]
    assert "three:default (3 runs)" in capsys.readouterr().out

    result_path(run_dir(tmp_path, "three", "default", 1), sequences[2]).unlink()
    (merged,) = analyse(["three:default:0-2"], [dataset], tmp_path / "out", (), tmp_path, merge=True)
    assert merged.missing == ["cow"]
    assert list(merged.table.index) == ["ant", "bee"]
    assert "three:default_001: no result for 1 of 3 sequences: cow" in capsys.readouterr().out


def test_joined_sets_with_the_same_names(tmp_path, dataset, capsys):
    """Two sets hold an `ant`: each is scored against its own ground truth, and both are told apart."""
    for name, count in (("ant", 8), ("dog", 5)):
        write_sequence(tmp_path / "more" / "zoo", name, count, np.round(moving_boxes(count, step=2)))
    other = f"folder:{tmp_path / 'more' / 'zoo'}"
    write_results(tmp_path, "t", dataset)
    write_results(tmp_path, "t", other, shift=500)
    (scores,) = analyse(["t:default"], [dataset, other], tmp_path / "out", (), tmp_path, per_sequence=True)
    printed = capsys.readouterr().out
    assert "set + zoo, 5 sequences" in printed
    assert [line.split()[:3] for line in printed.splitlines() if line.startswith("set ")][1:] == [
        ["set", "set", "3"],
        ["set", "zoo", "2"],
    ]
    assert scores.scores["op50"] == pytest.approx(100 * (3 + 1 / 8 + 1 / 5) / 5)
    names = list(scores.table.index)
    assert len(set(names)) == 5
    assert sum(name.endswith("/ant") for name in names) == 2
    groups = json.loads((tmp_path / "out" / "scores.json").read_text())["trackers"]["t:default"]["groups"]
    assert groups["set set"]["op50"] == 100
    assert groups["set zoo"]["ao"] == 0


def test_other_programs_results_beside_ours(tmp_path, dataset, capsys):
    """Text files in a folder, in the layouts and with the delimiters that others use."""
    write_results(tmp_path, "ours", dataset, shift=1)
    alien, sequences = tmp_path / "alien", load_dataset(dataset)
    write_boxes(alien / "ant.txt", sequences[0].truth, separator=" ")
    write_boxes(alien / "folder" / "bee.txt", sequences[1].truth, separator=";", end="\r\n")
    write_boxes(alien / "cow" / "cow_001.txt", sequences[2].truth)
    (alien / "cow" / "cow_time.txt").write_text("0.5\n" * 4)
    scores = analyse(["ours:default", f"folder:{alien}=Alien"], [dataset], tmp_path / "out", (), tmp_path)
    assert [row.label for row in scores] == ["ours:default", "Alien"]
    assert scores[1].missing == []
    assert scores[1].scores["sr75"] == 100
    assert scores[1].scores["fps"] == pytest.approx(2)
    assert capsys.readouterr().out.splitlines()[3].startswith("Alien")


def test_only_what_filters_leave(tmp_path, dataset, capsys):
    output_dir = write_results(tmp_path, "gap", dataset)
    write_results(tmp_path, "good", dataset)
    result_path(output_dir, load_dataset(dataset)[1]).unlink()
    trackers = ["gap:default", "good:default"]
    scores = analyse(trackers, [dataset], tmp_path / "out", (), tmp_path, filters=["common"])
    assert [len(row.table) for row in scores] == [2, 2]
    assert not any(row.missing for row in scores)
    assert "2 of 3 sequences" in capsys.readouterr().out


def test_labels_are_no_formulas(tmp_path, dataset, capsys):
    """A plot's library takes what stands between dollar signs as a formula, and this one is none."""
    write_results(tmp_path, "a", dataset)
    analyse(["a:default=$x_{$ ü"], [dataset], tmp_path / "out", ("success",), tmp_path)
    assert capsys.readouterr().out.splitlines()[3].startswith("$x_{$ ü")
    assert (tmp_path / "out" / "success.pdf").stat().st_size > 1000
