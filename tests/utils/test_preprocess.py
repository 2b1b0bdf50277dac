"""Pixels as the network takes them."""

import pytest
import torch

from lib.utils.tensors import Preprocessor

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize("brightness", [None, torch.tensor([0.8, 1.0, 1.2])])
def test_looked_up_pixels_are_those_that_are_computed(brightness):
    """To the last bit: on a CPU each of the 256 values is computed once a crop."""
    crops = torch.randint(0, 256, (3, 16, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    crops[0, 0, 0], crops[2, 0, 1] = 255, 0
    found = Preprocessor(MEAN, STD, torch.device("cpu")).pixels(crops, brightness)
    pixels = crops.permute(0, 3, 1, 2).float() / 255
    if brightness is not None:
        pixels = (pixels * brightness.view(-1, 1, 1, 1)).clamp(max=1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    assert torch.equal(found, (pixels - mean) / std)
    assert found.is_contiguous(memory_format=torch.channels_last)
