"""A run that is killed, stopped or broken goes on as if nothing had happened; two runs never share a folder."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import time

import pytest
import torch

from lib.config import load_config
from lib.train.run import train
from lib.train.trainer import Trainer
from lib.utils.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lib.utils.checkpoint_files import epoch_checkpoints
from lib.utils.errors import UserError
from tests.processes import wait_until
from tests.train.tiny_runs import (
    NAME,
    NO_VALIDATION,
    checkpoints_in,
    command,
    complete,
    lightning,
    log_of,
    options,
    several,
    state,
)


class Killed(Exception):  # noqa: N818 - not an error of the run's
    """Stands for the end of the process."""


def train_with_a_break(run, steps, monkeypatch):
    """Let a run end after so many steps, with nothing saved for it, and start it again."""
    count = 0

    def end(self):
        nonlocal count
        count += 1
        if count == steps:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "end_if_asked", end)
        with pytest.raises(Killed):
            train(run)
    train(run)


def final(run, epoch=2, name=NAME):
    return load_checkpoint(run.folder / f"{name}_ep{epoch:04d}.pth.tar")


def assert_equal_runs(a, b):
    """Weights and the optimiser's state are equal bit for bit, and so is what was logged."""
    assert all(torch.equal(value, b["net"][key]) for key, value in a["net"].items())
    states = a["optimizer"]["state"], b["optimizer"]["state"]
    for mine, other in zip(*(s.values() for s in states), strict=True):
        assert all(torch.equal(mine[key], other[key]) for key in mine)
    assert a["scaler"] == b["scaler"]
    assert a["stats"] == b["stats"]


@pytest.mark.parametrize(
    ("script", "name", "killed_after", "more"),
    [
        ("stark_lightning_X_trt", NAME, 7, ("TRAIN.NUM_WORKER=2", "TRAIN.SAVE_EVERY_STEPS=3")),
        ("stark_s", "STARKS", 1, ("TRAIN.BATCH_SIZE=2", "TRAIN.AMP=fp16", "TRAIN.ACCUM_STEPS=2")),
    ],
)
def test_killed_with_dropout_half_precision_and_accumulation(
    script, name, killed_after, more, videos, tmp_path, monkeypatch
):
    make = lightning if name == NAME else functools.partial(options, script)
    more = (NO_VALIDATION, "MODEL.TRANSFORMER.DROPOUT=0.3", "DATA.TRAIN.SAMPLE_PER_EPOCH=16", *more)
    whole, broken = (make(videos, tmp_path / part, *more) for part in "ab")
    train(whole)
    train_with_a_break(broken, killed_after, monkeypatch)
    assert_equal_runs(final(whole, name=name), final(broken, name=name))
    assert name == NAME or final(whole, name=name)["scaler"]["scale"] > 0


def test_accumulated_batches_are_a_larger_batch(videos, tmp_path):
    # With an MLP for a head there is no batch norm that learns, so that all are the same sum.
    more = ("MODEL.TRANSFORMER.DROPOUT=0", "MODEL.HEAD_TYPE=MLP", "TRAIN.EPOCH=1", "DATA.TRAIN.SAMPLE_PER_EPOCH=4")
    means = []
    for size, steps in ((4, 1), (2, 2)):
        sizes = f"TRAIN.BATCH_SIZE={size}", f"TRAIN.ACCUM_STEPS={steps}"
        run = options("stark_s", videos, tmp_path / str(size), NO_VALIDATION, *more, *sizes)
        means.append(train(run)["train"])
    assert means[1]["Loss/total"] == pytest.approx(means[0]["Loss/total"], rel=1e-5)
    assert means[1]["grad_norm"] == pytest.approx(means[0]["grad_norm"], rel=1e-3)


def start(run, *more):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command(run, *more), **pipes, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def wait_for_step(run, process, epoch, step):
    """Return when the run has logged a step."""
    path = log_of(run, "jsonl")

    def reached():
        lines = path.read_text().splitlines() if path.is_file() else []
        assert process.poll() is None, process.communicate()[1][-2000:]
        return any((entry["epoch"], entry["step"]) >= (epoch, step) for entry in map(json.loads, lines[:-1]))

    assert wait_until(reached), "the run does not get on"


