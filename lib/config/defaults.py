"""The one place where options and their defaults are written.

`published(script)` gives the tree of options that the published experiments of a script have;
every one is present in every configuration. `EXTENSIONS` are options beyond them: a configuration
holds one only where a YAML file or an override sets it, and code reads it with
`lib.config.option(cfg, "KEY.PATH")`, which falls back to the default written here.
"""

import math
from typing import Any

SCRIPTS = ("stark_s", "stark_st1", "stark_st2", "stark_lightning_X_trt", "alpha_refine")

# Options beyond the published ones: key path -> (default, what it does).
EXTENSIONS: dict[str, tuple[Any, str]] = {
    "DATA.GRAY_PROBABILITY": (0.05, "chance that all crops of a sample become grey"),
    "DATA.BRIGHTNESS_JITTER": (0.2, "brightness factor is drawn from [1 - j, 1 + j] per crop"),
    "DATA.CENTER_JITTER_POWER": (
        1.0,
        "above 1 small offsets of a region's centre become more frequent than large ones",
    ),
    "MODEL.BACKBONE.PRETRAINED": (True, "start the backbone from ImageNet weights"),
    "MODEL.BACKBONE.DTYPE": ("fp32", "arithmetic of the backbone: fp32, bf16, or auto (bf16 where it is fast)"),
    "MODEL.CORRELATION": (False, "Lightning's search tokens are told their likeness to each template token"),
    "MODEL.HEAD_DIM": (256, "channels of the corner head's first layer"),
    "MODEL.TRANSFORMER.ENC_LAYERS": (1, "encoder layers of the Lightning variant"),
    "TEST.WINDOW": (0.0, "how much the head CENTER prefers the middle of the search region at test: 0 not at all"),
    "TRAIN.CENTER_WEIGHT": (1.0, "weight of the loss on where the centre is, with the head CENTER"),
    "TRAIN.ACCUM_STEPS": (1, "batches whose gradients make one step: as if the batch were so many times larger"),
    "TRAIN.AMP": (False, "automatic mixed precision: off, bf16 or fp16 (which true means, too)"),
    "TRAIN.COMPILE": (
        False,
        "compile the network: off, default, reduce-overhead (CUDA graphs) or max-autotune; needs a C++ compiler",
    ),
    "TRAIN.KEEP_CHECKPOINTS": (0, "how many of the checkpoints that stay are kept, the newest; 0: all"),
    "TRAIN.KEEP_EVERY": (100, "epochs between checkpoints that stay"),
    "TRAIN.KEEP_LAST": (10, "epochs at the end of a run whose checkpoints stay"),
    "TRAIN.SAVE_EVERY_STEPS": (0, "steps between savings within an epoch; 0: only after each epoch"),
    "TRAIN.SEED": (42, "seed of the run"),
    "TRAIN.TF32": (False, "on CUDA compute fp32 products in TF32, with ten bits of mantissa"),
}

# Where only certain values make sense. Key path -> allowed values.
CHOICES: dict[str, tuple[Any, ...]] = {
    "DATA.SAMPLER_MODE": ("causal", "trident", "trident_pro", "stark"),
    "MODEL.BACKBONE.DTYPE": ("fp32", "bf16", "auto"),
    "MODEL.BACKBONE.TYPE": (
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "RepVGG-A0",
        "EfficientNet-Lite0",
    ),
    "MODEL.HEAD_TYPE": ("CORNER", "MLP", "CORNER_LITE", "CORNER_LITE_REP", "CORNER_LITE_REP_v2", "CENTER"),
    "MODEL.POSITION_EMBEDDING": ("sine", "learned", "none"),
    "MODEL.PREDICT_MASK": (False,),
    "TRAIN.AMP": (False, True, "off", "bf16", "fp16"),
    "TRAIN.COMPILE": (False, "off", "default", "reduce-overhead", "max-autotune"),
    "TRAIN.DEEP_SUPERVISION": (False,),
    "TRAIN.DISTILL_LOSS_TYPE": ("KL", "L1"),
    "TRAIN.OPTIMIZER": ("ADAMW",),
    "TRAIN.SCHEDULER.TYPE": ("step", "cosine"),
}

