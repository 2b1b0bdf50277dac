"""From result files to table, plots and numbers; what is missing or wrong is named."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.analysis.metrics import box_overlap, frame_errors, scoring_rule
from lib.test.analysis.report import analyse
from lib.test.analysis.scores import counted_overlaps, score_source
from lib.test.analysis.selection import parse_trackers
from lib.test.evaluation.result_files import result_path, run_dir, time_path, write_result
from lib.utils.errors import UserError
from tests.data.made_sets import moving_boxes, score_tracker, write_boxes, write_results, write_sequence


@pytest.fixture
def sequences(tmp_path: Path) -> list[Sequence]:
    """Of 6, 10 and 4 frames."""
    for name, count in (("ant", 6), ("bee", 10), ("cow", 4)):
        write_sequence(tmp_path / "set", name, count, np.round(moving_boxes(count)))
    return load_dataset(f"folder:{tmp_path / 'set'}")


@pytest.fixture
def evaluate(tmp_path, sequences):
    """The analysis of trackers on the set, with files in `out`."""

    def run(*trackers: str, plots=(), datasets=(f"folder:{tmp_path / 'set'}",), **options):
        return analyse(trackers, datasets, tmp_path / "out", plots, tmp_path, **options)

    return run


@pytest.fixture
def folder(tmp_path, sequences) -> Path:
    """Perfect results of `t:c`."""
    write_results(tmp_path / "t" / "c", sequences)
    return tmp_path / "t" / "c"


def read_scores(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "scores.json").read_text())["trackers"]


def test_scores_of_a_known_shift(tmp_path, sequences):
    """10 px of about 20: overlap a third in all frames but the first."""
    for sequence in sequences:
        write_boxes(sequence.annotation, np.tile([10.0, 10, 20, 20], (len(sequence.frames), 1)))
    write_results(tmp_path / "t" / "c", sequences, shift=10, seconds=0.02)
    scores = score_tracker(tmp_path, "t", "c", sequences).scores
    first_frames = np.mean([1 / 6, 1 / 10, 1 / 4])  # a mean over sequences, not over frames
    assert scores["op50"] == pytest.approx(100 * first_frames)
    assert scores["auc"] == pytest.approx(100 * (7 / 21 + 13 / 21 * first_frames))
    assert scores["precision"] == 100
    assert scores["ao"] == pytest.approx(100 / 3)  # without first frames
    assert scores["sr50"] == 0
    assert scores["fps"] == pytest.approx(50)  # without the initialisation
    write_results(tmp_path / "still" / "c", sequences)
    assert np.isnan(score_tracker(tmp_path, "still", "c", sequences).scores["fps"])  # it computes nothing


def test_tables_plots_and_numbers(tmp_path, sequences, evaluate, capsys):
    for name, shift in (("bad_a", 15), ("good&b", 2)):
        write_results(tmp_path / name / "c", sequences, shift)
    evaluate("bad_a:c", "good&b:c", plots=("success",), latex=True)
    table, out = capsys.readouterr().out.splitlines(), tmp_path / "out"
    assert table[0] == "set, 3 sequences"
    assert " ".join(table[1].split()) == "Tracker AUC OP50 OP75 Prec NormPrec AO SR0.50 SR0.75 FPS Sequences"
    assert [line.split()[0] for line in table[3:5]] == ["good&b:c", "bad_a:c"]
    assert table[3].split()[-2:] == ["10.0", "3/3"]
    numbers = {"scores.json", "scores.csv", "scores.tex", "sequences.csv", "sequences.tex", "report.html"}
    assert {path.name for path in out.iterdir()} == {"success.png", "success.pdf"} | numbers
    picture = np.asarray(Image.open(out / "success.png").convert("RGB")).reshape(-1, 3)
    for colour in ([0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]):  # a line for each tracker
        assert (picture == colour).all(axis=1).sum() > 500
    good = read_scores(tmp_path)["good&b:c"]
    assert good["sequences_done"] == good["sequences_expected"] == 3
    assert len(good["curves"]["success_curve"]) == 21
    assert f"{good['scores']['auc']:.1f}" == table[3].split()[1]
    assert set(good["sequences"]) == {"ant", "bee", "cow"}

    lines = (out / "scores.tex").read_text().splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrrrr}"
    rows = [line.removesuffix(r" \\").split(" & ")[:2] for line in lines if ":c" in line]
    assert rows == [[r"good\&b:c", rf"\textbf{{{table[3].split()[1]}}}"], [r"bad\_a:c", table[4].split()[1]]]
    ant = next(line for line in (out / "sequences.tex").read_text().splitlines() if line.startswith("ant"))
    assert ant.count("textbf") == 1  # a row a sequence: bold is the better tracker


def test_what_is_missing_short_or_long_is_named(tmp_path, sequences, folder, evaluate, capsys):
    write_result(folder, sequences[0], sequences[0].truth[:3], np.zeros(3))
    result_path(folder, sequences[1]).unlink()
    write_result(folder, sequences[2], np.tile(sequences[2].truth, (2, 1)), np.zeros(8))
    write_results(tmp_path / "good" / "c", sequences, shift=2)
    scores, good = evaluate("t:c", "good:c")
    printed = capsys.readouterr().out
    assert "2/3*" in printed
    assert "t:c: no result for 1 of 3 sequences: bee" in printed
    assert "t:c: ant: 3 boxes for 6 frames; the rest count as failures" in printed
    assert "t:c: cow: 8 boxes for 4 frames; the surplus is ignored" in printed
    assert scores.scores["op50"] == pytest.approx(100 * (0.5 + 1) / 2)
    assert read_scores(tmp_path)["t:c"]["missing"] == ["bee"]
    # For spreadsheets: what is missing is a row, too, and no number is made up for it.
    rows = pandas.read_csv(tmp_path / "out" / "sequences.csv", index_col=["sequence", "tracker"])
    assert len(rows) == 6
    assert rows.loc["bee", "t:c"].isna().all()
    assert rows.loc[("bee", "good:c"), "auc"] == pytest.approx(good.table.loc["bee", ("score", "auc")], abs=1e-4)
    totals = pandas.read_csv(tmp_path / "out" / "scores.csv")
    assert totals[["sequences", "expected"]].to_numpy().tolist() == [[2, 3], [3, 3]]
    assert totals["ao"][1] == pytest.approx(good.scores["ao"], abs=1e-4)
    common = evaluate("t:c", "good:c", filters=["common"])
    assert [(len(row.table), row.missing) for row in common] == [(2, []), (2, [])]
    assert "2 of 3 sequences" in capsys.readouterr().out


def test_lines_of_lost_frames_are_failures_and_those_that_a_set_leaves_out_are_left_out(tmp_path, sequences, folder):
    """Other trackers write nan or -1 for a frame in which they find nothing, and boxes of all of OTB's Tiger1."""
    path = result_path(folder, sequences[1])
    lines = path.read_text().splitlines()
    lines[3:6] = ["nan,nan,nan,nan", "-1 -1 -1 -1", "0\t0\t0\t0"]  # the last repeats the one before it
    path.write_text("\n".join(lines))
    scores = score_tracker(tmp_path, "t", "c", sequences)
    assert scores.notes == ["t:c: bee: 2 lost frames (nan or a negative size) count as failures"]
    for key in ("op50", "precision", "norm_precision"):
        assert scores.table.loc["bee", ("score", key)] == pytest.approx(70)
    assert scores.scores["ao"] == pytest.approx(100 * (5 + 6 + 3) / (5 + 9 + 3))
    late = dataclasses.replace(sequences[1], dataset="otb", subfolder="", skip_first=3)
    write_boxes(folder / "bee.txt", sequences[1].truth)
    scores = score_tracker(tmp_path, "t", "c", [late])
    assert scores.scores["op75"] == scores.scores["ao"] == 100
    assert scores.notes == ["t:c: bee: the first 3 boxes are of frames that the set leaves out"]


