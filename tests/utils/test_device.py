"""The device asked for is the device used, or an error says what there is."""

import pytest
import torch

from lib.utils.device import available_devices, select_device
from lib.utils.errors import UserError


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with so many CUDA devices, with or without MPS."""

    def pretend(cuda, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(2, True, "cuda"), (1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_best(machine, cuda, mps, chosen):
    machine(cuda, mps)
    assert select_device().type == chosen
    assert select_device("auto").type == chosen


def test_named_devices(machine):
    machine(12, True)
    assert select_device("cpu") == torch.device("cpu")
    assert select_device("mps") == torch.device("mps")
    assert select_device("cuda") == torch.device("cuda")
    assert select_device("cuda:11") == torch.device("cuda", 11)
    assert select_device("auto").type == "cuda"


def test_absent_device_lists_what_there_is(machine):
    machine(2)
    for name in ("cuda:2", "cuda:01", "mps"):
        with pytest.raises(UserError, match=f"'{name}' is not available here; choose auto, cuda:0, cuda:1, cpu"):
            select_device(name)
    machine(0)
    with pytest.raises(UserError, match="'cuda' is not available here; choose auto, cpu$"):
        select_device("cuda")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "meta", "CUDA", "cpu "])
def test_unknown_name(name):
    with pytest.raises(UserError, match="is unknown"):
        select_device(name)


def test_chosen_device_computes():
    for name in available_devices():
        assert torch.ones(2, device=select_device(name)).sum().item() == 2
