"""The training step of the benchmark's plain path and ours learn the same."""

import pytest
import torch

from benchmarks.plain import PlainStep
from benchmarks.training import make_batch, make_step
from lib.config import load_config
from lib.models import build_model
from lib.train.losses import BoxActor, ScoreActor
from lib.train.optimiser import Optimisation
from tests.golden.fill import fill
from tests.train.tiny_runs import overrides

CONFIGS = {
    "stark_s": "baseline",
    "stark_st1": "baseline",
    "stark_st2": "baseline",
    "stark_lightning_X_trt": "baseline_rephead_4_lite_search5",
}


@pytest.fixture(params=CONFIGS)
def case(request):
    """A small network of each kind (spatial ones with the published backbone), its options, a batch."""
    script = request.param
    more = [] if "lightning" in script else ["MODEL.BACKBONE.TYPE=resnet50"]
    cfg = load_config(script, CONFIGS[script], [*overrides(script, "-", "MODEL.TRANSFORMER.DROPOUT=0"), *more])
    torch.manual_seed(0)
    return build_model(script, cfg).train(), cfg, make_batch(cfg, 4)


def ours(net, cfg, batch, amp=False):
    """Loss and gradients by name, as a run computes them."""
    net = net.to(memory_format=torch.channels_last)
    cfg.TRAIN.AMP = amp
    optimisation = Optimisation(net, cfg, torch.device("cpu"), 1)
    actor = (ScoreActor if cfg.TRAIN.get("TRAIN_CLS", False) else BoxActor)(net, cfg, torch.device("cpu"))
    with optimisation.autocast():
        outcome = actor(batch)
    optimisation.backward(outcome.loss)
    return outcome.loss.item(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def theirs(net, cfg, batch, amp=False):
    """The same, computed plainly."""
    plain = PlainStep(net, cfg)
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(amp)):
        loss, _ = plain.loss(batch)
    loss.backward()
    found = {name: p.grad for name, p in plain.net.named_parameters() if p.grad is not None}
    return loss.item(), found


def test_both_steps_have_the_same_loss_and_gradients(case):
    (loss, expected), (found_loss, found) = theirs(*case), ours(*case)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys()
    if case[1].TRAIN.get("TRAIN_CLS", False):
        assert all(name.startswith("cls_head.") for name in found)
    total = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    for name, gradient in found.items():
        # A bias before a norm has no gradient but for rounding.
        assert (gradient - expected[name]).norm() < 0.01 * (expected[name].norm() + 0.1 * total), name


def test_bf16_loses_no_more_than_where_it_is_plain(case):
    (loss, expected), (plain_loss, plain), (found_loss, found) = (
        theirs(*case),
        theirs(*case, amp="bf16"),
        ours(*case, amp="bf16"),
    )
    assert plain_loss == pytest.approx(loss, rel=0.02)
    assert found_loss == pytest.approx(loss, rel=0.02)
    # Random weights make large features, so that rounding counts for much; it must not count for more here.
    exact, usual, own = (
        torch.cat([gradients[name].flatten() for name in expected]) for gradients in (expected, plain, found)
    )
    # PyTorch's autocast computes the frozen norms in fp32, which makes a difference of its own.
    assert (own - exact).norm() < 2 * (usual - exact).norm()


def test_the_plain_step_learns():
    cfg = load_config("stark_s", "baseline", overrides("stark_s", "-"))
    step = PlainStep(fill(build_model("stark_s", cfg)), cfg)
    before = [parameter.clone() for parameter in step.parameters]
    step(make_batch(cfg, 2))
    changed = [not torch.equal(a, b) for a, b in zip(before, step.parameters, strict=True)]
    assert sum(changed) > 0.8 * len(changed)  # biases before norms have no gradient


def test_a_step_is_named_by_variant_and_way(monkeypatch):
    asked = []
    monkeypatch.setattr("benchmarks.training.choose_arithmetic", lambda net, cfg, device: asked.append(cfg.TRAIN))
    step = make_step("stark_lightning_X_trt:mini:2", "bf16+compile")
    values, _ = step()
    assert values["Loss/total"] > 0
    assert (asked[0].AMP, asked[0].COMPILE, asked[0].BATCH_SIZE) == ("bf16", "default", 2)
