"""From result files to table, plots and numbers; what is missing or wrong is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.test.analysis.report import analyse
from lib.test.analysis.results import parse_tracker, score_tracker
from lib.test.evaluation.datasets import load_dataset
from lib.test.evaluation.result_files import result_path, run_dir, time_path, write_result
from lib.test.evaluation.sequence import Sequence
from lib.utils.errors import UserError
from tests.test.made_sets import moving_boxes, write_boxes, write_sequence


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
    analyse(["bad:default", "good:default"], dataset, tmp_path / "out", ("success", "precision"), tmp_path)

    table = capsys.readouterr().out.splitlines()
    columns = "Tracker AUC OP50 OP75 Prec NormPrec AO SR0.50 SR0.75 FPS Sequences"
    assert table[0] == "set, 3 sequences"
    assert table[1].split() == columns.split()
    assert [line.split()[0] for line in table[3:5]] == ["good:default", "bad:default"]
    assert table[3].split()[-2:] == ["10.0", "3/3"]
    assert not any("*" in line for line in table)

    assert {path.name for path in (tmp_path / "out").iterdir()} == {"success.png", "precision.png", "scores.json"}
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
    scores = analyse(["gap:default"], dataset, tmp_path / "out", ("success",), tmp_path)[0]
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
    scores = analyse(["odd:default"], dataset, tmp_path / "out", ("success",), tmp_path)[0]
    printed = capsys.readouterr().out
    assert "odd:default: ant: 3 boxes for 6 frames; the rest count as failures" in printed
    assert "odd:default: cow: 8 boxes for 4 frames; the surplus is ignored" in printed
    assert scores.scores["op50"] == pytest.approx(100 * (0.5 + 1 + 1) / 3)


def test_a_short_result_on_lasot_names_the_file(tmp_path):
    folder = tmp_path / "lasot" / "cat" / "cat-1"
    write_sequence(folder.parent, "cat-1", 8)
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        (folder / name).write_text(",".join("0" * 8) + "\n")
    sequence = Sequence(
        "cat-1",
        "lasot",
        folder,
        folder / "groundtruth.txt",
        hidden_files=(folder / "full_occlusion.txt", folder / "out_of_view.txt"),
    )
    write_result(tmp_path / "t" / "c", sequence, sequence.truth[:5], np.zeros(5))
    with pytest.raises(UserError, match=r"cat-1\.txt: the result has 5 boxes and the ground truth 8"):
        score_tracker(tmp_path, "t", "c", [sequence])


@pytest.mark.parametrize(
    ("line", "message"),
    [("1\t2\t3", "not x, y"), ("1 2 3 x", "not x, y"), ("nan\t1\t1\t1", "nan"), ("1\t1\t-1\t1", "negative")],
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
    analyse(["alien:default"], dataset, tmp_path / "out", ("success",), tmp_path)
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


@pytest.mark.parametrize("text", ["stark_s", "stark_s:", ":baseline", ""])
def test_tracker_names_have_two_parts(text):
    with pytest.raises(UserError, match="tracker:config"):
        parse_tracker(text)
