"""Training runs, small: every script learns, stops and goes on; what the optimiser does; data with faults."""

import copy
import dataclasses
import json
import logging
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lib.config import load_config
from lib.models import build_model
from lib.train.checks import Report
from lib.train.losses import BoxActor, ScoreActor, box_losses
from lib.train.optimiser import Optimisation, choose_arithmetic, rate_factor
from lib.train.options import CheckpointFolder, RunOptions, Stage
from lib.train.run import closing_line, train
from lib.train.trainer import Trainer
from lib.utils.checkpoint import CheckpointError, load_checkpoint
from lib.utils.checkpoint_files import find_checkpoint
from lib.utils.errors import UserError
from tests.train.tiny_runs import CPU, NAME, NO_VALIDATION, lightning, log_of, options


@pytest.mark.parametrize("script", ["stark_s", "stark_lightning_X_trt"])
def test_each_script_trains_and_leaves_published_checkpoints(script, videos, tmp_path):
    run = lightning(videos, tmp_path, "TRAIN.AMP=bf16") if "lightning" in script else options(script, videos, tmp_path)
    stats = train(run)
    assert np.isfinite(list(stats["train"].values())).all()
    assert set(stats["val"]) == set(BoxActor.measures)
    name = {"stark_s": "STARKS"}.get(script, NAME)
    kept = {path.name.removesuffix(".pth.tar") for path in run.folder.iterdir()}
    assert kept == {f"{name}_{what}" for what in ("ep0001", "ep0002", "latest", "previous")}
    saved = load_checkpoint(run.folder / f"{name}_ep0002.pth.tar")
    published = {"epoch", "actor_type", "net_type", "net", "net_info", "constructor", "optimizer", "stats", "settings"}
    assert published <= set(saved)
    assert (saved["epoch"], saved["net_type"], saved["scaler"]) == (2, name, {})  # fp16 alone has a scale
    log = log_of(run, "log").read_text()
    assert all(text in log for text in ("[train: 2, 2 / 2] FPS: ", "Loss/total: ", "[val: 2, 1 / 1]"))
    reached, weights, following = log.splitlines()[-1].split("; ")
    means = ", ".join(f"IoU {stats[loader]['IoU']:.3f} in {loader}" for loader in ("train", "val"))
    assert reached.endswith(f" trained 2 epochs, {means}")
    assert weights == f"weights: {run.folder / f'{name}_latest.pth.tar'}"
    assert following.endswith(f"test.py {script} {run.config} --dataset folder:{videos} --checkpoint {weights[9:]}")


