"""The command that tracks in the browser."""

import math
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ..test.video.demo import DEFAULT_TRACKER
from ..test.web.clips import Limits
from ..test.web.server import run_server
from . import add_shared


def web(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Track objects in the browser: prints the address of a page where a clip is chosen, a box is drawn, and tracked.

    It listens on this machine only (from another one: ssh -L 8080:127.0.0.1:8080 machine). With --host 0.0.0.0 it
    listens for all, and needs a token, which is a part of the printed address. The page offers videos and folders of
    images under the directories of --media. Uploads and results are removed when a page is closed. Boxes on clips of
    --media stay in a file beside them.
    """
    usual = Limits()
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all of this machine")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--token", help="the secret of pages; default: a new one where one is needed")
    parser.add_argument("--media", type=Path, nargs="+", default=[], help="directories whose videos can be chosen")
    parser.add_argument("--tracker", default=DEFAULT_TRACKER[0], help="the tracker that is offered first")
    parser.add_argument("--config", help="its configuration; default: mini, whose weights are shipped")
    add_shared(parser, "--checkpoint", "--device", "--engine")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max_upload", type=float, default=usual.upload_mb, help="size of an upload, in MB")
    limits.add_argument("--max_frames", type=int, default=usual.frames, help="length of a video or folder, in frames")
    limits.add_argument("--max_side", type=int, default=usual.side, help="width and height of a frame, in pixels")
    given = parser.parse_args(arguments)
    sizes = (given.max_upload, given.max_frames, given.max_side)
    if not all(0 < size < math.inf for size in sizes):
        parser.error("every limit must be a number above 0")
    config = given.config or dict([DEFAULT_TRACKER]).get(given.tracker, given.tracker)
    first = (given.tracker, config, given.checkpoint, given.device, given.engine)
    run_server(given.host, given.port, given.token, given.media, Limits(*sizes), first)
