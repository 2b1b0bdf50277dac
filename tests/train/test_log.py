"""The output of a run: text, numbers, curves, pictures, and what happens when nobody can write it down."""

import io
import json
import logging
import os
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from unittest.mock import Mock, call

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib.train.loader import Batch
from lib.train.log import PANEL, RunLog, draw_sample, panel_figure
from lib.train.losses import Outcome
from lib.train.run import train
from lib.utils.errors import UserError, run_command
from tests.train.tiny_runs import lightning

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


def events(folder):
    reader = EventAccumulator(str(folder / "tensorboard" / "a-b"))
    reader.Reload()
    return reader


def curve(folder, tag):
    return [(point.step, point.value) for point in events(folder).Scalars(tag)]


def test_an_interval_in_text_json_and_curves_before_the_log_is_closed(started, tmp_path, capsys):
    log = started()
    say_interval(log, 3, 50)
    line = (
        "[train: 3, 50 / 100] FPS: 61.2 , Loss/total: 2.50000 , IoU: 0.25000 , grad_norm: 3.00000 , "
        "lr: 1.0e-04 / 1.0e-05 , data: 12% , memory: 2.1 GiB"
    )
    assert (tmp_path / "logs" / "a-b.log").read_text().endswith(f" {line}\n")
    assert capsys.readouterr().out == line + "\n"
    entry = json.loads((tmp_path / "logs" / "a-b.jsonl").read_text())
    assert entry.pop("time").endswith("+00:00")
    place = {"loader": "train", "epoch": 3, "step": 50, "steps": 100, "samples_per_second": 61.23}
    assert entry == place | MEANS | NUMBERS
    assert curve(tmp_path, "train_steps/Loss/total") == [(250, 2.5)]
    assert curve(tmp_path, "train_steps/lr/backbone") == [(250, pytest.approx(1e-5))]


def test_rewinding_takes_back_what_will_be_done_again(started, tmp_path):
    def places():
        lines = map(json.loads, log.numbers.read_text().splitlines())
        return [(line["loader"], line["epoch"], line["step"]) for line in lines]

    log = started()
    for epoch in (1, 2):
        for step in (50, 100):
            say_interval(log, epoch, step)
        say_interval(log, epoch, 100, "val")
    log.curves("val", 2, {"IoU": 0.5})
    os.truncate(log.numbers, log.numbers.stat().st_size - 30)  # as a killed run leaves it
    log = started()
    log.rewind(2, 50, 100)
    kept = [("train", 1, 50), ("train", 1, 100), ("val", 1, 100), ("train", 2, 50)]
    assert places() == kept
    assert "[train: 2, 100 / 100]" in (tmp_path / "logs" / "a-b.log").read_text()
    say_interval(log, 2, 100, means={"IoU": 0.75})
    assert places() == [*kept, ("train", 2, 100)]
    # The curve does not go back. A validation has curves by epoch alone.
    assert curve(tmp_path, "train_steps/IoU") == [(50, 0.25), (100, 0.25), (150, 0.25), (200, 0.75)]
    assert set(events(tmp_path).Tags()["scalars"]) & {"val/IoU", "val_steps/IoU"} == {"val/IoU"}
    log.rewind(1, 100, 100)  # a validation comes again
    assert places() == kept[:2]


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


def test_a_log_that_cannot_be_written_is_one_line(videos, tmp_path, capsys):
    (tmp_path / "logs").write_text("")
    with pytest.raises(SystemExit, match="2"):
        run_command(lambda: train(lightning(videos, tmp_path)))
    assert capsys.readouterr().err == f"error: {tmp_path}/logs: File exists; make room, or choose another place\n"


