"""Compiling, fused steps, and what waits for the device."""

import copy
import math

import pytest
import torch
from torch import nn

from lib.config import load_config
from lib.train.checks import check_run
from lib.train.optimiser import Optimisation, choose_arithmetic
from lib.utils.checkpoint import CheckpointError
from lib.utils.errors import UserError
from tests.train.tiny_runs import lightning

CPU = torch.device("cpu")


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


def test_a_missing_compiler_is_said_before_anything_is_done(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    cfg = config("TRAIN.COMPILE=default")
    with pytest.raises(
        UserError, match="TRAIN.COMPILE default needs a C\\+\\+ compiler, and there is no 'no-such-comp"
    ):
        choose_arithmetic(Net(), cfg, CPU)
    run = lightning(videos, tmp_path, "TRAIN.COMPILE=default")
    with pytest.raises(UserError, match="device .* problem .*C\\+\\+ compiler"):
        check_run(run, load_config(run.script, run.config, run.overrides)).require()


def test_states_of_fused_and_other_steps_are_exchanged():
    cfg = config("TRAIN.GRAD_CLIP_NORM=0")
    ours = Net()
    fused = Optimisation(ours, cfg, CPU, 1)
    theirs = copy.deepcopy(ours)
    groups = [
        {"params": list(m.parameters()), "lr": rate} for m, rate in ((theirs.head, 1e-4), (theirs.backbone, 1e-5))
    ]
    other = torch.optim.AdamW(groups, weight_decay=1e-4, foreach=False)

    def both(seed):
        learn(ours, lambda: fused.step(1, 0), seed)
        learn(theirs, other.step, seed)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)

    both(1)
    # Each goes on from what the other kept.
    state = copy.deepcopy(fused.state_dict()["optimizer"])
    fused.load_state_dict({"optimizer": copy.deepcopy(other.state_dict())})
    other.load_state_dict(state)
    assert all(group["fused"] for group in fused.optimizer.param_groups)
    both(2)
    both(3)


@pytest.mark.parametrize("damage", [{"step": "one"}, {"exp_avg": torch.zeros(1)}, {"more": 1.0}])
def test_a_damaged_state_is_refused(damage):
    optimisation = Optimisation(net := Net(), config(), CPU, 1)
    learn(net, lambda: optimisation.step(1, 0), 1)
    state = copy.deepcopy(optimisation.state_dict())
    optimisation.load_state_dict(state)
    state["optimizer"]["state"][1] |= damage
    with pytest.raises((CheckpointError, TypeError)):
        optimisation.load_state_dict(state)


def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_moments():
    net = Net()
    optimisation = Optimisation(net, config(), CPU, 1)
    learn(net, lambda: optimisation.step(1, 0), 1)
    before = copy.deepcopy([net.state_dict(), *optimisation.state_dict()["optimizer"]["state"].values()])
    net.head.weight.grad = torch.full_like(net.head.weight, torch.inf)
    assert optimisation.step(1, 1) == math.inf
    after = [net.state_dict(), *optimisation.state_dict()["optimizer"]["state"].values()]
    assert all(torch.equal(old[name], new[name]) for old, new in zip(before, after, strict=True) for name in old)
