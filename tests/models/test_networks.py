"""The networks' options beyond those of the reference numbers, with the head CENTER."""

import numpy as np
import pytest
import torch
from torchvision.models import resnet

from lib.config import ConfigError, load_config
from lib.models import build_model
from lib.models.backbone import ResNetBody
from lib.models.heads import CenterPredictor
from lib.models.layers import FrozenBatchNorm2d
from lib.models.transformer import DecoderLayer, EncoderLayer
from lib.train.losses import center_losses, center_target
from lib.train.processing import jitter_box
from lib.utils.tensors import NestedTensor, cxcywh_to_xyxy, xyxy_to_cxcywh
from tests.golden.fill import fill

LIGHTNING = "stark_lightning_X_trt"
SIZES = ("DATA.SEARCH.SIZE=128", "DATA.TEMPLATE.SIZE=64")
TEST_SIZES = ("TEST.SEARCH_SIZE=128", "TEST.TEMPLATE_SIZE=64")
ONE_LAYER = [f"MODEL.TRANSFORMER.{key}" for key in ("ENC_LAYERS=1", "DEC_LAYERS=1", "DIM_FEEDFORWARD=64")]
SMALL = ("MODEL.BACKBONE.TYPE=resnet18", *SIZES, *ONE_LAYER)
LIGHT = (*SIZES, "DATA.SEARCH.FEAT_SIZE=8", "DATA.TEMPLATE.FEAT_SIZE=4")


def small_model(script, *overrides):
    base = LIGHT if script == LIGHTNING else SMALL
    base += () if script == "stark_st1" else TEST_SIZES
    config = "baseline_rephead_4_lite_search5" if script == LIGHTNING else "baseline"
    return build_model(script, load_config(script, config, (*base, *overrides)))


def inputs(script):
    torch.manual_seed(0)

    def region(size):
        mask = torch.zeros(2, size, size, dtype=torch.bool)
        mask[:, : size // 4] = True
        return NestedTensor(torch.randn(2, 3, size, size), mask)

    return [region(64) for _ in range(2 if script == "stark_st1" else 1)], region(128)


HEADS = ["CORNER", "CORNER_LITE", "CORNER_LITE_REP", "CORNER_LITE_REP_v2"]
OPTIONS = [
    *[("stark_s", f"MODEL.HEAD_TYPE={head}") for head in HEADS[1:]],
    *[(LIGHTNING, f"MODEL.HEAD_TYPE={head}") for head in HEADS[:3]],
    ("stark_st1", "MODEL.HEAD_TYPE=MLP"),
    ("stark_s", "MODEL.POSITION_EMBEDDING=learned"),
    ("stark_s", "MODEL.TRANSFORMER.PRE_NORM=true"),
    ("stark_s", "MODEL.BACKBONE.TYPE=resnet50 MODEL.BACKBONE.DILATION=true"),
    ("stark_s", "MODEL.NUM_OBJECT_QUERIES=3"),
    (LIGHTNING, "MODEL.TRANSFORMER.ENC_LAYERS=2"),
]


@pytest.mark.parametrize(("script", "override"), OPTIONS)
def test_every_option_gives_boxes_and_gradients(script, override):
    model = small_model(script, *override.split())
    templates, search = inputs(script)
    assert model.encode_search(search).feature.shape[1] == (256 if "DILATION" in override else 64)
    out = model(templates, search)
    assert out["pred_boxes"].shape == (2, 3 if "QUERIES" in override else 1, 4)
    out["pred_boxes"].square().sum().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    for part in ("backbone", "transformer", "bottleneck", "box_head"):
        assert any(name.startswith(part) for name in learning), part
    assert any("row_embed" in name for name in learning) == (override.endswith("learned") or script == LIGHTNING)


@pytest.mark.parametrize("head", HEADS)
def test_corner_heads_find_a_sharp_peak(head):
    """With all probability in one cell the corner is that cell's sample point: index, or index + 0.5, of 8."""
    predictor = small_model(LIGHTNING, f"MODEL.HEAD_TYPE={head}").box_head
    maps = torch.full((2, 1, 64), -1e4)
    maps[0, 0, 2 * 8 + 3] = maps[1, 0, 6 * 8 + 7] = 1e4
    predictor.score_maps = lambda _: (maps[0], maps[1])
    boxes = cxcywh_to_xyxy(predictor(torch.zeros(1, 128, 8, 8))["pred_boxes"])
    offset = 0.0 if head == "CORNER" else 0.5
    torch.testing.assert_close(boxes, torch.tensor([[[3.0, 2.0, 7.0, 6.0]]]).add(offset) / 8)


@torch.no_grad()
@pytest.mark.parametrize("script", ["stark_s", LIGHTNING])
def test_padding_does_not_change_the_box(script):
    """What stands under the mask is not attended to: tokens are replaced, since convolutions reach over its border."""
    model = small_model(script).eval()
    templates, search = inputs(script)
    template, region = model.encode_template(templates[0]), model.encode_search(search)
    first = model.predict([template], region)["pred_boxes"]
    template.feature[template.padding] = 100.0
    torch.testing.assert_close(first, model.predict([template], region)["pred_boxes"])
    template.feature[~template.padding] += 1.0
    assert not torch.allclose(first, model.predict([template], region)["pred_boxes"], atol=1e-6)


@pytest.mark.parametrize(
    ("script", "override", "message"),
    [
        (LIGHTNING, "MODEL.TRANSFORMER.NHEADS=7", "divisible"),
        (LIGHTNING, "MODEL.HEAD_TYPE=MLP", "Lightning"),
        (LIGHTNING, "DATA.SEARCH.FEAT_SIZE=9", "sixteenth"),
        (LIGHTNING, "MODEL.BACKBONE.DILATION=true", "ResNets"),
        (LIGHTNING, "MODEL.BACKBONE.OUTPUT_LAYERS=[stage2]", "stage3"),
        (LIGHTNING, "DATA.SEARCH.SIZE=100", "divisible by 16"),
        (LIGHTNING, "TEST.SEARCH_SIZE=64", "TEST.SEARCH_SIZE"),
        ("stark_s", "TRAIN.FREEZE_LAYERS=[conv1, layre1]", "layre1"),
        ("stark_s", "MODEL.HEAD_TYPE=CENTER", "CENTER"),
        ("stark_s", "MODEL.BACKBONE.DILATION=true", "bottleneck"),
    ],
)
def test_contradictory_options_are_refused(script, override, message):
    with pytest.raises(ConfigError, match=message):
        small_model(script, override)


@torch.no_grad()
def test_boxes_are_computed_in_full_precision_under_autocast():
    model = small_model(LIGHTNING).eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*inputs(LIGHTNING))
    corners = torch.cat([m.float().softmax(-1) @ model.box_head.points for m in out["corner_maps"]], dim=-1)
    torch.testing.assert_close(xyxy_to_cxcywh(corners)[:, None], out["pred_boxes"])


