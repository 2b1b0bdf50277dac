"""The device asked for is the device used, or an error says which exist."""

import pytest
import torch

from lib.utils.device import select_device
from lib.utils.errors import UserError


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(2, True, "cuda"), (1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_best_names_are_obeyed_and_others_refused_with_a_list(monkeypatch, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert select_device() == select_device("auto") == torch.device(chosen)
    valid = [*(f"cuda:{i}" for i in range(cuda)), *["mps"] * mps, "cpu"]
    for name in (*valid, *["cuda"] * (cuda > 0)):
        assert select_device(name) == torch.device(name)
    for name in ("cuda:2", "cuda:01", "", "gpu", "cuda:-1", "CUDA", *["mps"] * (not mps)):
        with pytest.raises(UserError, match=f"^device '{name}' is not available here; .* auto, {', '.join(valid)}$"):
            select_device(name)