def test_the_loss_falls(videos, tmp_path):
    more = ("TRAIN.CROSSED_CORNERS=sorted", "TRAIN.EPOCH=6", "DATA.TRAIN.SAMPLE_PER_EPOCH=32", NO_VALIDATION)
    run = lightning(videos, tmp_path, *more)
    train(run)
    losses = [json.loads(line)["Loss/total"] for line in log_of(run, "jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]


def test_stage_two_trains_the_score_head_alone(videos, tmp_path):
    one = options("stark_st1", videos, tmp_path, "TRAIN.EPOCH=1")
    train(one)
    second = f"train.py --script stark_st2 --config baseline --save_dir {tmp_path} --script_prv stark_st1"
    second += " --config_prv baseline --opts DATA."
    assert second in log_of(one, "log").read_text().splitlines()[-1]
    two = options("stark_st2", videos, tmp_path, previous=Stage("stark_st1"))
    stats = train(two)
    assert set(stats["val"]) == set(ScoreActor.measures)
    before = load_checkpoint(one.folder / "STARKST_ep0001.pth.tar")["net"]
    after = load_checkpoint(two.folder / "STARKST_ep0002.pth.tar")["net"]
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert all(key.startswith("cls_head.") for key in changed)


def test_a_network_of_got10k_alone_is_tested_there():
    run = RunOptions("stark_s", "baseline_got10k_only", Path())
    trainer = SimpleNamespace(epoch=1, stats={}, best={}, checkpoints=SimpleNamespace(latest="w"))
    line = closing_line(run, load_config(run.script, run.config), trainer)
    assert line.endswith("test.py stark_s baseline_got10k_only --dataset got10k_test --checkpoint w")


def test_the_best_checkpoint_is_of_the_best_validation_and_no_other_file(videos, tmp_path, monkeypatch):
    """Killed before the state is saved, and gone on with, the run knows it."""
    save = CheckpointFolder.save

    def validate(self, epoch):
        self.stats["val"] = {"IoU": (0.5, 0.75, 0.625)[epoch - 1]}

    def die(self, checkpoint):
        if checkpoint["epoch"] == 2:
            raise KeyboardInterrupt
        save(self, checkpoint)

    monkeypatch.setattr(Trainer, "validate", validate)
    more = ("TRAIN.KEEP_BEST=IoU", "TRAIN.EPOCH=3", "TRAIN.KEEP_CHECKPOINTS=1", "DATA.TRAIN.SAMPLE_PER_EPOCH=4")
    run = lightning(videos, tmp_path, *more)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "save", die)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    for _ in range(2):
        best = load_checkpoint(run.folder / f"{NAME}_best.pth.tar")
        assert (best["epoch"], best["best"]["epoch"], best["best"]["value"]) == (2, 2, 0.75)
        train(run)
    kept = {path.name.removesuffix(".pth.tar") for path in run.folder.iterdir()}
    assert kept == {f"{NAME}_{what}" for what in ("best", "latest", "previous", "ep0003")}
    assert find_checkpoint(run.folder, NAME).name == f"{NAME}_latest.pth.tar"


def test_what_the_best_validation_is():
    def judge(metric, *values, sets="a", best=None):
        cfg = load_config("stark_s", "baseline", [f"TRAIN.KEEP_BEST={metric}"])
        validation, kept = SimpleNamespace(dataset_names=sets), []
        trainer = Trainer(None, None, cfg, None, validation, None, None, None, {}, best=best or {})
        for epoch, value in enumerate(values, 1):
            trainer.stats["val"] = {metric: value}
            kept += [epoch] * trainer.note_best(epoch)
        return kept

    assert judge("IoU", 0.5, 0.75, 0.75, 0.625, 0.8) == [1, 2, 5]
    assert judge("Loss/l1", 0.5, 0.75, 0.4) == [1, 3]
    before = {"metric": "IoU", "sets": "a", "value": 0.9, "epoch": 7}
    assert judge("IoU", 0.5, best=before) == []
    assert judge("IoU", 0.5, sets="b", best=before) == [1]  # values over other sets do not compare


@pytest.mark.parametrize("crossed", ["published", "sorted"])
def test_box_losses_and_crossed_corners(crossed):
    """The first box is half as wide as the truth; the second has its corners crossed in x: x1 = 0.6, x2 = 0.2."""
    truth = torch.tensor([[0.2, 0.2, 0.6, 0.4]]).expand(2, 4)
    boxes = torch.tensor([[[0.4, 0.3, 0.2, 0.2]], [[0.4, 0.3, -0.4, 0.2]]], requires_grad=True)
    loss, parts = box_losses(boxes, truth, 2.0, 5.0, crossed)
    l1, giou = (0.05 + 0.2) / 2, 0.0 if crossed == "published" else 0.5 / 2
    assert parts["Loss/giou"].item() == pytest.approx(giou, abs=1e-6)
    assert parts["IoU"].item() == pytest.approx((0.5 + 1) / 2)
    assert loss.item() == pytest.approx(2 * giou + 5 * l1, rel=1e-5)
    loss.backward()
    assert torch.isfinite(boxes.grad).all()
    assert box_losses(boxes[:1], truth[:1], 2.0, 5.0, crossed)[1]["Loss/giou"].item() == pytest.approx(0.5)


def test_what_learns_and_how_fast():
    cfg = load_config("stark_s", "baseline", ["MODEL.BACKBONE.TYPE=resnet18"])
    net = build_model("stark_s", cfg)
    groups = Optimisation(net, cfg, CPU, 10).optimizer.param_groups
    assert [g["lr"] for g in groups] == pytest.approx([1e-4, 1e-5])
    slow = {id(p) for p in groups[1]["params"]}
    names = {name for name, p in net.named_parameters() if id(p) in slow}
    assert names
    assert all(name.startswith(("backbone.0.body.layer2", "backbone.0.body.layer3")) for name in names)
    cfg.TRAIN.BACKBONE_MULTIPLIER = 0
    assert len(Optimisation(net, cfg, CPU, 10).optimizer.param_groups) == 1
    assert not any(p.requires_grad for p in net.backbone.parameters())


def test_schedules():
    train_cfg = load_config("stark_s", "baseline").TRAIN
    assert [rate_factor(train_cfg, e, 0, 10) for e in (1, 400, 401, 500)] == pytest.approx([1, 1, 0.1, 0.1])
    cosine = load_config("stark_s", "baseline", ["TRAIN.SCHEDULER.TYPE=cosine", "TRAIN.EPOCH=10"]).TRAIN
    rates = [rate_factor(cosine, e, s, 100) for e in range(1, 11) for s in range(100)]
    assert max(rates) == pytest.approx(1, abs=1e-3)
    assert rates.index(max(rates)) == 49
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_the_score_is_judged_by_whether_the_object_is_there():
    cfg = load_config("stark_st2", "baseline")
    actor = ScoreActor(lambda *_, score_only: {"pred_logits": torch.full((3, 1, 1), 50.0)}, cfg, CPU)
    actor.regions = lambda batch: ()
    values = actor(SimpleNamespace(labels=torch.tensor([1.0, 0.0, 1.0]), sources=[["a"], ["b"], ["c"]])).values
    assert values["accuracy"] == pytest.approx(2 / 3)
    assert values["cls_loss"] == pytest.approx(50 / 3)


def test_a_gradient_that_is_not_finite_changes_nothing(videos, tmp_path, monkeypatch):
    run = lightning(videos, tmp_path, NO_VALIDATION)
    original, calls = Optimisation.backward, []

    def broken(self, loss):
        calls.append(1)
        original(self, loss * float("nan") if len(calls) == 4 else loss)

    monkeypatch.setattr(Optimisation, "backward", broken)
    with pytest.raises(UserError, match=r"^epoch 2, step 2: the gradient is not finite; samples: .*embedded"):
        train(run)
    saved = load_checkpoint(run.folder / f"{NAME}_latest.pth.tar")
    assert saved["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in saved["net"].values())


def config(*overrides):
    return load_config("stark_s", "baseline", overrides)


class Net(nn.Module):
    """Two groups of parameters, as networks have."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.head = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.backbone(x).relu())


def learn(net, step, seed):
    torch.manual_seed(seed)
    net(torch.randn(8, 4)).square().mean().backward()
    step()
    net.zero_grad()


def test_a_compiled_network_computes_the_same_under_the_same_names():
    net = Net()
    names, x = list(net.state_dict()), torch.randn(3, 4)
    expected = net(x)
    called = []
    choose_arithmetic(net, config("TRAIN.COMPILE=default"), CPU)
    original = net._compiled_call_impl
    net._compiled_call_impl = lambda *args: called.append(args) or original(*args)
    torch.testing.assert_close(net(x), expected)
    assert len(called) == 1
    assert list(net.state_dict()) == names
    choose_arithmetic(plain := Net(), config("TRAIN.COMPILE=off"), CPU)
    assert plain._compiled_call_impl is None


def test_states_of_fused_and_other_steps_are_exchanged():
    ours = Net()
    theirs, fused = copy.deepcopy(ours), Optimisation(ours, config("TRAIN.GRAD_CLIP_NORM=0"), CPU, 1)
    rates = ((theirs.head, 1e-4), (theirs.backbone, 1e-5))
    groups = [{"params": [*part.parameters()], "lr": rate} for part, rate in rates]
    other = torch.optim.AdamW(groups, weight_decay=1e-4, foreach=False)
    for seed in (1, 2, 3):
        learn(ours, lambda: fused.step(1, 0), seed)
        learn(theirs, other.step, seed)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
        # Each goes on from what the other kept.
        state = copy.deepcopy(fused.state_dict()["optimizer"])
        fused.load_state_dict({"optimizer": copy.deepcopy(other.state_dict())})
        other.load_state_dict(state)
    assert all(group["fused"] for group in fused.optimizer.param_groups)


def test_a_damaged_state_is_refused():
    optimisation = Optimisation(net := Net(), config(), CPU, 1)
    learn(net, lambda: optimisation.step(1, 0), 1)
    state = optimisation.state_dict()
    optimisation.load_state_dict(copy.deepcopy(state))
    for damage in ({"exp_avg": torch.zeros(1)}, {"more": 1.0}, {"step": torch.zeros(2)}):
        damaged = copy.deepcopy(state)
        damaged["optimizer"]["state"][1] |= damage
        with pytest.raises(CheckpointError, match="is not of the parameters that learn here"):
            optimisation.load_state_dict(damaged)
    other = Optimisation(net, config("TRAIN.BACKBONE_MULTIPLIER=0"), CPU, 1)
    with pytest.raises(CheckpointError, match="that was begun trains 4 parameters, this configuration 2: go on with"):
        other.load_state_dict(state)


def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_moments():
    net = Net()
    optimisation = Optimisation(net, config(), CPU, 1)
    learn(net, lambda: optimisation.step(1, 0), 1)
    before = copy.deepcopy([net.state_dict(), *optimisation.state_dict()["optimizer"]["state"].values()])
    net.head.weight.grad = torch.full_like(net.head.weight, torch.inf)
    assert optimisation.step(1, 1) == math.inf
    after = [net.state_dict(), *optimisation.state_dict()["optimizer"]["state"].values()]
    assert all(torch.equal(old[name], new[name]) for old, new in zip(before, after, strict=True) for name in old)


def folders(videos):
    return sorted(path for path in videos.iterdir() if path.is_dir())


def test_broken_frames_and_annotations_are_named_and_others_drawn(videos, tmp_path, caplog, monkeypatch):
    faulty = shutil.copytree(videos, tmp_path / "faulty")
    images = sorted(folders(faulty)[0].glob("*.jpg"))
    for image in images[len(images) // 2 :]:
        image.write_bytes(image.read_bytes()[:200])
    annotation = folders(faulty)[1] / "groundtruth.txt"
    annotation.write_text("10,10,twenty,20\n")
    with caplog.at_level(logging.INFO):
        run = lightning(faulty, tmp_path, NO_VALIDATION, "DATA.TRAIN.SAMPLE_PER_EPOCH=32")
        stats = train(run)
    assert np.isfinite(stats["train"]["Loss/total"])
    said = [record.getMessage() for record in caplog.records]
    warned = [text for text in said if "another sample takes its place" in text]
    assert len(warned) == len(set(warned))  # each file once, in two epochs
    for broken in (folders(faulty)[0], annotation):
        assert any(str(broken) in text for text in warned)
    # When nothing can be read any more, the run ends and keeps its checkpoint.
    for image in faulty.glob("*/*.jpg"):
        image.write_bytes(b"")
    monkeypatch.setattr("lib.train.run.check_run", lambda *_: Report())
    with pytest.raises(UserError, match="100 files in a row could not be read: cannot decode"):
        train(dataclasses.replace(run, overrides=(*run.overrides, "TRAIN.EPOCH=3")))
    assert load_checkpoint(run.folder / f"{NAME}_latest.pth.tar")["epoch"] == 2