@torch.no_grad()
def test_layers_that_norm_first_agree_with_torchs():
    torch.manual_seed(4)
    x, memory, target = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.randn(2, 3, 16)
    ours = EncoderLayer(16, 2, 32, 0.0, pre_norm=True), DecoderLayer(16, 2, 32, 0.0, pre_norm=True)
    kinds = torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer
    theirs = [kind(16, 2, 32, 0.0, batch_first=True, norm_first=True) for kind in kinds]
    for mine, other in zip(ours, theirs, strict=True):
        other.load_state_dict(mine.state_dict())
    torch.testing.assert_close(ours[0](x, None, 0), theirs[0](x), atol=1e-5, rtol=1e-5)
    found = ours[1](target, memory, None, 0, torch.zeros(3, 16))
    torch.testing.assert_close(found, theirs[1](target, memory), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("name", "dilation"), [("resnet34", False), ("resnet50", True)])
def test_names_and_outputs_are_torchvisions(name, dilation):
    options = {"norm_layer": FrozenBatchNorm2d, "replace_stride_with_dilation": [False, dilation, False]}
    full, body = fill(getattr(resnet, name)(weights=None, **options)), ResNetBody(name, dilation)
    theirs = {key: value for key, value in full.state_dict().items() if not key.startswith(("layer4", "fc"))}
    assert list(body.state_dict()) == list(theirs)
    body.load_state_dict(theirs | {"bn1.num_batches_tracked": torch.tensor(3)})  # which other norms count
    image = torch.randn(1, 3, 64, 96)
    expected = full.maxpool(full.relu(full.bn1(full.conv1(image))))
    expected = full.layer3(full.layer2(full.layer1(expected)))
    assert expected.shape[1] == body.channels
    assert torch.allclose(body(image), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_only_the_named_stages_of_the_backbone_learn():
    cfg = load_config(LIGHTNING, "mini")
    body = build_model(LIGHTNING, cfg).backbone.body
    learning = {name.rsplit(".", 2)[0] for name, p in body.named_parameters() if p.requires_grad}
    assert learning == set(cfg.TRAIN.BACKBONE_TRAINED_LAYERS)


def test_a_head_starts_with_the_usual_box_and_its_window_prefers_the_middle_but_not_while_learning():
    head = CenterPredictor(8, 8, 6, 0.25, window=0.5)
    assert torch.allclose(head.cells(torch.randn(1, 8, 6, 6))[1][0, 8], torch.tensor((2.5 / 6, 1.5 / 6, 0.25, 0.25)))
    scores, boxes = torch.zeros(1, 36), torch.arange(36.0)[None, :, None].expand(1, 36, 4)
    scores[0, 0], scores[0, 21] = 50, 49
    assert head.eval().best(scores, boxes)[0][0, 0] == pytest.approx(21)
    assert head.train().best(scores, boxes)[0][0, 0] == pytest.approx(0)


def test_the_centres_target_is_a_distribution_about_the_centre_which_the_loss_wants():
    truth = torch.tensor(((0.1, 0.5, 0.3, 0.9), (0.6, 0.6, 0.6, 0.6)))  # the second has no area
    target = center_target(truth, 10).view(2, 10, 10)
    assert torch.allclose(target.sum((1, 2)), torch.ones(2))
    cells = (torch.arange(10) + 0.5) / 10
    assert (target[0].sum(0) * cells).sum() == pytest.approx(0.2, abs=0.01)  # x
    assert (target[0].sum(1) * cells).sum() == pytest.approx(0.7, abs=0.01)  # y

    def loss(scores, boxes):
        output = {"scores": scores, "cell_boxes": boxes, "pred_boxes": boxes[:, :1]}
        return center_losses(output, truth[:1], 2.0, 5.0, 1.0)[0]

    scores, right = 10 * center_target(truth[:1], 10), torch.tensor((0.2, 0.7, 0.2, 0.4)).expand(1, 100, 4)
    assert loss(scores, right) < min(loss(scores, right + 0.05), loss(scores.roll(33, 1), right))


def test_a_jitter_of_higher_power_stays_nearer_with_the_same_reach():
    for power, median in ((1.0, 10), (3.0, 20 / 8)):
        rng, box = np.random.default_rng(0), np.array((0.0, 0.0, 10.0, 10.0))
        offsets = np.abs([jitter_box(box, 4.0, 0.0, rng, power)[:2] for _ in range(2000)])
        assert 19 < offsets.max() <= 20  # half of 4 times the side
        assert np.median(offsets) == pytest.approx(median, rel=0.2)
