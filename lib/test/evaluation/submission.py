"""Archives of results for the servers of GOT-10k and TrackingNet.

Everything is checked before anything is written, because a server reports a mistake late or not at all.
"""

import argparse
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ...data.registry import load_dataset
from ...utils.errors import UserError, few
from ...utils.files import atomic_path
from ...utils.workspace import workspace
from .result_files import read_result, read_seconds, run_dir


@dataclass(frozen=True)
class Server:
    """What a server expects."""

    dataset: str  # the test set; names and numbers of frames are read from it where it exists
    folder: str  # in the workspace's data
    part: str  # folder of the test sequences in it
    count: int  # number of sequences
    name_pattern: str  # makes the names of sequences from 1 to `count`; "" without a rule
    folders: bool  # one a sequence with boxes and seconds, as GOT-10k wants; otherwise one file a sequence


GOT10K = Server("got10k_test", "got10k", "test", 180, "GOT-10k_Test_{:06d}", folders=True)
TRACKINGNET = Server("trackingnet", "trackingnet", "TEST", 511, "", folders=False)


def main(server: Server, description: str | None) -> None:
    """The command of a server: parse the arguments and make the archive."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tracker_name", required=True, dest="tracker", help="such as stark_s")
    parser.add_argument("--cfg_name", required=True, dest="config", help="name of a configuration, such as baseline")
    parser.add_argument("--runid", type=int, dest="run_id", help="number of the run, where there are several")
    parser.add_argument("--results_dir", type=Path, help="folder of results; test/tracking_results by default")
    parser.add_argument("--output", type=Path, help=f"{server.folder}_submit.zip beside the results by default")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing archive")
    make_archive(server, **vars(parser.parse_args()))


def make_archive(
    server: Server,
    tracker: str,
    config: str,
    run_id: int | None = None,
    results_dir: Path | None = None,
    output: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Check the results of a tracker, pack them for a server as the command's options say, and return the archive.

    Nothing is written where a UserError says that a sequence is missing, short, long or malformed, or has no seconds
    where the server wants them, or that the archive exists.
    """
    folder = run_dir(results_dir or workspace("test").results_dir, tracker, config, run_id)
    output = output or folder / f"{server.folder}_submit.zip"
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists: give --overwrite, or another name with --output")
    results = folder / server.folder
    if not results.is_dir():
        raise UserError(f"no results on {server.dataset} in {results}; run tracking/test.py first")
    data = workspace("test").dataset_dir(server.folder) / server.part
    if data.is_dir():
        where, frames = data, {sequence.name: len(sequence) for sequence in load_dataset(server.dataset)}
    else:
        print(f"{server.dataset} is not in {data}, so the results' line counts cannot be checked against its frames")
        names = [server.name_pattern.format(number) for number in range(1, server.count + 1)]
        if not server.name_pattern:
            names = sorted(path.stem for path in results.glob("[!.]*.txt") if not path.stem.endswith("_time"))
        where, frames = results, dict.fromkeys(names)
    if len(frames) != server.count:
        raise UserError(f"{where} has {len(frames)} sequences, but the server expects all {server.count}")
    members, problems = {}, []
    for name, count in frames.items():
        try:
            members |= _members(server, results, name, count)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(f"{len(problems)} of {len(frames)} sequences cannot be packed: {few(problems, 5, '; ', 500)}")
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)  # of 1980, so that equal results make equal archives
            member.external_attr = 0o644 << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    print(f"{output}: {len(frames)} sequences; the result files stay where they are")
    return output


def _members(server: Server, results: Path, name: str, frames: int | None) -> dict[str, str]:
    """Names and contents in the archive for one sequence."""
    path, time_path = results / f"{name}.txt", results / f"{name}_time.txt"
    boxes = read_result(path)
    if frames is not None and len(boxes) != frames:
        raise UserError(f"{path} has {len(boxes)} boxes for {frames} frames")
    # Whole in our result files, sometimes with a fraction in others.
    rows = ((str(int(x)) if x.is_integer() else f"{x:.4f}" for x in box) for box in boxes.tolist())
    content = "".join(",".join(row) + "\n" for row in rows)
    if not server.folders:
        return {f"{name}.txt": content}
    seconds = read_seconds(time_path)
    if seconds is None or len(seconds) != len(boxes):
        raise UserError(f"{time_path} is missing or does not hold {len(boxes)} times, but the server wants one a frame")
    times = "".join(f"{value:.8f}\n" for value in seconds)
    return {f"{name}/{name}_001.txt": content, f"{name}/{name}_time.txt": times}