ANY = math.inf
_REGION = {"SIZE": 32, "FACTOR": 0.1, "CENTER_JITTER": 0, "SCALE_JITTER": 0, "FEAT_SIZE": 1, "NUMBER": 1}
# Least and greatest value of numbers, of each item in lists. TEST.UPDATE_INTERVALS stands for all its keys.
RANGES: dict[str, tuple[float, float]] = {
    "DATA.GRAY_PROBABILITY": (0, 1),
    "DATA.BRIGHTNESS_JITTER": (0, 1),
    "DATA.CENTER_JITTER_POWER": (0.1, ANY),
    "DATA.MAX_SAMPLE_INTERVAL": (1, ANY),
    "DATA.STD": (1e-6, ANY),
    "DATA.TRAIN.DATASETS_RATIO": (0, ANY),
    "DATA.TRAIN.SAMPLE_PER_EPOCH": (1, ANY),
    "DATA.VAL.DATASETS_RATIO": (0, ANY),
    "DATA.VAL.SAMPLE_PER_EPOCH": (1, ANY),
    **{f"DATA.SEARCH.{key}": (least, ANY) for key, least in _REGION.items()},
    **{f"DATA.TEMPLATE.{key}": (least, ANY) for key, least in _REGION.items()},
    "MODEL.BACKBONE.LAST_STAGE_BLOCK": (1, ANY),
    "MODEL.HEAD_DIM": (8, ANY),
    "MODEL.HIDDEN_DIM": (8, ANY),
    "MODEL.NLAYER_HEAD": (1, ANY),
    "MODEL.NUM_OBJECT_QUERIES": (1, ANY),
    "MODEL.TRANSFORMER.DEC_LAYERS": (1, ANY),
    "MODEL.TRANSFORMER.DIM_FEEDFORWARD": (1, ANY),
    "MODEL.TRANSFORMER.DROPOUT": (0, 1),
    "MODEL.TRANSFORMER.ENC_LAYERS": (1, ANY),
    "MODEL.TRANSFORMER.NHEADS": (1, ANY),
    "TEST.EPOCH": (1, ANY),
    "TEST.MASK_THRESHOLD": (0, 1),
    "TEST.SEARCH_FACTOR": (0.1, ANY),
    "TEST.TEMPLATE_FACTOR": (0.1, ANY),
    "TEST.UPDATE_INTERVALS": (1, ANY),
    "TRAIN.ACCUM_STEPS": (1, ANY),
    "TRAIN.BACKBONE_MULTIPLIER": (0, ANY),
    "TRAIN.BATCH_SIZE": (1, ANY),
    "TEST.WINDOW": (0, ANY),
    "TRAIN.CENTER_WEIGHT": (0, ANY),
    "TRAIN.EPOCH": (1, ANY),
    "TRAIN.GIOU_WEIGHT": (0, ANY),
    "TRAIN.GRAD_CLIP_NORM": (0, ANY),
    "TRAIN.KEEP_CHECKPOINTS": (0, ANY),
    "TRAIN.KEEP_EVERY": (1, ANY),
    "TRAIN.KEEP_LAST": (1, ANY),
    "TRAIN.L1_WEIGHT": (0, ANY),
    "TRAIN.LR": (0, ANY),
    "TRAIN.LR_DROP_EPOCH": (1, ANY),
    "TRAIN.NUM_WORKER": (0, ANY),
    "TRAIN.PRINT_INTERVAL": (1, ANY),
    "TRAIN.SAVE_EVERY_STEPS": (0, ANY),
    "TRAIN.SCHEDULER.DECAY_RATE": (0, 1),
    "TRAIN.SEED": (0, 2**63 - 1),
    "TRAIN.VAL_EPOCH_INTERVAL": (1, ANY),
    "TRAIN.WEIGHT_DECAY": (0, ANY),
}
# Lists of a fixed length.
LENGTHS = {"DATA.MEAN": 3, "DATA.STD": 3}


