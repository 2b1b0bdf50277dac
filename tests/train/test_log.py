"""What a run says of itself, and what happens when nobody can write it down."""

import json
import logging
import os
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib.train.log import RunLog
from lib.utils.errors import UserError

NUMBERS = {"lr": {"rest": 1e-4, "backbone": 1e-5}, "data_wait": 0.12, "memory_mib": 2150.0}
MEANS = {"Loss/total": 2.5, "IoU": 0.25, "grad_norm": 3.0}


@pytest.fixture
def started(tmp_path):
    """Starts logs in one folder, as a run that is begun again and again; the last is closed at the end."""
    logs = []

    def start():
        for log in logs:
            log.close()
        logs.append(RunLog(tmp_path, "a-b"))
        return logs[-1]

    yield start
    for log in logs:
        log.close()


def say_interval(log, epoch, step, loader="train", steps=100, means=MEANS):
    log.interval(loader, epoch, step, steps, {"samples_per_second": 61.23, **means, **NUMBERS})


def json_lines(folder):
    return [json.loads(line) for line in (folder / "logs" / "a-b.jsonl").read_text().splitlines()]


def places(folder):
    return [(line["loader"], line["epoch"], line["step"]) for line in json_lines(folder)]


def curves(folder):
    reader = EventAccumulator(str(folder / "tensorboard" / "a-b"))
    reader.Reload()
    return {tag: [(p.step, p.value) for p in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_an_interval_in_text_json_and_curves_before_the_log_is_closed(started, tmp_path, capsys):
    log = started()
    say_interval(log, 3, 50)
    line = (
        "[train: 3, 50 / 100] FPS: 61.2 , Loss/total: 2.50000 , IoU: 0.25000 , grad_norm: 3.00000 , "
        "lr: 1.0e-04 / 1.0e-05 , data: 12% , memory: 2.1 GiB"
    )
    assert (tmp_path / "logs" / "a-b.log").read_text().endswith(f" {line}\n")
    assert capsys.readouterr().out == line + "\n"

    (entry,) = json_lines(tmp_path)
    assert entry.pop("time").endswith("+00:00")
    place = {"loader": "train", "epoch": 3, "step": 50, "steps": 100, "samples_per_second": 61.23}
    assert entry == place | MEANS | NUMBERS
    assert list(entry)[:5] == list(place)

    drawn = curves(tmp_path)
    assert drawn["train_steps/Loss/total"] == [(250, 2.5)]
    assert drawn["train_steps/lr/backbone"] == [(250, pytest.approx(1e-5))]
    assert drawn["train_steps/samples_per_second"] == [(250, pytest.approx(61.23))]


def test_a_validation_has_curves_by_epoch_alone_and_their_folder_can_be_chosen(tmp_path):
    log = RunLog(tmp_path / "run", "a-b", events=tmp_path / "tensorboard")
    say_interval(log, 3, 100, "val")
    log.curves("val", 3, {"IoU": 0.5})
    log.close()
    assert curves(tmp_path) == {"val/IoU": [(3, 0.5)]}
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_rewinding_takes_back_what_will_be_done_again(started, tmp_path):
    log = started()
    for epoch in (1, 2):
        for step in (50, 100):
            say_interval(log, epoch, step)
        say_interval(log, epoch, 100, "val")
    path = tmp_path / "logs" / "a-b.jsonl"
    os.truncate(path, path.stat().st_size - 30)  # as a killed run leaves it
    log = started()
    log.rewind(2, 50, 100)
    kept = [("train", 1, 50), ("train", 1, 100), ("val", 1, 100), ("train", 2, 50)]
    assert places(tmp_path) == kept
    assert "[train: 2, 100 / 100]" in (tmp_path / "logs" / "a-b.log").read_text()

    say_interval(log, 2, 100, means={"IoU": 0.75})
    assert places(tmp_path) == [*kept, ("train", 2, 100)]
    # The curve does not go back.
    assert curves(tmp_path)["train_steps/IoU"] == [(50, 0.25), (100, 0.25), (150, 0.25), (200, 0.75)]
    log.rewind(1, 100, 100)  # a validation comes again
    assert places(tmp_path) == kept[:2]
    log.rewind(1, 0, 100)
    assert places(tmp_path) == []


def test_warnings_and_news_are_written_while_the_log_is_open(started, tmp_path, capsys):
    log, ours = started(), logging.getLogger("lib.train.loader")
    logging.getLogger("library").info("noise")
    ours.debug("noise")
    ours.warning("something of ours")
    ours.info("news")
    log.close()
    ours.info("too late")
    said = ["something of ours", "news"]
    assert capsys.readouterr().out.splitlines() == said
    written = (tmp_path / "logs" / "a-b.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in written] == said
    assert logging.getLogger("lib").handlers == []


def test_other_ranks_write_nothing(tmp_path, capsys):
    log = RunLog(tmp_path, "a-b", active=False)
    with log.bar(3, 0, "train 1") as bar:
        bar.update()
    say_interval(log, 1, 1)
    log.curves("val", 1, MEANS)
    log.pictures("val", 1, [])
    log.rewind(1, 0, 100)
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("lib").handlers == []


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the log .*file.*; choose another --save_dir"):
        RunLog(tmp_path / "file", "a-b")
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(UserError, match=r"cannot write the log .*tensorboard"):
        RunLog(tmp_path, "a-b")
    assert logging.getLogger("lib").handlers == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_closed_terminal_does_not_end_the_run_and_a_full_disk_does(started, tmp_path, monkeypatch):
    log = started()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115 - closing it would fail
        logging.getLogger("lib").info("one")
    assert (tmp_path / "logs" / "a-b.log").read_text().endswith(" one\n")
    log.numbers.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        say_interval(log, 1, 1)