def test_a_run_that_goes_on_is_one_at_wandb_and_mlflow_until_it_fails(videos, tmp_path, monkeypatch):
    functions = ("set_tracking_uri", "start_run", "log_params", "log_metrics", "end_run")
    wandb, mlflow = SimpleNamespace(init=Mock()), SimpleNamespace(**{name: Mock() for name in functions})
    for name, package in (("wandb", wandb), ("mlflow", mlflow)):
        package.__spec__ = ModuleSpec(name, None, origin="here")
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    wandb.init.return_value.id, mlflow.start_run.return_value.info.run_id = "w1", "m1"

    def run(epochs):
        return lightning(videos, tmp_path, "LOG.TO=[wandb, mlflow]", f"TRAIN.EPOCH={epochs}")

    stats, title = [train(run(1)), train(run(2))], "stark_lightning_X_trt-baseline_rephead_4_lite_search5"
    assert train(run(2)) == stats[1]  # nothing is left to do, and nobody is told
    assert not (tmp_path / "tensorboard").exists()
    monkeypatch.setattr("lib.train.trainer.Trainer.validate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(run(3))
    wandb.init.side_effect = type("Error", (Exception,), {"__module__": "wandb.errors"})("no key\nconfigured.")
    with pytest.raises(UserError, match="^wandb: no key configured: run `wandb login`, or set WANDB_MODE=offline, or"):
        train(run(3))

    begun = [each.kwargs for each in wandb.init.call_args_list[:3]]
    assert [(each["id"], each["name"], each["config"]["TRAIN"]["EPOCH"]) for each in begun] == [
        (None, title, 1),
        ("w1", title, 2),
        ("w1", title, 3),
    ]
    there = wandb.init.return_value
    assert call("train_steps/*", step_metric="step") in there.define_metric.call_args_list
    points = [each.args[0] for each in there.log.call_args_list]
    assert [point["step"] for point in points if "step" in point] == [2, 4, 6]
    assert any("train_steps/lr/backbone" in point for point in points)
    values = [(epoch, each["val"]["IoU"]) for epoch, each in enumerate(stats, 1)]
    assert [(point["epoch"], point["val/IoU"]) for point in points if "val/IoU" in point] == values
    assert there.finish.call_args_list == [call(exit_code=0), call(exit_code=0), call(exit_code=1)]

    again = call(run_id="m1", run_name=None)
    assert mlflow.start_run.call_args_list == [call(run_id=None, run_name=title), again, again]
    mlflow.set_tracking_uri.assert_called_with(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.log_params.assert_called_once()
    assert mlflow.log_params.call_args.args[0]["TRAIN.EPOCH"] == "1"
    points = [(each.kwargs["step"], each.args[0]) for each in mlflow.log_metrics.call_args_list]
    assert [(step, point["val/IoU"]) for step, point in points if "val/IoU" in point] == values
    assert mlflow.end_run.call_args_list == [call("FINISHED"), call("FINISHED"), call("FAILED")]


def batch_of(samples, templates=1, label=1.0):
    """Grey crops: the templates of sample i are 40 + 10 i, its search region 80 + 10 i; they get brighter by a half."""
    grey = torch.arange(samples, dtype=torch.uint8)[:, None, None, None] * 10
    return Batch(
        templates=(40 + grey).expand(templates, samples, 64, 64, 3),
        template_masks=None,
        search=(80 + grey).expand(samples, 128, 128, 3),
        search_mask=None,
        boxes=torch.tensor([[0.25, 0.5, 0.25, 0.25]]).expand(samples, 4),
        labels=torch.full((samples,), label),
        brightness=torch.full((templates + 1, samples), 1.5),
        sources=[[]] * samples,
        failures=[],
    )


def predicting(**what):
    return Outcome(torch.tensor(0.0), {}, **{name: torch.tensor(values) for name, values in what.items()})


def drawn(batch, outcome, number=0):
    """The axes of a sample; title and boxes, xyxy in fractions by colour, of its search region."""
    axes = Figure().subplots(1, len(batch.templates) + 1, squeeze=False)[0]
    draw_sample(axes, batch, outcome, number)
    boxes = {patch.get_edgecolor(): patch.get_bbox().extents.tolist() for patch in axes[-1].patches}
    return axes, axes[-1].get_title(), boxes


GREEN, RED = (0.0, 1.0, 0.0, 1.0), (1.0, 0.0, 0.0, 1.0)


def test_a_picture_shows_crops_boxes_and_masks_where_they_are():
    crossed = predicting(boxes=[[0.875, 0.375, 0.5, -0.125]] * 3)
    axes, title, boxes = drawn(batch_of(3, templates=2), crossed, 1)
    assert [axis.get_title() for axis in axes] == ["template", "dynamic template", "search: IoU 0.00"]
    assert [set(axis.images[0].get_array().flat) for axis in axes] == [{75}, {75}, {135}]
    assert boxes == {GREEN: [0.25, 0.5, 0.5, 0.75], RED: [0.5, 0, 0.875, 0.375]}
    _, title, boxes = drawn(batch_of(1, label=0.0), predicting(scores=[0.7]))
    assert (title, boxes) == ("search, absent: score 0.70", {})
    batch, mask = batch_of(1), torch.zeros(1, 128, 128)
    mask[:, 32:64] = 1
    batch.object_masks = mask
    (_, axis), _, _ = drawn(batch, Outcome(torch.tensor(0.0), {}, masks=mask))
    np.testing.assert_allclose(axis.images[1].get_array()[..., 3], 0.5 * mask[0].numpy())
    (outline,) = axis.collections[0].get_paths()
    np.testing.assert_allclose(outline.get_extents().extents[[1, 3]], [0.25, 0.5], atol=0.01)


@pytest.mark.parametrize(("count", "kind"), [(1, "centre"), (2, "corners")])
def test_a_panel_of_the_first_sixteen_samples_lands_in_tensorboard(count, kind, tmp_path):
    maps = torch.full((count, 6, 16), -9.0)
    maps[0, :, 6] = maps[-1, :, 9] = 5.0
    attention = torch.eye(16)[[3, 8, 0, 0, 0, 0]]
    outcome = Outcome(torch.tensor(0.0), {}, torch.full((6, 4), 0.5), attention=attention, maps=maps)
    axes = panel_figure([(batch_of(6), outcome)] * 3).axes
    assert [axis.get_title() for axis in axes] == ["template", "search: IoU 0.00", "attention", kind] * PANEL
    assert np.argmax(axes[6].images[1].get_array()) == 8
    shown = np.asarray(axes[3].images[1].get_array()).ravel()
    assert np.flatnonzero(shown > 0.5).tolist() == [6, 9]
    log = RunLog(tmp_path, "a-b")
    log.pictures("val", 7, [(batch_of(6), outcome)] * 3)
    log.close()
    (event,) = events(tmp_path).Images("val/samples")
    assert (event.step, PANEL) == (7, 16)
    assert Image.open(io.BytesIO(event.encoded_image_string)).width > 1000