def published(script: str) -> dict[str, Any]:
    """The options that every configuration of a script has, with their defaults (a fresh tree)."""
    if script == "alpha_refine":
        return _alpha_refine()
    lightning, two_templates = script == "stark_lightning_X_trt", script in ("stark_st1", "stark_st2")
    tree: dict[str, Any] = {
        "MODEL": _lightning_model() if lightning else _spatial_model(),
        "DATA": _data(),
        "TRAIN": _train(),
        "TEST": {
            "TEMPLATE_FACTOR": 2.0,
            "TEMPLATE_SIZE": 128,
            "SEARCH_FACTOR": 5.0,
            "SEARCH_SIZE": 320,
            "EPOCH": 500,
        },
    }
    if lightning:
        del tree["TRAIN"]["FREEZE_LAYERS"]
        tree["DATA"]["SEARCH"]["FEAT_SIZE"] = 20
        tree["DATA"]["TEMPLATE"]["FEAT_SIZE"] = 8
        tree["TRAIN"] |= {
            "AMP": False,
            "BACKBONE_TRAINED_LAYERS": ["stage1", "stage2", "stage3"],
            "DISTILL": False,
            "DISTILL_LOSS_TYPE": "KL",
        }
    if two_templates:
        tree["MODEL"]["NLAYER_HEAD"] = 3
        tree["MODEL"]["BACKBONE"]["STRIDE"] = 16
        tree["DATA"] |= {"SAMPLER_MODE": "trident_pro", "MAX_SAMPLE_INTERVAL": [200]}
        tree["DATA"]["SEARCH"]["NUMBER"] = 1
        tree["DATA"]["TEMPLATE"]["NUMBER"] = 2
    if script == "stark_st1":
        del tree["TEST"]
    if script == "stark_st2":
        tree["TRAIN"] |= {"TRAIN_CLS": True, "EPOCH": 50, "LR_DROP_EPOCH": 40, "VAL_EPOCH_INTERVAL": 10}
        tree["TEST"] |= {"EPOCH": 50, "UPDATE_INTERVALS": _update_intervals()}
    return tree


def _spatial_model() -> dict[str, Any]:
    """STARK-S and STARK-ST: ResNet, encoder-decoder transformer, corner head."""
    return {
        "HEAD_TYPE": "CORNER",
        "HIDDEN_DIM": 256,
        "NUM_OBJECT_QUERIES": 1,
        "POSITION_EMBEDDING": "sine",
        "PREDICT_MASK": False,
        "BACKBONE": {"TYPE": "resnet50", "OUTPUT_LAYERS": ["layer3"], "DILATION": False},
        "TRANSFORMER": {
            "NHEADS": 8,
            "DROPOUT": 0.1,
            "DIM_FEEDFORWARD": 2048,
            "ENC_LAYERS": 6,
            "DEC_LAYERS": 6,
            "PRE_NORM": False,
            "DIVIDE_NORM": False,
        },
    }


def _lightning_model() -> dict[str, Any]:
    """STARK-Lightning: RepVGG, one encoder layer, light corner head."""
    return {
        "HEAD_TYPE": "CORNER_LITE_REP_v2",
        "HEAD_DIM": 128,
        "HIDDEN_DIM": 128,
        "BACKBONE": {
            "TYPE": "RepVGG-A0",
            "OUTPUT_LAYERS": ["stage3"],
            "DILATION": False,
            "LAST_STAGE_BLOCK": 4,
        },
        "TRANSFORMER": {"NHEADS": 8, "DROPOUT": 0.1, "DIM_FEEDFORWARD": 1024},
    }


