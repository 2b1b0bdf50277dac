"""Distillation: the loss, who learns from it, and what a teacher must be."""

import copy

import numpy as np
import pytest
import torch

from lib.models import build_model
from lib.train.checks import check_fit
from lib.train.loader import collate
from lib.train.losses import BoxActor, DistillActor, corner_loss
from lib.train.optimiser import Optimisation
from lib.train.processing import Processing
from lib.train.run import load_teacher
from lib.train.sampler import FrameSampler
from lib.utils.checkpoint import load_checkpoint, save_checkpoint, to_plain
from lib.utils.errors import UserError
from tests.train.tiny_runs import (
    CPU,
    LIGHTNING,
    THIN,
    FakeVideos,
    actor,
    complete,
    configured,
    lightning,
    several,
    teacher,
    trained,
)


@pytest.fixture(scope="module")
def batch():
    cfg, rng = configured(LIGHTNING), np.random.default_rng(0)
    sampler, processing = FrameSampler([FakeVideos([[1] * 30, [1] * 30])], [1], "causal", [20]), Processing(cfg, True)
    return collate([processing(sampler.sample(rng), rng) for _ in range(3)])


def numpy_softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def numpy_loss(logits, target, kind):
    """The equation in float64; `logits` and `target` are (…, cells), as many maps of one corner as of the other."""
    s, t = numpy_softmax(logits.astype(np.float64)), target.astype(np.float64)
    return (t * (np.log(t) - np.log(s)) if kind == "KL" else np.abs(s - t)).sum(-1).mean()


@pytest.mark.parametrize("kind", ["KL", "L1"])
@pytest.mark.parametrize("shape", [(1, 2, 1, 400), (4, 2, 3, 81)])
def test_the_loss_by_hand(kind, shape):
    rng = np.random.default_rng(shape[0])
    logits, target = rng.normal(0, 4, shape), numpy_softmax(rng.normal(0, 4, shape))
    loss = corner_loss(torch.tensor(logits).float(), torch.tensor(target).float(), kind)
    assert loss.item() == pytest.approx(numpy_loss(logits, target, kind), rel=1e-4)
    # One target for all queries, and a cell without probability.
    logits = torch.tensor([[0.0, 0.0], [0.0, np.log(3)]]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2).expand(1, 2, 1, 2)
    expected = (np.log(2) + np.log(4)) / 2 if kind == "KL" else (1.0 + 1.5) / 2
    assert corner_loss(logits, target, kind).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["KL", "L1"])
def test_the_total_is_boxes_plus_maps(kind, batch):
    learner = actor(**{"TRAIN.DISTILL_LOSS_TYPE": kind})
    learner.net.eval()
    outcome = learner(batch)
    with torch.no_grad():
        regions = learner.regions(batch)  # both are normalised alike
        maps = learner.net(*regions)["corner_maps"].numpy()
        target = numpy_softmax(learner.teacher.net(*regions)["corner_maps"].double().numpy())
    boxes = BoxActor(learner.net, learner.cfg, CPU)(batch)
    values = {name: value.item() for name, value in outcome.values.items()}
    assert set(values) == {"Loss/total", "Loss/giou", "Loss/l1", "Loss/distill", "IoU"}
    assert values["Loss/distill"] == pytest.approx(numpy_loss(maps, target, kind), rel=1e-4)
    assert values["Loss/distill"] > 0.005
    for name in ("Loss/giou", "Loss/l1", "IoU"):
        assert values[name] == pytest.approx(boxes.values[name].item(), rel=1e-6)
    total = 2 * values["Loss/giou"] + 5 * values["Loss/l1"] + 5 * values["Loss/distill"]
    assert [outcome.loss.item(), values["Loss/total"]] == pytest.approx([total] * 2, rel=1e-5)
    assert torch.equal(outcome.boxes, boxes.boxes)


