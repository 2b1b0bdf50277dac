"""The table of options: each one stands here once, with default, limits and meaning.

A configuration holds every option of its script. Options that are `optional` for a script are in a configuration only
where a file or an override sets them; `lib.config.option(cfg, "KEY.PATH")` falls back to their default.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..utils.checkpoint_files import NET_TYPES

SCRIPTS = tuple(NET_TYPES)
S, ST1, ST2, LIGHTNING, REFINE = "stark_s", "stark_st1", "stark_st2", "stark_lightning_X_trt", "alpha_refine"
# Scripts that share options; those of TESTED have a tracker.
SPATIAL = (S, ST1, ST2)
TRACKERS = (*SPATIAL, LIGHTNING)
TESTED = (S, ST2, LIGHTNING)
# The section that users may extend by test sets of their own.
OPEN_SECTION = "TEST.UPDATE_INTERVALS"


@dataclass(frozen=True)
class Option:
    """One option; the type of its default is its kind, and items of a list have the kind of the first."""

    key: str
    default: Any
    help: str
    scripts: tuple[str, ...] = SCRIPTS  # that always have it
    by_script: dict[str, Any] = field(default_factory=dict)  # defaults that differ
    low: float = -math.inf
    high: float = math.inf
    choices: tuple = ()  # of a value, or of the items of a list; empty: any
    length: int = 0  # of a list; 0: any
    filled: bool = False  # the list may not be empty
    fractions: bool = False  # the default is whole, values may be fractions
    optional: bool = False  # scripts that do not always have it may set it

    def default_of(self, script: str) -> Any:
        return self.by_script.get(script, self.default)

    @property
    def fallback(self) -> Any:
        """Default for a configuration without the option: of a script that does not always have it."""
        return next((value for script, value in self.by_script.items() if script not in self.scripts), self.default)


# An option beyond the published ones.
_extra = partial(Option, scripts=(), optional=True)

_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "RepVGG-A0", "EfficientNet-Lite0")
_HEADS = ("CORNER", "MLP", "CORNER_LITE", "CORNER_LITE_REP", "CORNER_LITE_REP_v2", "CENTER")
_LITE = {LIGHTNING: 128}
_SAMPLERS = ("causal", "trident", "trident_pro", "stark")
_INTERVALS = {ST1: [200], ST2: [200], REFINE: 50}
_BOX_SETS = ["LASOT", "GOT10K_vottrain", "COCO17", "TRACKINGNET"]
_MASK_SETS = ["COCO17_masks", "YOUTUBE_VOS", "DAVIS17_train"]
_LOGGERS = ("tensorboard", "wandb", "mlflow")
_COMPILE = (False, "off", "default", "reduce-overhead", "max-autotune")

_TABLE = (
    Option("MODEL.HEAD_TYPE", "CORNER", "box head", TRACKERS, {LIGHTNING: "CORNER_LITE_REP_v2"}, choices=_HEADS),
    Option("MODEL.HEAD_DIM", 256, "channels of the head's first layer", (LIGHTNING,), _LITE, low=8, optional=True),
    Option("MODEL.HIDDEN_DIM", 256, "channels of the transformer", TRACKERS, _LITE, low=8),
    Option("MODEL.NUM_OBJECT_QUERIES", 1, "decoder queries", SPATIAL, low=1),
    Option("MODEL.NLAYER_HEAD", 3, "layers of the score head", (ST1, ST2), low=1),
    Option("MODEL.POSITION_EMBEDDING", "sine", "positions of tokens", SPATIAL, choices=("sine", "learned")),
    Option("MODEL.PREDICT_MASK", False, "published, never in use", SPATIAL, choices=(False,)),
    _extra("MODEL.CORRELATION", False, "give Lightning's search tokens their likeness to each template token"),
    Option("MODEL.BACKBONE.TYPE", "resnet50", "network", by_script={LIGHTNING: "RepVGG-A0"}, choices=_BACKBONES),
    Option("MODEL.BACKBONE.OUTPUT_LAYERS", ["layer3"], "layer that is used", TRACKERS, {LIGHTNING: ["stage3"]}),
    Option("MODEL.BACKBONE.DILATION", False, "dilation in place of the last stride", TRACKERS),
    Option("MODEL.BACKBONE.STRIDE", 16, "published, without effect", (ST1, ST2)),
    Option("MODEL.BACKBONE.LAST_STAGE_BLOCK", 4, "blocks of RepVGG's last stage", (LIGHTNING,), low=1),
    _extra("MODEL.BACKBONE.PRETRAINED", True, "start the backbone from ImageNet weights"),
    _extra("MODEL.BACKBONE.DTYPE", "fp32", "auto: bf16 where it is fast", choices=("fp32", "bf16", "auto")),
    Option("MODEL.TRANSFORMER.NHEADS", 8, "attention heads", TRACKERS, low=1),
    Option("MODEL.TRANSFORMER.DROPOUT", 0.1, "dropout", TRACKERS, low=0, high=1),
    Option("MODEL.TRANSFORMER.DIM_FEEDFORWARD", 2048, "width of the FFN", TRACKERS, {LIGHTNING: 1024}, low=1),
    Option("MODEL.TRANSFORMER.ENC_LAYERS", 6, "encoder layers", SPATIAL, {LIGHTNING: 1}, low=1, optional=True),
    Option("MODEL.TRANSFORMER.DEC_LAYERS", 6, "decoder layers", SPATIAL, low=1),
    Option("MODEL.TRANSFORMER.PRE_NORM", False, "normalise before each layer, not after", SPATIAL),
    Option("MODEL.TRANSFORMER.DIVIDE_NORM", False, "published, never in use", SPATIAL, choices=(False,)),
    Option("DATA.MEAN", [0.485, 0.456, 0.406], "mean of pixels, RGB in 0..1", length=3),
    Option("DATA.STD", [0.229, 0.224, 0.225], "deviation of pixels", length=3, low=1e-6),
    Option("DATA.MAX_SAMPLE_INTERVAL", 200, "of frames of a sample", by_script=_INTERVALS, low=1, filled=True),
    Option("DATA.SAMPLER_MODE", "trident_pro", "how frames are chosen", (ST1, ST2), choices=_SAMPLERS),
    Option("DATA.TRAIN.DATASETS_NAME", _BOX_SETS, "training sets", by_script={REFINE: _MASK_SETS}),
    Option("DATA.TRAIN.DATASETS_RATIO", [1] * 4, "weights", by_script={REFINE: [2, 2, 1]}, low=0, fractions=True),
    Option("DATA.TRAIN.SAMPLE_PER_EPOCH", 60000, "samples of all ranks", by_script={REFINE: 32000}, low=1),
    Option("DATA.VAL.DATASETS_NAME", ["GOT10K_votval"], "validation sets", by_script={REFINE: ["DAVIS17_val"]}),
    Option("DATA.VAL.DATASETS_RATIO", [1], "weights", low=0, fractions=True),
    Option("DATA.VAL.SAMPLE_PER_EPOCH", 10000, "samples of all ranks", by_script={REFINE: 2000}, low=1),
    Option("DATA.SEARCH.SIZE", 320, "pixels of the crop's side", by_script={REFINE: 384}, low=32),
    Option("DATA.SEARCH.FACTOR", 5.0, "side of the crop / size of the object", TRACKERS, low=0.1),
    Option("DATA.SEARCH.CENTER_JITTER", 4.5, "shift", by_script={REFINE: 0.25}, low=0),
    Option("DATA.SEARCH.SCALE_JITTER", 0.5, "change of size", by_script={REFINE: 0.25}, low=0),
    Option("DATA.SEARCH.FEAT_SIZE", 20, "side of the feature map", (LIGHTNING,), low=1),
    Option("DATA.SEARCH.NUMBER", 1, "search regions of a sample", (ST1, ST2), low=1),
    Option("DATA.TEMPLATE.SIZE", 128, "pixels of the crop's side", by_script={REFINE: 384}, low=32),
    Option("DATA.TEMPLATE.FACTOR", 2.0, "side of the crop / size of the object", TRACKERS, low=0.1),
    Option("DATA.TEMPLATE.CENTER_JITTER", 0, "shift", by_script={REFINE: 0.0}, low=0, fractions=True),
    Option("DATA.TEMPLATE.SCALE_JITTER", 0, "change of size", by_script={REFINE: 0.0}, low=0, fractions=True),
    Option("DATA.TEMPLATE.FEAT_SIZE", 8, "side of the feature map", (LIGHTNING,), low=1),
    Option("DATA.TEMPLATE.NUMBER", 2, "templates, the first and the dynamic ones", (ST1, ST2), low=1),
    _extra("DATA.GRAY_PROBABILITY", 0.05, "chance that all crops of a sample become grey", low=0, high=1),
    _extra("DATA.BRIGHTNESS_JITTER", 0.2, "brightness factor of a crop is in [1 - j, 1 + j]", low=0, high=1),
    _extra("DATA.CENTER_JITTER_POWER", 1.0, "above 1, small shifts become more frequent than large ones", low=0.1),
    _extra("DATA.LOW_RESOLUTION", 0.0, "chance that a sample's crops lose detail, as of a tiny object", low=0, high=1),
    _extra("DATA.MOTION_BLUR", 0.0, "chance that the search crop is blurred along a line", low=0, high=1),
    Option("TRAIN.LR", 0.0001, "learning rate", by_script={REFINE: 0.0002}, low=0),
    Option("TRAIN.WEIGHT_DECAY", 0.0001, "weight decay", low=0),
    Option("TRAIN.EPOCH", 500, "epochs", by_script={ST2: 50, REFINE: 40}, low=1),
    Option("TRAIN.LR_DROP_EPOCH", 400, "epochs before the learning rate drops", by_script={ST2: 40, REFINE: 30}, low=1),
    Option("TRAIN.BATCH_SIZE", 16, "samples of a rank's step", by_script={REFINE: 32}, low=1),
    Option("TRAIN.NUM_WORKER", 8, "processes that make samples", low=0),
    Option("TRAIN.OPTIMIZER", "ADAMW", "optimiser", choices=("ADAMW",)),
    Option("TRAIN.BACKBONE_MULTIPLIER", 0.1, "factor on the backbone's learning rate", low=0),
    Option("TRAIN.GIOU_WEIGHT", 2.0, "weight of the GIoU loss", TRACKERS, low=0),
    Option("TRAIN.L1_WEIGHT", 5.0, "weight of the L1 loss", TRACKERS, low=0),
    Option("TRAIN.DEEP_SUPERVISION", False, "published, never in use", TRACKERS, choices=(False,)),
    Option("TRAIN.FREEZE_BACKBONE_BN", True, "keep the backbone's batch norms as they are"),
    Option("TRAIN.FREEZE_LAYERS", ["conv1", "layer1"], "layers that do not learn", SPATIAL),
    Option("TRAIN.BACKBONE_TRAINED_LAYERS", ["stage1", "stage2", "stage3"], "layers that learn", (LIGHTNING,)),
    Option("TRAIN.PRINT_INTERVAL", 50, "steps between lines of the log", low=1),
    Option("TRAIN.VAL_EPOCH_INTERVAL", 20, "epochs between validations", by_script={ST2: 10, REFINE: 5}, low=1),
    Option("TRAIN.GRAD_CLIP_NORM", 0.1, "largest norm of the gradient; 0: any", low=0),
    Option("TRAIN.SCHEDULER.TYPE", "step", "course of the learning rate", choices=("step", "cosine")),
    Option("TRAIN.SCHEDULER.DECAY_RATE", 0.1, "factor at the drop", low=0, high=1),
    Option("TRAIN.TRAIN_CLS", True, "train the score head only", (ST2,)),
    Option("TRAIN.DISTILL", False, "learn from a teacher; train.py --distill 1 sets it", (LIGHTNING,)),
    Option("TRAIN.DISTILL_LOSS_TYPE", "KL", "distance to the teacher's maps", (LIGHTNING,), choices=("KL", "L1")),
    Option("TRAIN.AMP", False, "true: fp16", (LIGHTNING,), choices=(False, True, "off", "bf16", "fp16"), optional=True),
    _extra("TRAIN.COMPILE", False, "compile the network, in which mode; needs a C++ compiler", choices=_COMPILE),
    _extra("TRAIN.ACCUM_STEPS", 1, "batches whose gradients make one step, like one larger batch", low=1),
    _extra("TRAIN.CROSSED_CORNERS", "published", "GIoU of boxes of negative size", choices=("published", "sorted")),
    _extra("TRAIN.CENTER_WEIGHT", 1.0, "weight of the loss on the centre's map, with the head CENTER", low=0),
    _extra("TRAIN.KEEP_CHECKPOINTS", 0, "how many of the newest checkpoints stay; 0: all", low=0),
    _extra("TRAIN.KEEP_EVERY", 100, "epochs between checkpoints that stay", low=1),
    _extra("TRAIN.KEEP_BEST", "", "measure of the validation by which the best checkpoint stays, such as IoU"),
    _extra("TRAIN.KEEP_LAST", 10, "epochs at the end of a run whose checkpoints stay", low=1),
    _extra("TRAIN.SAVE_EVERY_STEPS", 0, "steps between savings within an epoch; 0: only after each epoch", low=0),
    _extra("TRAIN.SEED", 42, "seed of the run", low=0, high=2**63 - 1),
    _extra("TRAIN.TF32", False, "on CUDA compute fp32 products in TF32, with ten bits of mantissa"),
    _extra("LOG.TO", ["tensorboard"], "where numbers go beside logs/", choices=_LOGGERS),
    Option("TEST.EPOCH", 500, "epoch of the checkpoint", (*TESTED, REFINE), {ST2: 50, REFINE: 40}, low=1),
    Option("TEST.TEMPLATE_FACTOR", 2.0, "side of the crop / size of the object", TESTED, low=0.1),
    Option("TEST.TEMPLATE_SIZE", 128, "pixels of the crop's side", TESTED),
    Option("TEST.SEARCH_FACTOR", 5.0, "side of the crop / size of the object", TESTED, low=0.1),
    Option("TEST.SEARCH_SIZE", 320, "pixels of the crop's side", TESTED),
    Option("TEST.MASK_THRESHOLD", 0.65, "probability from which a pixel is the object's", (REFINE,), low=0, high=1),
    _extra("TEST.WINDOW", 0.0, "how much the head CENTER prefers the region's middle; 0: not at all", low=0),
    _extra("TEST.LOST_BELOW", 0.0, "score of the head CENTER below which it looks wider; 0: never", low=0, high=1),
    *(
        Option(f"{OPEN_SECTION}.{name}", [200], "frames between dynamic templates", (ST2,), low=1, filled=True)
        for name in ("LASOT", "GOT10K_TEST", "TRACKINGNET", "VOT20", "VOT20LT")
    ),
)
OPTIONS: dict[str, Option] = {option.key: option for option in _TABLE}
