"""Training runs of a second or two."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from lib.train.options import RunOptions
from lib.utils.workspace import REPOSITORY

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
    return RunOptions(
        script, config, save_dir, device="cpu", overrides=overrides(script, f"FOLDER:{videos}", *more), **stage
    )


def lightning(videos, save_dir, *more):
    return options("stark_lightning_X_trt", videos, save_dir, *more, config="baseline_rephead_4_lite_search5")


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
