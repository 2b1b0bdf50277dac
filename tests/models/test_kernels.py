"""What a training step on a CPU computes in its own way is what PyTorch computes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.config import load_config
from lib.models import build_model, kernels
from lib.models.attention import MultiheadAttention
from lib.models.layers import Dropout, FrozenBatchNorm2d, Linear
from lib.models.repvgg import RepVGGBlock
from lib.utils.tensors import NestedTensor


def tokens(batch, count, dim=32, dtype=torch.float32):
    return torch.randn(batch, count, dim, dtype=dtype).requires_grad_()


def padding_of(batch, count):
    padding = torch.zeros(batch, count, dtype=torch.bool)
    padding[0, : count // 3] = True
    return padding


def gradients(out, *inputs):
    torch.manual_seed(9)
    return torch.autograd.grad(out, inputs, torch.randn(out.shape, dtype=out.dtype), retain_graph=True)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_attention_is_pytorchs(dtype, tolerance, padded):
    torch.manual_seed(0)
    inputs = [tokens(2, count, dtype=dtype) for count in (7, 12, 12)]
    padding = padding_of(2, 12) if padded else None
    q, k, v = (x.float().unflatten(2, (4, 8)).transpose(1, 2) for x in inputs)
    mask = None if padding is None else ~padding[:, None, None]
    expected = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2).to(dtype)
    found = kernels.attend(*inputs, 4, padding, 0.0)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    for ours, theirs in zip(gradients(found, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_attentions_gradients_are_its_slopes(dropout):
    torch.manual_seed(0)
    padding = padding_of(2, 5)

    def seeded(*inputs):
        torch.manual_seed(3)
        return kernels.attend(*inputs, 2, padding, dropout)

    assert torch.autograd.gradcheck(seeded, [tokens(2, count, 8, torch.float64) for count in (3, 5, 5)])


def test_attentions_dropout_keeps_the_mean_and_follows_the_seed():
    query, key = torch.zeros(1, 400, 8), torch.zeros(1, 500, 8)  # equal weights
    value = torch.ones(1, 500, 8)

    def seeded(seed):
        torch.manual_seed(seed)
        return kernels.attend(query, key, value, 2, None, 0.25)

    out = seeded(1)
    assert out.mean().item() == pytest.approx(1, abs=3e-3)
    # A sum of 500 draws, each 0 or 4/3 of 1/500.
    assert out.std().item() == pytest.approx((0.25 / 0.75 / 500) ** 0.5, rel=0.1)
    assert torch.equal(out, seeded(1))
    assert not torch.equal(out, seeded(2))
    # Each sample and each head has draws of its own.
    heads = kernels.attend(query.expand(2, -1, -1), key.expand(2, -1, -1), value.expand(2, -1, -1), 2, None, 0.25)
    first, second = heads
    assert not torch.equal(first, second)
    assert not torch.equal(first[:, 0], first[:, 4])


def test_a_sample_that_is_all_padding_stays_finite():
    out = kernels.attend(*(tokens(1, 4) for _ in range(3)), 4, torch.ones(1, 4, dtype=torch.bool), 0.0)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("queries", [1, 3])
def test_few_queries_attend_as_in_pytorchs_module(queries, padded):
    torch.manual_seed(0)
    ours, theirs = MultiheadAttention(64, 4, 0.0), nn.MultiheadAttention(64, 4, batch_first=True)
    nn.init.normal_(ours.in_proj_bias)
    theirs.load_state_dict(ours.state_dict())
    inputs = [tokens(2, count, 64) for count in (queries, 11, 11)]
    padding = padding_of(2, 11) if padded else None
    found, expected = ours(*inputs, padding), theirs(*inputs, padding, need_weights=False)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    sides = (gradients(found, *inputs, *ours.parameters()), gradients(expected, *inputs, *theirs.parameters()))
    for a, b in zip(*sides, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_few_queries_drop_weights_without_changing_the_mean():
    torch.manual_seed(0)
    attention = MultiheadAttention(64, 4, 0.5)
    nn.init.normal_(attention.in_proj_bias)
    inputs = [tokens(1, count, 64) for count in (1, 30, 30)]
    with torch.no_grad():
        expected = attention.eval()(*inputs)
        attention.train()
        drawn = torch.stack([attention(*inputs) for _ in range(2000)])
    assert drawn.std(0).min() > 0
    assert (drawn.mean(0) - expected).abs().max() < 6 * drawn.std(0).max() / 2000**0.5


@pytest.mark.parametrize("relu", [False, True])
def test_dropout_keeps_the_mean_and_passes_gradients_where_it_kept(relu):
    torch.manual_seed(0)
    layer = Dropout(0.1)
    x = (torch.rand(300, 1000) + 0.5).requires_grad_()
    out = layer.after_relu(x) if relu else layer(x)
    kept = out != 0
    assert kept.float().mean().item() == pytest.approx(0.9, abs=3e-3)
    torch.testing.assert_close(out[kept], x[kept] / 0.9, rtol=1e-4, atol=0)
    slope = torch.autograd.grad(out.sum(), x)[0]
    torch.testing.assert_close(slope, kept / 0.9, rtol=1e-4, atol=1e-6)
    assert torch.equal(layer.eval()(x), x)


def test_everything_can_be_dropped():
    x = torch.randn(50, 50)
    assert (Dropout(1.0)(x) == 0).all()
    assert (kernels.attend(*(tokens(1, 4) for _ in range(3)), 4, None, 1.0) == 0).all()


def test_relu_before_dropout():
    x = torch.randn(100, 100).requires_grad_()
    out = Dropout(0.5).after_relu(x)
    assert (out[x < 0] == 0).all()
    assert (torch.autograd.grad(out.sum(), x)[0][x < 0] == 0).all()
    assert torch.equal(Dropout(0.0).after_relu(x), x.relu())


def test_linear_layers_are_pytorchs():
    torch.manual_seed(0)
    ours, theirs = Linear(24, 40), nn.Linear(24, 40)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 24, 17).requires_grad_()
    found, expected = (layer(x.transpose(1, 2)) for layer in (ours, theirs))
    torch.testing.assert_close(found, expected)
    for a, b in zip(gradients(found, x, *ours.parameters()), gradients(expected, x, *theirs.parameters()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients(found.sum(), x), gradients(expected.sum(), x))  # of equal, shared slopes
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x.transpose(1, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(("outputs", "stride"), [(8, 1), (12, 2)])
def test_frozen_branches_are_one_convolution_with_the_same_gradients(outputs, stride):
    torch.manual_seed(0)
    block = RepVGGBlock(8, outputs, stride, frozen_norm=True)
    for norm in block.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.running_mean)
            nn.init.normal_(norm.weight)
    x = torch.randn(2, 8, 9, 9).requires_grad_()
    branches = block.rbr_dense(x) + block.rbr_1x1(x) + (0 if block.rbr_identity is None else block.rbr_identity(x))
    expected, found = branches.relu(), block(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    parameters = list(block.parameters())
    for a, b in zip(gradients(found, x, *parameters), gradients(expected, x, *parameters), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("masks", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("position", ["sine", "learned", "none"])
def test_templates_together_are_templates_one_by_one(position, masks):
    overrides = [f"MODEL.POSITION_EMBEDDING={position}", "MODEL.BACKBONE.TYPE=resnet18"]
    overrides += ["MODEL.TRANSFORMER.ENC_LAYERS=1", "MODEL.TRANSFORMER.DEC_LAYERS=1"]
    model = build_model("stark_st1", load_config("stark_st1", "baseline", overrides))
    regions = []
    for number, masked in enumerate(masks):
        mask = torch.zeros(3, 64, 64, dtype=torch.bool)
        mask[number, :20] = True
        regions.append(NestedTensor(torch.randn(3, 3, 64, 64), mask if masked else None))
    with torch.no_grad():
        together, apart = model.encode_templates(regions), [model.encode_template(region) for region in regions]
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a.feature, b.feature, atol=1e-5, rtol=1e-5)
        if position != "none":
            torch.testing.assert_close(a.position, b.position.expand_as(a.position))
        unpadded = torch.zeros(3, 16, dtype=torch.bool)
        assert torch.equal(unpadded if a.padding is None else a.padding, unpadded if b.padding is None else b.padding)


def test_templates_do_not_share_batch_statistics():
    overrides = ["MODEL.BACKBONE.TYPE=RepVGG-A0", "MODEL.BACKBONE.OUTPUT_LAYERS=['stage3']"]
    overrides += ["TRAIN.FREEZE_BACKBONE_BN=false", "TRAIN.FREEZE_LAYERS=[]"]
    model = build_model("stark_st1", load_config("stark_st1", "baseline", overrides)).train()
    regions = [NestedTensor(torch.randn(2, 3, 64, 64) + number) for number in range(2)]
    other = copy.deepcopy(model)
    with torch.no_grad():
        together, apart = model.encode_templates(regions), [other.encode_template(region) for region in regions]
    assert all(torch.equal(a.feature, b.feature) for a, b in zip(together, apart, strict=True))