def signal_workers(process, number):
    """Send a signal to the processes that make samples for a run."""
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    for child in children.split():
        os.kill(int(child), number)


def long_run(videos, tmp_path, *more):
    often = ("DATA.TRAIN.SAMPLE_PER_EPOCH=48", "TRAIN.NUM_WORKER=1", "TRAIN.PRINT_INTERVAL=1")
    return lightning(videos, tmp_path, NO_VALIDATION, *often, *more)


def stop(run, process, number, processes=1, where="after epoch"):
    """Ask a run to stop, and compare what it saved with what it did."""
    process.send_signal(number)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert f"stopped by signal {int(number)} {where}" in out
    saved = load_checkpoint(run.folder / f"{NAME}_latest.pth.tar")
    last = json.loads(log_of(run, "jsonl").read_text().splitlines()[-1])
    seen = saved["epoch"] * 48 + saved["progress"]["samples"]
    assert seen == (last["epoch"] - 1) * 48 + last["step"] * 4 * processes > 0


def test_a_run_that_is_stopped_and_killed_loses_nothing(videos, tmp_path):
    """The real thing: another process, asked to stop in one epoch, and killed by the system in the next."""
    whole, broken = long_run(videos, tmp_path / "a"), long_run(videos, tmp_path / "b", "TRAIN.SAVE_EVERY_STEPS=4")
    complete(whole)
    unfinished = broken.folder / f"..{NAME}_fresh.pth.abc123.tar"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(b"of a run that was killed while it wrote")
    process = start(broken)
    wait_for_step(broken, process, 1, 2)
    stop(broken, process, signal.SIGINT)
    process = start(broken)
    wait_for_step(broken, process, 2, 3)
    process.kill()
    process.communicate()
    complete(broken)
    assert_equal_runs(final(whole), final(broken))
    assert not unfinished.exists()


def test_three_processes_that_go_on_are_those_that_never_stopped(videos, tmp_path):
    """With three, the order of a sum matters."""
    whole, broken = (long_run(videos, tmp_path / name) for name in "ab")
    complete(whole, *several(3))
    process = start(broken, *several(3))
    wait_for_step(broken, process, 1, 1)
    stop(broken, process, signal.SIGTERM, 3)
    complete(broken, *several(3))
    assert_equal_runs(final(whole), final(broken))
    assert not any(key.startswith("module.") for key in final(whole)["net"])


