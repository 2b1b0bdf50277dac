"""Small students and teachers."""

import functools

import torch
import yaml

from lib.config import load_config
from lib.models import build_model
from lib.train.distillation import DistillActor, Teacher
from lib.train.options import Stage
from lib.utils.checkpoint import save_checkpoint

CPU = torch.device("cpu")
LIGHTNING, LIGHTNING_CONFIG = "stark_lightning_X_trt", "baseline_rephead_4_lite_search5"
REGIONS = {"DATA.SEARCH.SIZE": 96, "DATA.TEMPLATE.SIZE": 32, "TEST.SEARCH_SIZE": 96, "TEST.TEMPLATE_SIZE": 32}
THIN = {"MODEL.HIDDEN_DIM": 32, "MODEL.HEAD_DIM": 16, "MODEL.TRANSFORMER.DIM_FEEDFORWARD": 64}
SPATIAL = {
    **REGIONS,
    **THIN,
    "MODEL.BACKBONE.TYPE": "resnet18",
    "MODEL.TRANSFORMER.ENC_LAYERS": 1,
    "MODEL.TRANSFORMER.DEC_LAYERS": 1,
}
LIGHT = {
    **REGIONS,
    **THIN,
    "MODEL.BACKBONE.LAST_STAGE_BLOCK": 1,
    "DATA.SEARCH.FEAT_SIZE": 6,
    "DATA.TEMPLATE.FEAT_SIZE": 2,
    "DATA.MAX_SAMPLE_INTERVAL": 20,
    "TRAIN.LR": 0.001,
}


def options_of(script):
    if script == LIGHTNING:
        return LIGHT
    # The first stage has no options for testing.
    return {key: value for key, value in SPATIAL.items() if script != "stark_st1" or not key.startswith("TEST.")}


def configured(script, **more):
    name = LIGHTNING_CONFIG if script == LIGHTNING else "baseline"
    return load_config(script, name, [f"{key}={value}" for key, value in (options_of(script) | more).items()])


def student(**more):
    torch.manual_seed(1)
    cfg = configured(LIGHTNING, **more)
    return build_model(LIGHTNING, cfg), cfg


def decided(net):
    """The network with corner maps that have a peak, as a trained one's have."""
    for name, parameter in net.named_parameters():
        if name.startswith("box_head.conv5_"):
            parameter.data *= 30
    return net


def teacher(script="stark_s", **more):
    torch.manual_seed(2)
    cfg = configured(script, **more)
    return Teacher(decided(build_model(script, cfg)), cfg, CPU)


def actor(kind="KL", **more):
    net, cfg = student(**{"TRAIN.DISTILL_LOSS_TYPE": kind} | more)
    return DistillActor(net, cfg, CPU, teacher())


def trained(folder, script="stark_s", net_type="STARKS"):
    """A stage whose configuration is a file and whose weights are random, as after training."""
    tree = {}
    for key, value in options_of(script).items():
        *parents, last = key.split(".")
        functools.reduce(lambda node, part: node.setdefault(part, {}), parents, tree)[last] = value
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree))
    stage = Stage(script, str(folder / "tiny.yaml"))
    torch.manual_seed(4)
    net = decided(build_model(script, load_config(stage.script, stage.config)))
    path = folder / "checkpoints" / "train" / script / "tiny" / f"{net_type}_ep0003.pth.tar"
    path.parent.mkdir(parents=True)
    save_checkpoint(path, {"epoch": 3, "net": net.state_dict()})
    return stage, net.eval(), path
