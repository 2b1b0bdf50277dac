"""Track one object in a video, a folder of images or a camera's picture.

The result goes to a new folder under output/: the video with the box drawn in, and with --save_results
the boxes as boxes.txt (x y w h, whole pixels) and boxes.csv (with frame, fractions and confidence).
Without --init_bbox a window opens to draw the object's box. In the window: r draws it anew, q ends.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.test.video.demo import video_demo
from lib.utils.errors import run_command


def main() -> None:
    """Parse the arguments and track."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracker", help="stark_s, stark_st, stark_lightning_X_trt or still")
    parser.add_argument("config", help="name of a configuration under experiments/, or a path")
    parser.add_argument("source", metavar="video", help="video file, folder of images, or index of a camera")
    parser.add_argument(
        *("--init_bbox", "--optional_box"),
        type=float,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="the object in the first frame, in pixels; no display is needed then",
    )
    parser.add_argument("--save_results", action="store_true", help="write the boxes as text, too")
    parser.add_argument("--output", type=Path, help="folder of the results")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    parser.add_argument("--checkpoint", help="checkpoint file; the configuration's own by default")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--engine", default="torch", help="torch, or onnx: onnxruntime on graphs exported once")
    parser.add_argument("--no_window", action="store_true", help="show nothing, even where there is a display")
    parser.add_argument("--debug", type=int, nargs="?", const=1, default=0, help="1 prints every frame's box")
    video_demo(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