def test_a_second_run_is_refused_and_a_lost_data_worker_ends_the_run_clearly(videos, tmp_path):
    run = long_run(videos, tmp_path, "TRAIN.EPOCH=200", "TRAIN.SAVE_EVERY_STEPS=1")
    process = start(run)
    wait_for_step(run, process, 1, 2)
    second = subprocess.run(command(run), capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert f"another run writes to {run.folder}: wait for it" in second.stderr
    assert second.stderr.count("\n") == 1
    assert process.poll() is None
    signal_workers(process, signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    assert "makes samples died" in errors
    assert "Traceback" not in errors
    saved = load_checkpoint(run.folder / f"{NAME}_latest.pth.tar")
    assert saved["epoch"] + saved["progress"]["samples"] > 0


def test_a_run_whose_data_worker_hangs_still_stops(videos, tmp_path):
    run, sizes = long_run(videos, tmp_path, "TRAIN.EPOCH=200"), [0]
    process = start(run)
    wait_for_step(run, process, 1, 2)
    signal_workers(process, signal.SIGSTOP)
    while len(sizes) < 2 or sizes[-1] != sizes[-2]:  # what was made before is used up
        time.sleep(3)
        sizes.append(log_of(run, "jsonl").stat().st_size)
    stop(run, process, signal.SIGTERM, where="while its data workers hang")


def test_checkpoints_are_pruned_as_configured(tmp_path):
    def kept(**how):
        folder = checkpoints_in(tmp_path / str(how), **how)
        for epoch in range(1, 21):
            folder.keep_epoch({"net": {"w": torch.zeros(1)}}, epoch)
        return [int(path.name[9:13]) for path in epoch_checkpoints(folder.folder, "STARKS")]

    assert kept() == list(range(11, 21))
    assert kept(EVERY=5, LAST=2) == [5, 10, 15, 19, 20]
    assert kept(EVERY=5, LAST=2, CHECKPOINTS=3) == [15, 19, 20]


def test_a_good_checkpoint_outlives_a_damaged_one_and_a_failed_save(tmp_path, monkeypatch):
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.save(state(1))
    checkpoints.save(state("2"))  # another program's
    checkpoint, path = checkpoints.load()
    assert (checkpoint["epoch"], path) == (1, checkpoints.previous)

    def full_disk(path, checkpoint):
        raise CheckpointError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("lib.train.options.save_checkpoint", full_disk)
        with pytest.raises(CheckpointError, match="full"):
            checkpoints.save(state(3))
    assert checkpoints_in(tmp_path).load()[0]["epoch"] == 1
    checkpoints.save(state(3))
    assert checkpoints.load()[0]["epoch"] == 3
    assert load_checkpoint(checkpoints.previous)["epoch"] == 1
    checkpoints.previous.unlink()
    checkpoints.latest.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="nothing to go on from: .*STARKS_latest.pth.tar is not a checkpoint"):
        checkpoints.load()
    # Checkpoints of others are neither overwritten nor ignored.
    checkpoints.latest.rename(checkpoints.folder / "STARKS_ep0500.pth.tar")
    with pytest.raises(CheckpointError, match="another --save_dir"):
        checkpoints.load()


def test_a_full_disk_leaves_the_last_checkpoint_and_an_epochs_own_is_made_up_for(videos, tmp_path, monkeypatch):
    run = lightning(videos, tmp_path, NO_VALIDATION)

    def full(*_):
        raise OSError(28, "No space left on device")

    original = os.fsync
    train(lightning(videos, tmp_path, NO_VALIDATION, "TRAIN.EPOCH=1"))
    before = sorted(p.name for p in run.folder.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((CheckpointError, OSError), match="No space left"):
        train(run)
    monkeypatch.setattr(os, "fsync", original)
    assert sorted(p.name for p in run.folder.iterdir()) == before
    assert load_checkpoint(run.folder / f"{NAME}_latest.pth.tar")["epoch"] == 1
    train(run)
    assert final(run)["epoch"] == 2
    # As a run leaves it that was killed after the rolling checkpoint of its last epoch, and before the one that stays.
    (run.folder / f"{NAME}_ep0002.pth.tar").unlink()
    (run.folder / f"{NAME}_ep0001_mine.pth.tar").write_bytes(b"a copy of the user's")
    train(run)
    assert final(run)["epoch"] == 2
    assert (run.folder / f"{NAME}_ep0001_mine.pth.tar").read_bytes() == b"a copy of the user's"
    # Values of another program.
    for damage in ({"optimizer": {}}, {"progress": {"samples": 4, "meters": []}}):
        path = run.folder / f"{NAME}_latest.pth.tar"
        save_checkpoint(path, final(run) | damage)
        with pytest.raises(CheckpointError, match=f"{path} is not of a run here"):
            train(run)


def test_a_run_keeps_its_configuration_and_refuses_another(videos, tmp_path):
    run = lightning(videos, tmp_path, NO_VALIDATION, "TRAIN.EPOCH=1")
    train(run)
    settings = final(run, 1)["settings"]
    assert settings["config"]["TRAIN"]["EPOCH"] == 1
    assert settings["commit"]
    assert settings["command"]
    written = tmp_path / "logs" / "stark_lightning_X_trt-baseline_rephead_4_lite_search5.yaml"
    assert load_config(run.script, written) == load_config(run.script, run.config, run.overrides)
    more = dataclasses.replace(run, overrides=(*run.overrides, "TRAIN.EPOCH=2", "TRAIN.NUM_WORKER=1"))
    train(more)  # these decide nothing that was computed
    other = dataclasses.replace(more, overrides=(*more.overrides, "TRAIN.LR=0.5", "DATA.MEAN=[0.1, 0.2, 0.3]"))
    with pytest.raises(UserError, match=r"DATA\.MEAN was .*; TRAIN\.LR was 0\.001, is 0\.5\).*--allow_changes"):
        train(other)
    assert load_config(run.script, written).TRAIN.LR == 0.001  # the refused one is not written there
    train(dataclasses.replace(other, allow_changes=True, overrides=(*other.overrides, "TRAIN.EPOCH=3")))
    assert final(run, 3)["settings"]["config"]["TRAIN"]["LR"] == 0.5
