"""Commands that track, in a user's own video or over a test set; and what this installation has to track with."""

import platform
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..test.evaluation.overlays import DEBUG_LEVELS
from ..test.evaluation.running import evaluate_tracker
from ..test.tracker import SCRIPT_OF, find_weights, shipped_graphs
from ..test.tracker.classic import BASELINES
from ..test.tracker.engines import PRECISIONS_OF, installed
from ..test.video.demo import DEFAULT_TRACKER, build_tracker, read_objects, video_demo
from ..test.video.output import COLOURS, parse_colour
from ..utils.checkpoint_files import CheckpointError
from ..utils.device import available_cpus, available_devices
from ..utils.workspace import EXPERIMENTS, PACKAGE, package_version, workspace
from . import add_shared

_PACKAGES = ("numpy", "opencv-contrib-python-headless", "onnxruntime", "openvino", "nncf", "torch", "torchvision")
_TRACKERS = "stark_s, stark_st, stark_lightning_X_trt, csrt, kcf or still"
_CONFIGS = "name of a configuration under experiments/, or a path"
_VIDEOS = "file, folder of images, index of a camera, a stream's URL, or sample:NAME"
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
    words = f"tracker: {_TRACKERS}; config: {_CONFIGS}; video: {_VIDEOS}"
    parser.add_argument("words", metavar="tracker config video", nargs="+", help=words)
    box = {"type": float, "nargs": 4, "metavar": ("X", "Y", "W", "H"), "action": "append", "default": []}
    whose = "the object in the first frame, in pixels; again for another; of several videos one for all, or one each"
    parser.add_argument("--init_bbox", "--optional_box", **box, help=whose)
    lines = "text with a box X,Y,W,H of the first frame on each line, perhaps with a name behind it; one for each video"
    parser.add_argument("--boxes", type=Path, nargs="+", metavar="FILE", help=f"objects: {lines}")
    parser.add_argument("--names", nargs="+", default=[], help="what stands at each object's box, in their order")
    parser.add_argument("--box_color", type=parse_colour, metavar="COLOR", help=f"RRGGBB, or {', '.join(COLOURS)}")
    newest = "of a camera or stream take the newest frame; the saved video has those alone, and plays faster"
    parser.add_argument("--newest", action="store_true", help=newest)
    _add_output(parser)
    add_shared(parser, "--checkpoint", "--device", "--engine", "--precision", "--opts")
    refine = "also draw masks of Alpha-Refine; CONFIG is in experiments/alpha_refine/ (baseline)"
    parser.add_argument("--refine", nargs="?", const="baseline", metavar="CONFIG", help=refine)
    parser.add_argument("--refine_checkpoint", help="weights for masks; default: those of your training, or published")
    parser.add_argument("--refine_precision", help="precision of masks; default: that of boxes")
    show = "attention: also pictures and a video of what the network looks at (engine torch); :N: layer N, not the mean"
    parser.add_argument("--show", metavar="attention[:N]", help=show)
    parser.add_argument("--no_window", action="store_true", help="show nothing, even where there is a display")
    parser.add_argument("--debug", type=int, nargs="?", const=1, default=0, help="1 prints the box of every frame")
    given = vars(parser.parse_args(arguments))
    words, output = given.pop("words"), given.pop("output")
    if given["show"] and given["engine"] == "auto":
        given["engine"] = "torch"  # the one whose attention can be read
    known = (*SCRIPT_OF, *BASELINES)
    named = words[0] in known
    if named and len(words) < 3:
        parser.error(f"expected a video, or tracker, config and video; got {len(words)} words: {' '.join(words)}")
    if not named and len(words) > 2 and not Path(words[0]).exists() and "://" not in words[0]:
        parser.error(f"{words[0]} is neither a tracker nor a file; trackers: {', '.join(known)}")
    for option in ("refine_checkpoint", "refine_precision"):
        if given[option] is not None and given["refine"] is None:
            parser.error(f"--{option} is for masks: add --refine")
    (tracker, config), videos = (words[:2], words[2:]) if named else (DEFAULT_TRACKER, words)
    objects = _objects(parser, len(videos), given.pop("init_bbox"), given.pop("names"), given.pop("boxes"))
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
    parser: ArgumentParser, videos: int, boxes: list[list[float]], names: list[str], files: list[Path] | None
) -> list[tuple[list | None, list[str]]]:
    """The boxes, None where they are to be drawn, and the names of each video's objects."""
    if files:
        if boxes or names or len(files) != videos:
            parser.error(f"--boxes takes a file for each of {videos} videos, and no --init_bbox or --names beside it")
        return [read_objects(file) for file in files]
    if videos == 1 or not boxes:
        return [(boxes or None, names)] * videos
    if len(boxes) not in (1, videos):
        parser.error(f"--init_bbox is given {len(boxes)} times for {videos} videos: give one, or one for each")
    return [([box], names) for box in (boxes if len(boxes) > 1 else boxes * videos)]


