"""Commands that track: in a user's own video, and over a test set."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ..test.evaluation.overlays import DEBUG_LEVELS
from ..test.evaluation.running import evaluate_tracker
from ..test.tracker import SCRIPT_OF
from ..test.tracker.classic import BASELINES
from ..test.video.demo import DEFAULT_TRACKER, build_tracker, read_objects, video_demo
from ..test.video.output import COLOURS, parse_colour
from . import add_shared

_WORDS = """tracker: stark_s, stark_st, stark_lightning_X_trt, csrt, kcf or still; config: name of a configuration under
experiments/, or a path; video: file, folder of images, index of a camera, a stream's URL, or sample:NAME"""
_TRACKERS = "stark_s, stark_st, stark_lightning_X_trt, csrt, kcf or still"
_DATASETS = "name of a test set (default: otb; docs/data.md lists all), folder:PATH in GOT-10k layout, or vot:PATH"
_LEVELS = (
    "1: show the boxes in a window, or save a video where there is no display; 2: save a video and pictures, "
    "with --engine torch also of what the network looks at"
)


def track(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Track objects in a video, a folder of images or the picture of a camera, or in several of them.

    Without the name of a tracker it is stark_lightning_X_trt mini, whose trained weights are shipped.
    sample:bigbuckbunny and sample:carphone are clips to try, with a box each.
    The result goes to a new folder under output/: the video with the box drawn in, and with --save_results
    the boxes as boxes.txt (x y w h, whole pixels) and boxes.csv (with frame, fractions and confidence).
    Several --init_bbox, or a file of boxes, are several objects of one video, which are tracked at once.
    Without a box a window opens to draw it around the object. In the window: r draws it anew, q ends.
    """
    parser.usage = "%(prog)s [tracker config] video [video ...] [options]"
    parser.add_argument("words", metavar="tracker config video", nargs="+", help=_WORDS)
    box = {"type": float, "nargs": 4, "metavar": ("X", "Y", "W", "H"), "action": "append"}
    shown = (
        "the object in the first frame, in pixels; again for another; of several videos one for all, or one for each"
    )
    parser.add_argument("--init_bbox", "--optional_box", **box, default=[], help=shown)
    lines = "text with a box X,Y,W,H of the first frame on each line, perhaps with a name behind it; one for each video"
    parser.add_argument("--boxes", type=Path, nargs="+", metavar="FILE", help=f"objects: {lines}")
    parser.add_argument("--names", nargs="+", default=[], help="what stands at each object's box, in their order")
    parser.add_argument("--box_color", metavar="COLOR", help=f"RRGGBB, or {', '.join(COLOURS)}")
    newest = "of a camera or stream take the newest frame; the saved video has those alone, and plays faster"
    parser.add_argument("--newest", action="store_true", help=newest)
    _add_output(parser)
    add_shared(parser, "--checkpoint", "--device", "--engine", "--precision", "--opts")
    refine = "also draw masks of Alpha-Refine; CONFIG is in experiments/alpha_refine/ (baseline)"
    parser.add_argument("--refine", nargs="?", const="baseline", metavar="CONFIG", help=refine)
    parser.add_argument("--refine_checkpoint", help="weights for masks; default: those of your training, or published")
    parser.add_argument("--refine_precision", help="precision of masks; default: that of boxes")
    show = (
        "attention: also pictures and a video of what the network looks at; attention:N: layer N, not the layers' mean"
    )
    parser.add_argument("--show", metavar="attention[:N]", help=f"{show} (--engine torch)")
    parser.add_argument("--no_window", action="store_true", help="show nothing, even where there is a display")
    parser.add_argument("--debug", type=int, nargs="?", const=1, default=0, help="1 prints the box of every frame")
    given = vars(parser.parse_args(arguments))
    words, boxes, output = given.pop("words"), given.pop("init_bbox"), given.pop("output")
    if given["show"] and given["engine"] == "auto":
        given["engine"] = "torch"  # the one whose attention can be read
    named = words[0] in (*SCRIPT_OF, *BASELINES)
    if named and len(words) < 3:
        parser.error(f"expected a video, or tracker, config and video; got {len(words)} words: {' '.join(words)}")
    for option in ("refine_checkpoint", "refine_precision"):
        if given[option] is not None and given["refine"] is None:
            parser.error(f"--{option} is for masks: add --refine")
    if not named and len(words) > 2 and not Path(words[0]).exists() and "://" not in words[0]:
        known = ", ".join((*SCRIPT_OF, *BASELINES))
        parser.error(f"{words[0]} is neither a tracker nor a file; trackers: {known}")
    (tracker, config), videos = (words[:2], words[2:]) if named else (DEFAULT_TRACKER, words)
    objects = _objects(parser, videos, boxes, given)
    given["box_color"] = given["box_color"] and parse_colour(given["box_color"])
    stems = [Path(video).stem for video in videos]
    if twice := sorted(name for name in set(stems) if stems.count(name) > 1):
        parser.error(f"several videos are called {twice[0]}: their results would have one name; track them one by one")
    if len(videos) > 1:  # else after the video and the box were found to be good
        masks = ("refine", "refine_checkpoint", "refine_precision")
        how = (*masks, "checkpoint", "device", "engine", "precision", "overrides")
        given["built"] = build_tracker(tracker, config, **{option: given[option] for option in how})
    for video, stem, (box, names) in zip(videos, stems, objects, strict=True):
        folder = output / stem if output and len(videos) > 1 else output
        video_demo(tracker, config, video, box, output=folder, names=names, **given)


def _objects(
    parser: ArgumentParser, videos: Sequence[str], boxes: list[list[float]], given: dict
) -> list[tuple[list | None, list[str]]]:
    """The boxes, None where they are to be drawn, and the names of each video's objects."""
    files, names = given.pop("boxes"), given.pop("names")
    if files:
        if boxes or names or len(files) != len(videos):
            parser.error(
                f"--boxes takes a file for each of {len(videos)} videos, and no --init_bbox or --names beside it"
            )
        return [read_objects(file) for file in files]
    if len(videos) > 1 and len(boxes) not in (0, 1, len(videos)):
        parser.error(f"--init_bbox is given {len(boxes)} times for {len(videos)} videos: give one, or one for each")
    if len(videos) == 1 or not boxes:
        return [(boxes or None, names)] * len(videos)
    return [([box], names) for box in (boxes if len(boxes) > 1 else boxes * len(videos))]


def demo(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Track the rabbit of sample:bigbuckbunny with the weights that are shipped; the video goes to a new folder."""
    _add_output(parser)
    add_shared(parser, "--engine")
    given = vars(parser.parse_args(arguments))
    video_demo(*DEFAULT_TRACKER, "sample:bigbuckbunny", no_window=True, **given)


def _add_output(parser: ArgumentParser) -> None:
    parser.add_argument("--save_results", action="store_true", help="also write the boxes as text")
    parser.add_argument("--output", type=Path, help="folder for the results")
    add_shared(parser, "--overwrite")


def test(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """Run a tracker over a test set and write its result files.

    Run again, it continues. Several machines: `torchrun … tracking/test.py …` with one folder of results.
    """
    parser.add_argument("tracker", metavar="tracker_name", help=_TRACKERS)
    parser.add_argument("config", metavar="tracker_param", help="name of a configuration under experiments/, or a path")
    parser.add_argument("--dataset_name", "--dataset", dest="dataset", default="otb", help=_DATASETS)
    parser.add_argument("--sequence", help="only these, by name or index, separated by commas")
    parser.add_argument("--runid", type=int, dest="run_id", help="number of the run, a part of its results' folder")
    parser.add_argument("--num_gpus", type=int, help="GPUs to use; default: all")
    parser.add_argument("--debug", type=int, default=0, choices=DEBUG_LEVELS, help=_LEVELS)
    add_shared(parser, "--threads", "--checkpoint", "--device", "--engine", "--precision", "--opts", "--results_dir")
    return evaluate_tracker(**vars(parser.parse_args(arguments))).status
