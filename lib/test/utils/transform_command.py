"""The command line that both servers' scripts share."""

import argparse
from pathlib import Path

from lib.test.utils.submission import Server, make_archive


def transform(server: Server, description: str | None) -> None:
    """Parse the arguments and make the archive."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tracker_name", required=True, help="such as stark_s")
    parser.add_argument("--cfg_name", required=True, help="name of a configuration, such as baseline")
    parser.add_argument("--runid", type=int, help="of which run, where there are several")
    parser.add_argument("--results_dir", type=Path, help="where results lie; test/tracking_results by default")
    parser.add_argument("--output", type=Path, help=f"the archive; {server.archive} beside the results by default")
    parser.add_argument("--overwrite", action="store_true", help="replace an archive that is there")
    arguments = parser.parse_args()
    make_archive(
        server,
        arguments.tracker_name,
        arguments.cfg_name,
        arguments.runid,
        arguments.results_dir,
        arguments.output,
        arguments.overwrite,
    )
