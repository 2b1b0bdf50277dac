"""Running trackers over test sets, in one process and in several: what is written, kept and shown."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.config import load_config
from lib.data.registry import load_dataset
from lib.test.evaluation import running
from lib.test.evaluation.overlays import Overlays, overlays_for
from lib.test.evaluation.running import Rank, evaluate_tracker, run_sequences, spread_devices
from lib.test.evaluation.sequences import SequenceResult, track_in_workers
from lib.test.tracker.classic import StillTracker
from lib.test.video import output as video
from lib.test.video.output import SURE, TRUTH, VIDEO
from lib.test.video.source import open_source
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.data.made_sets import SIZE, ScriptedTracker, moving_boxes, write_sequence
from tests.processes import is_running, wait_until
from tests.test.evaluation.worker_run import LENGTHS, DiaryTracker, blocked_signals, make_set
from tests.test.test_video import FakeWindow


@pytest.fixture
def sequences(tmp_path: Path) -> list:
    return make_set(tmp_path / "set", {"ant": 6, "bee": 10, "cow": 3})


@pytest.fixture
def root(tmp_path: Path, sequences: list) -> Path:
    return tmp_path / "set"


@pytest.fixture
def run(sequences: list, tmp_path: Path):
    """Run a scripted tracker into `out`; gives the report, and the frames that the tracker got."""

    def run(move=lambda _, box: box, sequences=sequences, **options):
        tracker = ScriptedTracker(sequences, move)
        return run_sequences(lambda _: tracker, sequences, tmp_path / "out", **options), tracker.frames

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def whole(*names: str) -> set[str]:
    return {f"{name}{end}.txt" for name in names for end in ("", "_time")}


def names(outcomes: list[SequenceResult]) -> list[str]:
    return [outcome.name for outcome in outcomes]


def test_results_are_written_as_published_and_the_summary_counts_frames(run, sequences, tmp_path, capsys):
    report, frames = run(lambda _, box: box + 100)
    assert names(report.tracked) == ["bee", "ant", "cow"]  # the longest first
    assert frames == [*range(10), *range(6), *range(3)]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"\[1/3\] bee: 10 frames, \d+\.\d FPS, 0:00:0\d left", lines[0])
    folder = tmp_path / "out" / sequences[0].subfolder
    rows = (folder / "bee.txt").read_text().splitlines()
    assert rows[:2] == ["10\t31\t20\t16", "113\t132\t120\t116"]  # the given box; fractions are cut off
    seconds = [float(line) for line in (folder / "bee_time.txt").read_text().splitlines()]
    assert (len(rows), len(seconds), min(seconds) >= 0) == (10, 10, True)
    assert files(tmp_path / "out") == whole("ant", "bee", "cow")
    assert all(0 < each.track_seconds < each.end - each.begin for each in report.tracked)
    report.tracked = [SequenceResult("a", "", "", 11, 0.1, 5.0, 5.4), SequenceResult("b", "", "", 7, 0.1, 5.0, 5.4)]
    assert str(report) == "2 tracked, 0 finished before, 0 failed; 80.0 FPS in the tracker, 20.0 FPS with reading"
    report.processes = 2
    assert str(report).endswith("20.0 FPS with reading in each process; 40.0 frames a second in 2 processes")


def test_a_second_run_keeps_what_is_finished_and_is_of_the_same_data(run, root, sequences, tmp_path, capsys):
    run()
    folder = tmp_path / "out" / sequences[0].subfolder
    (folder / "bee.txt").unlink()  # as a run leaves it that was stopped between the two files
    for name in (".bee.abcd1234.txt", ".bee_time.abcd_234.txt", ".ant.b.abcd1234.txt", ".cat.abcd1234.txt"):
        (folder / name).touch()
    before = (folder / "ant.txt").stat().st_mtime_ns
    report, frames = run()
    assert (names(report.tracked), report.kept) == (["bee"], ["ant", "cow"])
    assert len(frames) == 10
    assert {name for name in files(folder) if name.startswith(".")} == {".ant.b.abcd1234.txt", ".cat.abcd1234.txt"}
    assert (folder / "ant.txt").stat().st_mtime_ns == before
    capsys.readouterr()
    report = run_sequences(lambda _: pytest.fail("nothing is left to track"), sequences, tmp_path / "out")
    assert sorted(report.kept) == ["ant", "bee", "cow"]
    assert capsys.readouterr().out == "3 sequences have results from before and are skipped\n"
    write_sequence(root, "ant", 8)
    write_sequence(root, "cow", 3, moving_boxes(3) + 40)
    report, _ = run(sequences=load_dataset(f"folder:{root}"))
    assert (report.kept, names(report.failed)) == (["bee"], ["ant", "cow"])
    assert "cow.txt is of other data than " in report.failed[1].reason


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, float("nan"), 4], [1, 2, -3, 4], "none"])
def test_what_is_not_a_box_is_not_written(run, sequences, tmp_path, box):
    report, _ = run(lambda *_: box, sequences[:1])
    assert "ValueError" in report.failed[0].reason
    assert files(tmp_path / "out") == {"failures.log"}


@pytest.mark.parametrize("debug", ["0", "1"])
def test_a_name_that_is_not_utf8_ends_no_evaluation(root, tmp_path, run_script, capsys, debug):
    shutil.copytree(root / "ant", root / os.fsdecode(b"caf\xe9"))
    arguments = ["--dataset", f"folder:{root}", "--results_dir", str(tmp_path), "--debug", debug]
    assert run_script("test.py", "still", "none", *arguments) == 0
    printed = capsys.readouterr().out
    assert re.search("4 tracked, 0 finished .* 0 failed", printed)
    assert "[3/4] caf\\udce9: " in printed


def test_the_commands_from_frames_to_table(root, tmp_path, monkeypatch, run_script, capsys):
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    monkeypatch.setenv("STARK_DATA_DIR", str(tmp_path))
    results, test = tmp_path / "test" / "tracking_results" / "still", ["test.py", "still", "none"]
    (root / "ant" / "00000004.jpg").write_bytes(b"not an image")
    (root / "bee" / "groundtruth.txt").write_text("1,2,3\n")
    assert run_script(*test, "--dataset_name", f"folder:{root}") == 1
    printed = capsys.readouterr().out
    assert "1 tracked, 0 finished before, 2 failed" in printed
    assert "failed: bee, ant; see" in printed or "failed: ant, bee; see" in printed
    log = (results / "none" / "failures.log").read_text()
    assert "groundtruth.txt, line 1" in log
    assert "00000004.jpg" in log
    assert files(results / "none") == {"cow.txt", "cow_time.txt", "run.json", "failures.log"}

    write_sequence(root, "bee", 10)
    more = ["--sequence", "1,cow", "--runid", "3", "--threads", "2", "--debug", "2"]
    assert run_script(*test, "--dataset", f"folder:{root}", *more) == 0
    assert {"bee.txt", "cow.txt"} <= files(results / "none_003")
    assert "ant.txt" not in files(results / "none_003")
    assert len(list((results / "none_003").glob("debug/*/bee/*.jpg"))) == 10
    assert "frames a second in 2 processes" in capsys.readouterr().out

    arguments = ["--trackers", "still:none:3", "--dataset_name", f"folder:{root}"]
    assert run_script("analysis_results.py", *arguments) == 0
    assert "no result for 1 of 3 sequences: ant" in capsys.readouterr().out
    (output,) = (tmp_path / "test" / "result_plots").iterdir()
    assert {"success.png", "precision.png", "scores.json"} <= files(output)
    assert run_script(*test) == 2
    assert capsys.readouterr().err.startswith("error: test set otb: folder not found")


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


def test_processes_are_dealt_out_over_the_gpus(monkeypatch, capsys):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Rank.from_environment() == Rank()
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert (rank := Rank.from_environment()) == Rank(5, 8, 1, 4)
    for value in ("8", "two", "-1"):
        monkeypatch.setenv("RANK", value)
        with pytest.raises(UserError, match=f"RANK={value}, WORLD_SIZE=8, .*: expected whole numbers, and RANK from 0"):
            Rank.from_environment()
    monkeypatch.setattr(running, "available_devices", lambda: ["cuda:0", "cuda:1", "cuda:2", "cpu"])
    assert spread_devices("auto", 4, None) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert spread_devices("auto", 3, 2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert spread_devices("auto", 0, 8) == ["cuda:0"]
    assert capsys.readouterr().out == "--num_gpus 8: this machine has 3, which are used\n"
    for threads, gpus in ((2, 0), (-1, None)):
        with pytest.raises(UserError, match=f"--threads {threads}, --num_gpus {gpus}: expected"):
            spread_devices("auto", threads, gpus)
    assert spread_devices("auto", 2, None, rank) == ["cuda:2", "cuda:0"]
    assert spread_devices("cuda:1", 2, None) == ["cuda:1", "cuda:1"]
    assert spread_devices("auto", 2, None, engine="onnx") == ["auto", "auto"]
    assert spread_devices("auto", 2, 2, engine="onnx") == ["cuda:0", "cuda:1"]
    monkeypatch.setattr(running, "available_devices", lambda: ["cpu"])
    assert spread_devices("auto", 2, 8) == ["auto", "auto"]


def near(image: np.ndarray, x: float, y: float, color: tuple[int, int, int]) -> bool:
    """Whether a pixel about (x, y) has a colour, but for what compression does to a thin line."""
    patch = image[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].astype(int)
    return bool((np.abs(patch - color).max(axis=2) < 110).any())


def test_videos_and_pictures_show_both_boxes_and_a_failure_leaves_its_video(run, sequences, tmp_path):
    def move(index, box):
        if index == 5:
            raise RuntimeError("lost my way")
        return box + 20

    run(sequences=sequences[1:2])
    result, folder = (tmp_path / "out" / place / sequences[1].subfolder for place in ("", "debug"))
    before = (result / "bee.txt").read_bytes()
    (folder / "cow").mkdir(parents=True)
    (folder / "cow" / ".00000009.abcd1234.jpg").touch()  # of a run that was killed
    (folder / "cow" / "mine.txt").touch()
    report, _ = run(move, overlays=Overlays(tmp_path / "out", pictures=True))
    assert (names(report.failed), names(report.tracked)) == (["bee", "ant"], ["cow"])
    assert (result / "bee.txt").read_bytes() == before
    assert files(folder / "cow") == {"mine.txt", VIDEO, *(f"{number:08d}.jpg" for number in (1, 2, 3))}
    frames = list(open_source(str(folder / "bee" / VIDEO)).frames)
    assert len(frames) == 5
    picture = cv2.cvtColor(cv2.imread(str(folder / "bee" / "00000003.jpg")), cv2.COLOR_BGR2RGB)
    assert picture.shape == (*SIZE, 3)
    for image in (picture, frames[2]):
        x, y, w, h = sequences[1].truth[2]
        assert near(image, x + w / 2, y + h, TRUTH)
        assert near(image, x + 20 + (w + 20) / 2, y + 20 + h + 20, SURE)
    # What is finished and drawn stays; pictures that are missing are drawn.
    run(overlays=Overlays(tmp_path / "out"))
    assert run(overlays=Overlays(tmp_path / "out"))[0].kept == ["bee", "ant", "cow"]
    (folder / "ant" / "00000001.jpg").unlink()
    assert names(run(overlays=Overlays(tmp_path / "out", pictures=True))[0].tracked) == ["ant"]


def test_a_window_shows_every_frame_and_q_ends_the_run(run, tmp_path):
    overlays = Overlays(tmp_path / "out", window=FakeWindow([*[""] * 35, "q"]))
    run(overlays=overlays)
    assert len(overlays.window.shown) == 19
    assert not (tmp_path / "out" / "debug").exists()
    with pytest.raises(KeyboardInterrupt):
        run(overlays=overlays)


def test_debug_levels(monkeypatch, tmp_path, capsys):
    window, closed = FakeWindow(), []
    window.close = lambda: closed.append(1)
    monkeypatch.setattr(video, "Window", lambda: window)
    for obstacle, debug, alone, expected in (
        (None, 0, True, None),
        (None, 1, True, Overlays(tmp_path, window=window)),
        (None, 1, False, Overlays(tmp_path)),
        (None, 2, True, Overlays(tmp_path, pictures=True)),
        ("there is no display", 1, True, Overlays(tmp_path)),
    ):
        monkeypatch.setattr(video, "missing_display", lambda obstacle=obstacle: obstacle)
        with overlays_for(debug, tmp_path, alone) as overlays:
            assert overlays == expected
    assert closed
    assert "no window: several processes track; overlays go to" in capsys.readouterr().out


@pytest.fixture
def videos(tmp_path: Path) -> list:
    return make_set(tmp_path / "videos", LENGTHS)


@pytest.fixture
def tracker(tmp_path: Path) -> partial:
    return partial(DiaryTracker, tmp_path / "diary.txt")


def test_workers_take_the_longest_first_and_make_their_tracker_once(videos, tracker, tmp_path):
    report = run_sequences(tracker(), videos, tmp_path / "out", ["one", "two"])
    assert set(names(report.tracked)) == set("abcdef")
    assert files(tmp_path / "out") == whole(*"abcdef")
    made, started = dict(tracker().entries("make")), tracker().entries("start")
    assert set(made) == {"one", "two"}  # a device each
    assert {pid for _, pid in started} <= set(made.values()) - {os.getpid()}
    for worker in made.values():
        order = [name for name, pid in started if pid == worker]
        assert order == sorted(order, key=LENGTHS.get, reverse=True)
    run_sequences(tracker(), videos, tmp_path / "here")
    for path in (tmp_path / "out").rglob("[a-f].txt"):
        assert path.read_bytes() == (tmp_path / "here" / videos[0].subfolder / path.name).read_bytes()


def test_a_worker_that_dies_and_a_sequence_that_fails_leave_the_others_alone(videos, tracker, tmp_path):
    report = run_sequences(tracker(raising="f", dying="bd"), videos, tmp_path / "out", ["cpu"] * 2)
    assert set(names(report.tracked)) == set("ace")
    died = "the worker process on cpu died while tracking it, perhaps because memory ran out"
    reasons = {outcome.name: outcome.reason for outcome in report.failed}
    assert reasons == {"b": died, "d": died, "f": "RuntimeError: lost my way"}
    assert files(tmp_path / "out") == whole(*"ace") | {"failures.log"}
    log = report.log.read_text()
    assert "in track" in log
    assert f"b: failed: {died}" in log
    report = run_sequences(tracker(), videos, tmp_path / "out", ["cpu"] * 2)
    assert (set(names(report.tracked)), set(report.kept)) == (set("bdf"), set("ace"))


@pytest.mark.parametrize(("making", "processes"), [("refuses", 1), ("refuses", 2), ("dies", 2)])
def test_without_a_tracker_the_run_ends_and_says_why(videos, tracker, tmp_path, making, processes):
    died = "worker process on cpu died making its tracker; give fewer --threads"
    with pytest.raises(UserError, match=died if making == "dies" else "no such weights"):
        run_sequences(tracker(making=making), videos, tmp_path / "out", ["cpu"] * processes)
    assert files(tmp_path / "out") == set()


def test_ctrl_c_does_not_reach_workers_not_even_while_they_start(videos, tracker):
    outcomes = track_in_workers(tracker(), ["cpu"], blocked_signals, videos[:1], threads=1)
    assert [outcome.reason for outcome in outcomes] == ["SIGINT"]


@pytest.mark.parametrize(
    ("number", "status", "processes"),
    [(signal.SIGINT, 130, 1), (signal.SIGINT, 130, 2), (signal.SIGTERM, -15, 2), (signal.SIGKILL, -9, 2)],
)
def test_a_run_that_is_ended_leaves_no_worker_and_no_half_file_and_continues(
    videos, tracker, tmp_path, number, status, processes
):
    place = [str(tmp_path / name) for name in ("videos", "out", "diary.txt")]
    command = [sys.executable, "-m", "tests.test.evaluation.worker_run", *place, str(processes), "df"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert wait_until(lambda: len(tracker().entries("wait")) == processes)
        # Ctrl-C goes to the whole group.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        assert process.wait(180) == status
        assert "Traceback" not in process.stderr.read()
        workers = {pid for _, pid in tracker().entries("start")}
        assert wait_until(lambda: not any(map(is_running, workers)))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    finished = "bc"[:processes]
    assert files(tmp_path / "out") == whole(*finished)
    half = tmp_path / "out" / videos[0].subfolder / ".d_time.abcd1234.txt"  # as a kill leaves it while writing
    half.write_text("0.1")
    report = run_sequences(tracker(), videos, tmp_path / "out")
    assert set(report.kept) == set(finished)
    assert files(tmp_path / "out") == whole(*"abcdef")


def test_ranks_have_shares(videos, tracker, tmp_path, capsys):
    first, second = (
        run_sequences(tracker(raising="b"), videos, tmp_path / "out", rank=Rank(index, 2)) for index in range(2)
    )
    assert [names(each) for each in (first.tracked, first.failed, second.tracked)] == [["c", "a"], ["b"], [*"dfe"]]
    assert first.status == second.status == 0  # torchrun would end the others with the first
    printed = [line.split(" ", 3)[:3] for line in capsys.readouterr().out.splitlines()]
    assert printed == [["rank", f"{index}:", f"[{number}/3]"] for index in (0, 1) for number in (1, 2, 3)]
    assert files(tmp_path / "out") == whole(*"acdef") | {"failures_rank0.log"}
