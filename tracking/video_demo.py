"""Track one object in a video, a folder of images or the picture of a camera.

Without the name of a tracker it is stark_lightning_X_trt mini, whose trained weights are in the repository.
sample:bigbuckbunny and sample:carphone are clips to try, with a box each.
The result goes to a new folder under output/: the video with the box drawn in, and with --save_results
the boxes as boxes.txt (x y w h, whole pixels) and boxes.csv (with frame, fractions and confidence).
Without --init_bbox a window opens to draw the box of the object. In the window: r draws it anew, q ends.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.utils.arguments import add_shared, command_parser
from lib.test.video.demo import DEFAULT_TRACKER, video_demo
from lib.utils.errors import run_command

WORDS = """tracker: stark_s, stark_st, stark_lightning_X_trt, csrt, kcf or still; config: name of a configuration under
experiments/, or a path; video: file, folder of images, index of a camera, or sample:NAME"""


def main() -> None:
    parser = command_parser(__doc__, usage="%(prog)s [tracker config] video [options]")
    parser.add_argument("words", metavar="tracker config video", nargs="+", help=WORDS)
    box = {"type": float, "nargs": 4, "metavar": ("X", "Y", "W", "H")}
    parser.add_argument("--init_bbox", "--optional_box", **box, help="the object in the first frame, in pixels")
    parser.add_argument("--save_results", action="store_true", help="also write the boxes as text")
    parser.add_argument("--output", type=Path, help="folder for the results")
    add_shared(parser, "--overwrite", "--checkpoint", "--device", "--engine", "--precision", "--opts")
    refine = "also draw masks of Alpha-Refine; CONFIG is in experiments/alpha_refine/ (baseline)"
    parser.add_argument("--refine", nargs="?", const="baseline", metavar="CONFIG", help=refine)
    parser.add_argument("--refine_checkpoint", help="weights for masks; default: those of your training, or published")
    parser.add_argument("--refine_precision", help="precision of masks; default: that of boxes")
    parser.add_argument("--no_window", action="store_true", help="show nothing, even where there is a display")
    parser.add_argument("--debug", type=int, nargs="?", const=1, default=0, help="1 prints the box of every frame")
    given = vars(parser.parse_args())
    words = given.pop("words")
    if len(words) not in (1, 3):
        parser.error(f"expected a video, or tracker, config and video; got {len(words)} words: {' '.join(words)}")
    for option in ("refine_checkpoint", "refine_precision"):
        if given[option] is not None and given["refine"] is None:
            parser.error(f"--{option} is for masks: add --refine")
    tracker, config = words[:-1] or DEFAULT_TRACKER
    video_demo(tracker, config, words[-1], **given)


if __name__ == "__main__":
    run_command(main)
