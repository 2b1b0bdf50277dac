"""The device asked for is the device used, or an error says what there is."""

import pytest
import torch

from lib.utils.device import select_device
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
def test_auto_takes_the_best_and_names_are_obeyed(machine, cuda, mps, chosen):
    machine(cuda, mps)
    assert select_device() == select_device("auto") == torch.device(chosen)
    for name in ["cpu", *["mps"] * mps, *["cuda", f"cuda:{cuda - 1}"] * (cuda > 0)]:
        assert select_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda:2", "cuda:01", "mps", "", "gpu", "cuda:", "cuda:-1", "meta", "CUDA", "cpu "])
def test_other_devices_are_refused_with_a_list_of_those_that_exist(machine, name):
    machine(2)
    fault = "is not available here" if name in ("cuda:2", "cuda:01", "mps") else "is unknown"
    with pytest.raises(UserError, match=f"^device '{name}' {fault}; choose auto, cuda:0, cuda:1, cpu$"):
        select_device(name)
