"""Alpha-Refine against the numbers of the published system, and its network's parts."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lib.config import ConfigError, load_config
from lib.models.alpha_refine import COMPARED, AlphaRefine, precise_roi_pool
from lib.models.inference import prepare_for_tracking
from lib.utils.crop import box_in_crop, mask_in_image, stretched_crop, stretched_region
from tests.golden.fill import fill, image, normal, uniform
from tests.golden_cases import GOLDEN, golden, state_lines


@pytest.fixture(scope="module")
def network():
    return fill(AlphaRefine(load_config("alpha_refine", "baseline"))).eval()


@pytest.fixture(scope="module")
def expected():
    return golden("alpha_refine")


def test_the_state_dict_is_the_published_one(network, expected):
    assert state_lines(network) == (GOLDEN / "alpha_refine.state_dict.txt").read_text().splitlines()
    assert sum(parameter.numel() for parameter in network.parameters()) == expected["parameters"]


@torch.no_grad()
@pytest.mark.parametrize("prepared", [False, True])
def test_kernels_scores_and_mask_are_the_published_ones(network, expected, prepared):
    if prepared:
        network = prepare_for_tracking(copy.deepcopy(network))
    reference, crop = (normal(f"alpha_refine.{name}", (1, 1, 3, 384, 384))[0] for name in ("reference", "test"))
    kernels = network.encode_reference(reference, torch.from_numpy(expected["reference_box"])[None])
    near(kernels[0].T.unflatten(1, (12, 12))[:4], expected["reference_kernel_head"])
    features = network.feature_extractor(crop, list(network.feature_extractor.levels))
    near(network.neck(kernels, features[COMPARED])[0, :4], expected["fused_head"])
    near(network.segment(kernels, crop)[0, 0, ::4, ::4], expected["mask_logits"])


def near(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 * np.abs(wanted).mean())


def test_pooling_is_the_published_one_with_exact_gradients_in_features_and_boxes(expected):
    boxes, feature = torch.from_numpy(expected["pool_rois"])[:, 1:], normal("alpha_refine.pool", (1, 3, 24, 24))
    found = precise_roi_pool(feature.expand(len(boxes), -1, -1, -1), boxes, 12, 1 / 16)
    np.testing.assert_allclose(found, expected["pool_out"], atol=1e-4)
    feature = normal("map", (2, 2, 5, 6)).double().requires_grad_()
    boxes = torch.tensor([[1.2, 0.4, 4.1, 3.3], [-1.3, 2.5, 2.1, 9.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, b: precise_roi_pool(f, b, 3, 0.9), (feature, boxes))
    # A box without area pools zeros and finite gradients.
    feature, boxes = torch.ones(1, 1, 4, 4), torch.tensor([[2.0, 1.0, 2.0, 3.0]], requires_grad=True)
    pooled = precise_roi_pool(feature, boxes, 2, 1.0)
    pooled.sum().backward()
    assert not pooled.any()
    assert torch.isfinite(boxes.grad).all()


def test_what_learns_and_which_norms_keep_their_statistics():
    fresh = AlphaRefine(load_config("alpha_refine", "baseline")).train()
    still = [name for name, p in fresh.named_parameters() if not p.requires_grad]
    assert still == ["feature_extractor.fc.weight", "feature_extractor.fc.bias"]
    norms = [(name, module) for name, module in fresh.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.training != name.startswith("feature_extractor.") for name, norm in norms)


def test_options_that_do_not_suit_are_named():
    with pytest.raises(ConfigError, match="resnet50, EfficientNet-Lite0 for alpha_refine, not resnet18"):
        AlphaRefine(load_config("alpha_refine", "baseline", ["MODEL.BACKBONE.TYPE=resnet18"]))
    with pytest.raises(ConfigError, match=r"'DATA.SEARCH.SIZE' \(400\) must be divisible by 32"):
        AlphaRefine(load_config("alpha_refine", "baseline", ["DATA.SEARCH.SIZE=400"]))


@pytest.mark.parametrize("i", range(4))
def test_crops_and_the_way_back_are_the_published_ones(i, expected):
    frame, box = image("alpha_refine.image", 360, 480), expected["se_boxes"][i]
    crop = stretched_crop(frame, box, 384)
    assert np.abs(crop[::6, ::6].astype(int) - expected[f"se{i}.crop"]).max() <= 1
    width, height = stretched_region(box)[2:]
    np.testing.assert_allclose([384 / height, 384 / width], expected[f"se{i}.factors_h_w"])
    np.testing.assert_allclose(box_in_crop(box, box, 384), expected[f"se{i}.box_in_crop"], atol=1e-4)
    back = mask_in_image(uniform(f"alpha_refine.mask{i}", (384, 384)).numpy(), box, (360, 480))
    np.testing.assert_allclose(back[::4, ::4], expected[f"se{i}.mask_back"], atol=1e-6)


@pytest.mark.parametrize("box", [[-90, 20, 30, 30], [200, -80, 30, 30], [190, 20, 30, 30], [20, 150, 30, 30]])
def test_regions_outside_the_image_are_black_and_their_masks_lost(box):
    assert not stretched_crop(np.full((120, 160, 3), 9, np.uint8)[:, ::-1], box, 64).any()
    assert not mask_in_image(np.ones((64, 64), np.float32), box, (120, 160)).any()