def _alpha_refine() -> dict[str, Any]:
    """The mask head for VOT2020. Here the template is the reference, the search region the crop about a frame's box."""
    region = {"SIZE": 384, "CENTER_JITTER": 0.25, "SCALE_JITTER": 0.25}
    kept = ("WEIGHT_DECAY", "NUM_WORKER", "OPTIMIZER", "BACKBONE_MULTIPLIER", "PRINT_INTERVAL", "SCHEDULER")
    return {
        "MODEL": {"BACKBONE": {"TYPE": "resnet50"}},
        "DATA": {
            **{key: value for key, value in _data().items() if key in ("MEAN", "STD")},
            "MAX_SAMPLE_INTERVAL": 50,
            "TRAIN": {
                "DATASETS_NAME": ["COCO17_masks", "YOUTUBE_VOS", "DAVIS17_train"],
                "DATASETS_RATIO": [2, 2, 1],
                "SAMPLE_PER_EPOCH": 32000,
            },
            "VAL": {"DATASETS_NAME": ["DAVIS17_val"], "DATASETS_RATIO": [1], "SAMPLE_PER_EPOCH": 2000},
            "SEARCH": dict(region),
            "TEMPLATE": region | {"CENTER_JITTER": 0.0, "SCALE_JITTER": 0.0},
        },
        "TRAIN": {
            **{key: value for key, value in _train().items() if key in kept},
            "LR": 0.0002,
            "EPOCH": 40,
            "LR_DROP_EPOCH": 30,
            "BATCH_SIZE": 32,
            "FREEZE_BACKBONE_BN": True,
            "VAL_EPOCH_INTERVAL": 5,
            "GRAD_CLIP_NORM": 0.1,
        },
        "TEST": {"EPOCH": 40, "MASK_THRESHOLD": 0.65},
    }


def _data() -> dict[str, Any]:
    return {
        "MEAN": [0.485, 0.456, 0.406],
        "STD": [0.229, 0.224, 0.225],
        "MAX_SAMPLE_INTERVAL": 200,
        "TRAIN": {
            "DATASETS_NAME": ["LASOT", "GOT10K_vottrain", "COCO17", "TRACKINGNET"],
            "DATASETS_RATIO": [1, 1, 1, 1],
            "SAMPLE_PER_EPOCH": 60000,
        },
        "VAL": {"DATASETS_NAME": ["GOT10K_votval"], "DATASETS_RATIO": [1], "SAMPLE_PER_EPOCH": 10000},
        "SEARCH": {"SIZE": 320, "FACTOR": 5.0, "CENTER_JITTER": 4.5, "SCALE_JITTER": 0.5},
        "TEMPLATE": {"SIZE": 128, "FACTOR": 2.0, "CENTER_JITTER": 0, "SCALE_JITTER": 0},
    }


def _train() -> dict[str, Any]:
    return {
        "LR": 0.0001,
        "WEIGHT_DECAY": 0.0001,
        "EPOCH": 500,
        "LR_DROP_EPOCH": 400,
        "BATCH_SIZE": 16,
        "NUM_WORKER": 8,
        "OPTIMIZER": "ADAMW",
        "BACKBONE_MULTIPLIER": 0.1,
        "GIOU_WEIGHT": 2.0,
        "L1_WEIGHT": 5.0,
        "DEEP_SUPERVISION": False,
        "FREEZE_BACKBONE_BN": True,
        "FREEZE_LAYERS": ["conv1", "layer1"],
        "PRINT_INTERVAL": 50,
        "VAL_EPOCH_INTERVAL": 20,
        "GRAD_CLIP_NORM": 0.1,
        "SCHEDULER": {"TYPE": "step", "DECAY_RATE": 0.1},
    }


def _update_intervals() -> dict[str, list[int]]:
    """Frames between replacements of the dynamic template, by test set."""
    return {"LASOT": [200], "GOT10K_TEST": [200], "TRACKINGNET": [200], "VOT20": [200], "VOT20LT": [200]}
