"""Pixels as the network takes them."""

import numpy as np
import torch

from lib.utils.tensors import Preprocessor


def test_pixels_are_brightened_cut_off_at_white_and_normalised():
    crops = torch.tensor([[[[0, 51, 255]]], [[[0, 51, 255]]]], dtype=torch.uint8)
    preprocess = Preprocessor([0.5, 0.4, 0.3], [0.2, 0.5, 1.0], torch.device("cpu"))
    found = preprocess.pixels(crops, torch.tensor([0.5, 1.5]))
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = torch.tensor([[-2.5, -0.6, 0.2], [-2.5, -0.2, 0.7]])
    torch.testing.assert_close(found[:, :, 0, 0], expected)
    batch = preprocess(crops[0].numpy(), np.array([[True]]))
    torch.testing.assert_close(batch.tensors, preprocess.pixels(crops[:1]))
    assert batch.mask.tolist() == [[[True]]]
    assert preprocess(crops[0].numpy(), np.array([[False]])).mask is None