def test_only_the_student_learns(batch):
    learner = actor(**{"TRAIN.GIOU_WEIGHT": 0})
    before = copy.deepcopy(learner.teacher.net.state_dict())
    optimisation = Optimisation(learner.net, learner.cfg, CPU, 1)
    learner.net.train()
    optimisation.backward(learner(batch).loss)
    assert all(p.grad is None and not p.requires_grad for p in learner.teacher.net.parameters())
    assert all(p.grad is not None for p in optimisation.parameters)
    assert learner.net.box_head.conv_tower[-1].bias.grad.abs().sum() > 0
    optimisation.step(1, 0)
    # `train` of the student reaches neither its dropout nor its batch norms' statistics.
    assert not any(module.training for module in learner.teacher.net.modules())
    after = learner.teacher.net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_maps_that_are_not_finite_name_the_sample(batch):
    learner = actor()

    def spoil(_, __, output):
        maps = output["corner_maps"].clone()
        maps[1, 2, 7] = float("-inf")  # the bottom-right corner of the third sample; the boxes are what they were
        return output | {"corner_maps": maps}

    learner.teacher.net.register_forward_hook(spoil)
    learner(batch, "epoch 4, step 7")
    named = "samples: " + ", ".join(batch.sources[2])
    with pytest.raises(UserError, match=f"^epoch 4, step 7, teacher: .*{named}$"):
        learner.checks.require()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DATA.SEARCH.SIZE": 160, "TEST.SEARCH_SIZE": 160}, "feature map is 10, the student's 8; DATA.SEARCH.SIZE"),
        ({"DATA.TEMPLATE.FACTOR": 2.5}, "DATA.TEMPLATE.FACTOR is 2.5, the student's 2.0"),
        ({"MODEL.HEAD_TYPE": "MLP"}, "gives no corner maps"),
    ],
)
def test_teachers_that_do_not_fit(changes, message):
    guide = teacher(**changes)
    with pytest.raises(UserError, match=message):
        check_fit(configured(LIGHTNING), guide.cfg, guide.net)


def test_the_command(videos, tmp_path):
    """`--distill 1 --script_teacher --config_teacher`, in two processes."""
    stage, _, _ = trained(tmp_path)
    words = ("--distill", "1", "--script_teacher", stage.script, "--config_teacher", stage.config)
    run = lightning(videos, tmp_path, *THIN, "TRAIN.EPOCH=1")
    assert "Loss/distill: " in complete(run, *several(2), *words)
    saved = load_checkpoint(run.folder / "STARKLightningXtrt_ep0001.pth.tar")
    assert saved["actor_type"] == "DistillActor"
    assert set(saved["stats"]["val"]) == set(DistillActor.measures)
    assert not any("teacher" in name for name in saved["net"])


def test_a_teacher_is_built_as_its_checkpoint_says_and_needs_no_score_head(batch, tmp_path):
    """Options of its training need not be given again. Where it takes two templates, it gets the one twice."""
    stage, net, path = trained(tmp_path, "stark_st1", "STARKST")
    weights = {name: value for name, value in net.state_dict().items() if not name.startswith("cls_head.")}
    save_checkpoint(path, {"epoch": 3, "net": weights})
    guide = load_teacher(stage, tmp_path, CPU)
    assert torch.equal(guide.net.bottleneck.weight, net.bottleneck.weight)
    seen = []
    guide.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    maps = guide.corner_maps(batch)
    ((first, second), _) = seen[0]
    assert torch.equal(first.tensors, second.tensors)
    assert maps.shape == (3, 2, 1, 64)
    assert torch.allclose(maps.sum(-1), torch.ones(3, 2, 1))
    stage, _, path = trained(tmp_path)
    cfg = configured("stark_s", **{"MODEL.HEAD_DIM": 8, "DATA.MEAN": [0.5, 0.4, 0.3]})
    other = build_model("stark_s", cfg)
    save_checkpoint(path, {"epoch": 3, "net": other.state_dict(), "settings": {"config": to_plain(dict(cfg))}})
    guide = load_teacher(stage, tmp_path, CPU)
    assert guide.net.box_head.conv1_tl[0].out_channels == 8
    assert guide.cfg.DATA.MEAN == [0.5, 0.4, 0.3]
