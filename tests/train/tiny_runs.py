"""Training runs of a second or two."""

from lib.train.options import RunOptions

# A network of each kind, small enough for a test.
TINY = (
    "MODEL.BACKBONE.PRETRAINED=false",
    "DATA.TEMPLATE.SIZE=64",
    "DATA.SEARCH.SIZE=128",
    "DATA.MAX_SAMPLE_INTERVAL={interval}",
    "DATA.TRAIN.DATASETS_NAME=[{data}]",
    "DATA.TRAIN.DATASETS_RATIO=[1]",
    "DATA.TRAIN.SAMPLE_PER_EPOCH=8",
    "DATA.VAL.DATASETS_NAME=[{data}]",
    "DATA.VAL.SAMPLE_PER_EPOCH=4",
    "TRAIN.BATCH_SIZE=4",
    "TRAIN.NUM_WORKER=0",
    "TRAIN.EPOCH=2",
    "TRAIN.VAL_EPOCH_INTERVAL=1",
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


def folder_of(run):
    return run.save_dir / "checkpoints" / "train" / run.script / run.config