def demo(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Track the rabbit of sample:bigbuckbunny with the weights that are shipped; the video goes to a new folder."""
    _add_output(parser)
    add_shared(parser, "--engine")
    video_demo(*DEFAULT_TRACKER, "sample:bigbuckbunny", no_window=True, **vars(parser.parse_args(arguments)))


def _add_output(parser: ArgumentParser) -> None:
    parser.add_argument("--save_results", action="store_true", help="also write the boxes as text")
    parser.add_argument("--output", type=Path, help="folder for the results")
    add_shared(parser, "--overwrite")


def test(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """Run a tracker over a test set and write its result files.

    Run again, it continues. Several machines: `torchrun … tracking/test.py …` with one folder of results.
    """
    parser.add_argument("tracker", metavar="tracker_name", help=_TRACKERS)
    parser.add_argument("config", metavar="tracker_param", help=_CONFIGS)
    parser.add_argument("--dataset_name", "--dataset", dest="dataset", default="otb", help=_DATASETS)
    parser.add_argument("--sequence", help="only these, by name or index, separated by commas")
    parser.add_argument("--runid", type=int, dest="run_id", help="number of the run, a part of its results' folder")
    parser.add_argument("--num_gpus", type=int, help="GPUs to use; default: all")
    parser.add_argument("--debug", type=int, default=0, choices=DEBUG_LEVELS, help=_LEVELS)
    add_shared(parser, "--threads", "--checkpoint", "--device", "--engine", "--precision", "--opts", "--results_dir")
    return evaluate_tracker(**vars(parser.parse_args(arguments))).status


def info(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Print versions, devices, engines, and the trackers whose weights were found."""
    parser.parse_args(arguments)
    place, engines = workspace("test"), [name for name in installed() if name != "auto"]
    devices = available_devices() if "torch" in engines else ["cpu"]
    rows = {"stark-tracker": f"{__version__} in {PACKAGE}", "python": platform.python_version()}
    rows |= {name: package_version(name) or "not installed" for name in _PACKAGES}
    rows["devices"] = f"{', '.join(devices)}; {available_cpus()} processor cores"
    rows["engines"] = ", ".join(f"{name} ({', '.join(PRECISIONS_OF[name])})" for name in engines)
    rows |= {"data sets": place.data_dir, "saved runs": place.save_dir}
    print("\n".join(f"{name:<31}{value}" for name, value in rows.items()))
    print("weights")
    for name, script in SCRIPT_OF.items():
        for config in sorted(path.stem for path in (EXPERIMENTS / script).glob("*.yaml")):
            try:
                found = str(find_weights(script, config, announce=False))
            except CheckpointError:
                continue
            graphs = " and graphs that need no PyTorch" if shipped_graphs(script, config).is_dir() else ""
            print(f"  {name} {config}: {found}{graphs}")
