"""Small students and teachers."""

import torch
import yaml

from lib.config import load_config
from lib.models import build_model
from lib.train.distillation import DistillActor, Teacher
from lib.train.options import Stage
from lib.utils.checkpoint import save_checkpoint, to_plain
from tests.train.tiny_runs import overrides

CPU = torch.device("cpu")
LIGHTNING, LIGHTNING_CONFIG = "stark_lightning_X_trt", "baseline_rephead_4_lite_search5"
THIN = ("MODEL.HIDDEN_DIM=32", "MODEL.HEAD_DIM=16", "MODEL.TRANSFORMER.DIM_FEEDFORWARD=64")


def configured(script, **more):
    name = LIGHTNING_CONFIG if script == LIGHTNING else "baseline"
    return load_config(script, name, overrides(script, "-", *THIN, *(f"{key}={value}" for key, value in more.items())))


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


def actor(**more):
    net, cfg = student(**more)
    return DistillActor(net, cfg, CPU, teacher())


def trained(folder, script="stark_s", net_type="STARKS"):
    """A stage whose configuration is a file and whose weights are random, as after training."""
    cfg = configured(script)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(to_plain(dict(cfg))))
    torch.manual_seed(4)
    net = decided(build_model(script, cfg))
    path = folder / "checkpoints" / "train" / script / "tiny" / f"{net_type}_ep0003.pth.tar"
    save_checkpoint(path, {"epoch": 3, "net": net.state_dict()})
    return Stage(script, str(folder / "tiny.yaml")), net.eval(), path
