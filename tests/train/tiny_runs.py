"""Small data sets, runs of a second or two, students and teachers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

from lib.config import load_config
from lib.data.dataset import SequenceInfo, TrackingDataset
from lib.data.images import ImageReadError, Picture
from lib.models import build_model
from lib.train.losses import DistillActor, Teacher
from lib.train.options import CheckpointFolder, RunOptions, Stage
from lib.utils.checkpoint import save_checkpoint, to_plain
from lib.utils.workspace import REPOSITORY


def extent(mask):
    """[x1, y1, x2, y2] of the true pixels of a mask (H, W), the right and lower ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


class FakeVideos(TrackingDataset):
    """Sequences of a bright square that moves over a dark picture.

    Args:
        visible: a list a sequence, whether the object can be seen in each frame.
        broken: (sequence, frame) pairs that cannot be read.
    """

    def __init__(self, visible, name="fake", is_video=True, broken=(), size=(120, 160)):
        self.visible = [np.asarray(v, bool) for v in visible]
        self.name, self.is_video, self.broken, self.size = name, is_video, set(broken), size

    def __len__(self):
        return len(self.visible)

    def info(self, sequence):
        seen = self.visible[sequence]
        x = 20 + 2.0 * np.arange(len(seen))
        boxes = np.stack([x, np.full_like(x, 30), np.full_like(x, 24), np.full_like(x, 18)], 1).astype(np.float32)
        return SequenceInfo(boxes, np.ones(len(seen), bool), seen)

    def image(self, sequence, frame):
        if (sequence, frame) in self.broken:
            raise ImageReadError(f"cannot decode image {self.source(sequence, frame)}")
        image = np.full((*self.size, 3), 20, np.uint8)
        x, y, w, h = self.info(sequence).boxes[frame].astype(int)
        image[y : y + h, x : x + w] = (200, 120, (60 + 10 * sequence) % 200)
        return image

    def picture(self, sequence, frame):
        return Picture(self.image(sequence, frame))

    def frame_path(self, sequence, frame):
        return f"{self.name}/{sequence}/{frame}.jpg"

    source = frame_path

    def files(self):
        return iter(())


REAL = Path(os.environ.get("STARK_REAL_DATA", REPOSITORY.parent / "shared" / "real"))
NO_VALIDATION = "DATA.VAL.DATASETS_NAME=[]"

# The network's class of `lightning`.
NAME = "STARKLightningXtrt"

# A network of each kind, small enough for a test.
TINY = (
    *("MODEL.BACKBONE.PRETRAINED=false", "DATA.TEMPLATE.SIZE=64", "DATA.SEARCH.SIZE=128"),
    *("DATA.MAX_SAMPLE_INTERVAL={interval}", "DATA.TRAIN.DATASETS_NAME=[{data}]", "DATA.TRAIN.DATASETS_RATIO=[1]"),
    *("DATA.TRAIN.SAMPLE_PER_EPOCH=8", "DATA.VAL.DATASETS_NAME=[{data}]", "DATA.VAL.SAMPLE_PER_EPOCH=4"),
    *("TRAIN.BATCH_SIZE=4", "TRAIN.NUM_WORKER=0", "TRAIN.EPOCH=2", "TRAIN.VAL_EPOCH_INTERVAL=1"),
)
SPATIAL = ("MODEL.BACKBONE.TYPE=resnet18", "MODEL.TRANSFORMER.ENC_LAYERS=1", "MODEL.TRANSFORMER.DEC_LAYERS=1")
LIGHT = ("DATA.SEARCH.FEAT_SIZE=8", "DATA.TEMPLATE.FEAT_SIZE=4", "TRAIN.LR=0.001")


def overrides(script, data, *more):
    small = LIGHT if script == "stark_lightning_X_trt" else SPATIAL
    small += () if script == "stark_st1" else ("TEST.SEARCH_SIZE=128", "TEST.TEMPLATE_SIZE=64")
    interval = "[20]" if script in ("stark_st1", "stark_st2") else "20"
    return (*(text.format(interval=interval, data=data) for text in TINY), *small, *more)


def options(script, videos, save_dir, *more, config="baseline", **stage):
    chosen = overrides(script, f"FOLDER:{videos}", *more)
    return RunOptions(script, config, save_dir, device="cpu", overrides=chosen, **stage)


def lightning(videos, save_dir, *more):
    return options("stark_lightning_X_trt", videos, save_dir, *more, config="baseline_rephead_4_lite_search5")


def checkpoints_in(folder, **keep):
    """The checkpoints of a run of 20 epochs under a folder; `keep` are EVERY, LAST, CHECKPOINTS."""
    chosen = tuple(f"TRAIN.KEEP_{what}={number}" for what, number in keep.items())
    run = RunOptions("stark_s", "baseline", folder, overrides=("TRAIN.EPOCH=20", *chosen))
    return CheckpointFolder(run, load_config(run.script, run.config, run.overrides))


def state(epoch, **more):
    """A checkpoint that a run could go on from, but for its weights."""
    optimizer = {"state": {}, "param_groups": []}
    return {"net": {"w": torch.zeros(1)}, "epoch": epoch, "stats": {}, "optimizer": optimizer} | more


def several(processes):
    """Options of train.py."""
    return ("--mode", "multiple", "--nproc_per_node", str(processes)) if processes > 1 else ()


def command(run, *more):
    """The run as a command line."""
    words = [sys.executable, str(REPOSITORY / "tracking" / "train.py"), "--script", run.script, "--config", run.config]
    return [*words, "--save_dir", str(run.save_dir), "--device", "cpu", *more, "--opts", *run.overrides]


def complete(run, *more):
    """Run the command to its end; gives its standard output."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command(run, *more), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def log_of(run, suffix):
    """The run's file in logs/."""
    return run.save_dir / "logs" / f"{run.script}-{run.name}.{suffix}"


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