def test_a_result_on_lasot_may_be_one_line_off(tmp_path, sequences):
    sequence = dataclasses.replace(sequences[0], dataset="lasot")
    boxes = np.concatenate((sequence.truth, sequence.truth))
    for count, share in ((7, 100), (5, 500 / 6)):
        write_result(tmp_path / "t" / "c", sequence, boxes[:count], np.zeros(count))
        scores = score_tracker(tmp_path, "t", "c", [sequence])
        assert scores.scores["op50"] == scores.scores["precision"] == pytest.approx(share)
        assert f"{count} boxes for 6 frames" in scores.notes[0]
    write_result(tmp_path / "t" / "c", sequence, boxes[:4], np.zeros(4))
    with pytest.raises(UserError, match=r"ant\.txt: the result has 4 boxes and the ground truth 6"):
        score_tracker(tmp_path, "t", "c", [sequence])


def test_what_cannot_be_scored(tmp_path, sequences, folder):
    for path, text, message in (
        (folder / "none", "", r"no results of absent:c.*ant\.txt; run tracking/test\.py"),
        (time_path(folder, sequences[1]), "0.1\nquick\n", r"bee_time\.txt does not hold seconds"),
        (result_path(folder, sequences[0]), "1|2|3|4\n", r"ant\.txt, line 1: '1\|2\|3\|4' is not x, y.*; .*bee_time"),
        (sequences[0].annotation, "10,30,20,16", "ant: .* holds the first box only"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            score_tracker(tmp_path, "t" if text else "absent", "c", load_dataset(f"folder:{tmp_path / 'set'}"))


def test_runs_are_shown_or_merged(tmp_path, sequences, evaluate, capsys):
    """Three runs of one tracker: a row each, or one row with the mean of every score."""
    for run_id, shift in enumerate((1.0, 4.0, 9.0)):
        write_results(run_dir(tmp_path, "three", "c", run_id), sequences, shift)
    runs, (merged,) = evaluate("three:c:0-2"), evaluate("three:c:0-2", merge=True)
    assert [run.label for run in runs] == [f"three:c_00{i}" for i in range(3)]
    for key in ("auc", "op50", "op75", "precision", "norm_precision", "ao", "sr50", "sr75"):
        assert merged.scores[key] == pytest.approx(np.mean([run.scores[key] for run in runs]))
    assert "three:c (3 runs)" in capsys.readouterr().out
    result_path(run_dir(tmp_path, "three", "c", 1), sequences[2]).unlink()
    (merged,) = evaluate("three:c:0-2", merge=True)
    assert merged.missing == ["cow"]
    assert list(merged.table.index) == ["ant", "bee"]
    assert "three:c_001: no result for 1 of 3 sequences: cow" in capsys.readouterr().out


def test_joined_sets_with_the_same_names(tmp_path, folder, evaluate, capsys):
    """Two sets hold an `ant`: each is scored against its own ground truth, and both are told apart."""
    for name, count in (("ant", 8), ("dog", 5)):
        write_sequence(tmp_path / "more" / "zoo", name, count, np.round(moving_boxes(count, step=2)))
    sets = f"folder:{tmp_path / 'set'}", f"folder:{tmp_path / 'more' / 'zoo'}"
    write_results(folder, load_dataset(sets[1]), shift=500)
    (scores,) = evaluate("t:c", datasets=sets, per_sequence=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "set + zoo, 5 sequences"
    rows = [line.split()[:3] for line in lines[1:] if line.startswith("set ")]
    assert rows == [["set", "set", "(3)"], ["set", "zoo", "(2)"]]
    assert scores.scores["op50"] == pytest.approx(100 * (3 + 1 / 8 + 1 / 5) / 5)
    assert sum(name.endswith("/ant") for name in scores.table.index) == 2
    groups = read_scores(tmp_path)["t:c"]["groups"]
    assert (groups["set set"]["op50"], groups["set zoo"]["ao"]) == (100, 0)


def test_other_programs_results_beside_ours(tmp_path, sequences, evaluate, capsys):
    """Text files in a folder, in the layouts and with the delimiters that others use; a label is never a formula."""
    write_results(tmp_path / "t" / "c", sequences, shift=1)
    alien = tmp_path / "alien"
    write_boxes(alien / "ant.txt", sequences[0].truth, separator=" ")
    write_boxes(alien / "folder" / "bee.txt", sequences[1].truth, separator=" ; ", end="\r\n")
    write_boxes(alien / "cow" / "cow_001.txt", sequences[2].truth)
    ours, other = evaluate("t:c", f"folder:{alien}=$x_{{$ ü", plots=("success",))
    assert (other.label, other.missing, other.scores["sr75"]) == ("$x_{$ ü", [], 100)
    assert capsys.readouterr().out.splitlines()[3].split()[-2:] == ["-", "3/3"]  # nobody took the time
    assert read_scores(tmp_path)[other.label]["scores"]["fps"] is None
    assert (tmp_path / "out" / "success.pdf").stat().st_size > 1000
    (alien / "cow" / "cow_time.txt").write_text("0.5,0.1\n" * 4)  # a column a run
    (source,) = parse_trackers([f"folder:{alien}"], tmp_path)
    assert score_source(source, {"cow": sequences[2]}).scores["fps"] == pytest.approx(2)
    # OTB and TC128 share the names of dozens of sequences.
    names = {"one": sequences[0], "two": dataclasses.replace(sequences[0], dataset="otb", subfolder="")}
    with pytest.raises(UserError, match=r"ant.txt is of one or of two: move it into a folder otb"):
        score_source(source, names)
    write_boxes(alien / "otb" / "ant.txt", sequences[0].truth)
    assert score_source(source, names).missing == []


def test_overlaps_that_count_are_the_toolkits(tmp_path):
    """Boxes that leave a frame of 128x96 on every side."""
    metrics = pytest.importorskip("got10k.utils.metrics", reason="the got10k toolkit is not installed")
    boxes = np.array([[50, 40, 30, 30], [-10, 40, 40, 30], [100, 80, 60, 50], [60, -5, 30, 30], [1, 1, 20, 20.0]])
    prediction = boxes + np.array([[0, 0, 0, 0], *[[-4, 3, 6, 8]] * 4])
    write_sequence(tmp_path, "edge", len(boxes), boxes)

    def overlaps(count: int = 5) -> np.ndarray:
        (sequence,) = load_dataset(f"folder:{tmp_path}")
        errors = frame_errors(prediction[:count], sequence.truth, scoring_rule("folder"))
        return counted_overlaps(sequence, prediction[:count], errors)

    assert overlaps() == pytest.approx(box_overlap(prediction, boxes)[1:])
    (tmp_path / "edge" / "meta_info.ini").write_text("[METAINFO]\nobject_class: cat\nresolution: (128, 96)\n")
    expected = metrics.rect_iou(prediction[1:].copy(), boxes[1:].copy(), bound=(128, 96))
    assert overlaps() == pytest.approx(expected)
    assert not np.allclose(expected[:3], box_overlap(prediction, boxes)[1:4])
    # Unseen frames do not count, which the cover alone says; missing boxes do.
    (tmp_path / "edge" / "absence.label").write_text("0\n1\n0\n0\n0\n")
    (tmp_path / "edge" / "cover.label").write_text("8\n8\n0\n8\n8\n")
    assert overlaps(4) == pytest.approx([expected[0], expected[2], 0])
