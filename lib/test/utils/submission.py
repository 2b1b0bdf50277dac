"""Archives of results as the servers of GOT-10k and TrackingNet take them.

Everything is checked before anything is written, since a server tells of a mistake late or not at all. Result
files are only read.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from lib.data.registry import load_dataset
from lib.test.evaluation.result_files import read_result, read_seconds, run_dir
from lib.utils.errors import UserError
from lib.utils.files import atomic_path
from lib.utils.workspace import workspace

_NAMED_PROBLEMS = 5
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # files in an archive have no time of their own, so equal results make equal archives


@dataclass(frozen=True)
class Server:
    """What a server expects.

    Attributes:
        dataset: the test set; its folder, where it is here, tells names and numbers of frames.
        data_folder: that folder under the set's place.
        subfolder: where its results lie under a tracker's folder.
        count: number of sequences.
        name_pattern: makes the names of sequences from 1 to `count`; "" where there is no rule.
        folders: one folder a sequence with boxes and seconds, as GOT-10k wants; otherwise one file a sequence.
        archive: usual name of the archive.
    """

    dataset: str
    data_folder: Path
    subfolder: str
    count: int
    name_pattern: str
    folders: bool
    archive: str


GOT10K = Server(
    dataset="got10k_test",
    data_folder=Path("got10k", "test"),
    subfolder="got10k",
    count=180,
    name_pattern="GOT-10k_Test_{:06d}",
    folders=True,
    archive="got10k_submit.zip",
)
TRACKINGNET = Server(
    dataset="trackingnet",
    data_folder=Path("trackingnet", "TEST"),
    subfolder="trackingnet",
    count=511,
    name_pattern="",
    folders=False,
    archive="trackingnet_submit.zip",
)


def make_archive(
    server: Server,
    tracker: str,
    config: str,
    run_id: int | None = None,
    results_dir: Path | None = None,
    output: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Check the results of a tracker and pack them for a server.

    Args:
        server: `GOT10K` or `TRACKINGNET`.
        tracker: whose results.
        config: of which configuration.
        run_id: of which run, where there are several.
        results_dir: where results lie; the workspace's by default.
        output: the archive; `<tracker's folder>/<server.archive>` by default.
        overwrite: replace an archive that is there.

    Returns:
        Where the archive is.

    Raises:
        UserError: a sequence is missing, short, long or malformed, lacks its seconds where the server wants them,
            or the archive is there already. Nothing is written then.
    """
    folder = run_dir(results_dir or workspace("test").results_dir, tracker, config, run_id)
    output = output or folder / server.archive
    if output.exists() and not overwrite:
        raise UserError(f"{output} is there already: give --overwrite, or another name with --output")
    results = folder / server.subfolder
    if not results.is_dir():
        raise UserError(f"no results on {server.dataset} in {results}; run tracking/test.py first")
    frames = _expected_frames(server, results)

    members, problems = {}, []
    for name, count in frames.items():
        try:
            members |= _members(server, results, name, count)
        except UserError as error:
            problems.append(str(error))
    if problems:
        more = f"; and {len(problems) - _NAMED_PROBLEMS} more" if len(problems) > _NAMED_PROBLEMS else ""
        named = "; ".join(problems[:_NAMED_PROBLEMS])
        raise UserError(f"{len(problems)} of {len(frames)} sequences cannot be packed: {named}{more}")
    _write(output, members)
    checked = "with a box for every frame" if None not in frames.values() else "line counts not checked, see above"
    print(f"{output}: {len(frames)} sequences, {checked}; the result files stay where they are")
    return output


def _expected_frames(server: Server, results: Path) -> dict[str, int | None]:
    """Sequences that the server wants, with their numbers of frames where the data set is here to tell them."""
    place = workspace("test")
    data = place.dataset_dir(server.data_folder.parts[0]) / server.data_folder.name
    if data.is_dir():
        frames = {sequence.name: len(sequence) for sequence in load_dataset(server.dataset)}
        where = data
    else:
        print(f"{server.dataset} is not in {data}, so the results' line counts cannot be checked against its frames")
        if server.name_pattern:
            names = [server.name_pattern.format(number) for number in range(1, server.count + 1)]
        else:
            names = sorted(path.stem for path in results.glob("*.txt") if not path.stem.endswith("_time"))
        frames, where = dict.fromkeys(names), results
    if len(frames) != server.count:
        raise UserError(f"{where} has {len(frames)} sequences, but the server expects all {server.count}")
    return frames


def _members(server: Server, results: Path, name: str, frames: int | None) -> dict[str, str]:
    """Names and contents in the archive of one sequence's files, checked."""
    path, time_path = results / f"{name}.txt", results / f"{name}_time.txt"
    if not path.is_file():
        raise UserError(f"{name}: no result")
    boxes = read_result(path)
    if frames is not None and len(boxes) != frames:
        raise UserError(f"{path} has {len(boxes)} boxes for {frames} frames")
    content = "".join(",".join(map(_number, box)) + "\n" for box in boxes.tolist())
    if not server.folders:
        return {f"{name}.txt": content}
    seconds = read_seconds(time_path)
    if seconds is None:
        raise UserError(f"{name}: {time_path.name} is missing, but the server wants the seconds of every frame")
    if len(seconds) != len(boxes):
        raise UserError(f"{time_path} does not hold {len(boxes)} times, one a box")
    times = "".join(f"{value:.8f}\n" for value in seconds)
    return {f"{name}/{name}_001.txt": content, f"{name}/{name}_time.txt": times}


def _number(value: float) -> str:
    """A coordinate as it stands in our result files, where it is whole; results of others may have fractions."""
    return str(int(value)) if value.is_integer() else f"{value:.4f}"


def _write(output: Path, members: dict[str, str]) -> None:
    """Write the archive and read it back before it takes its name."""
    with atomic_path(output) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                member = zipfile.ZipInfo(name, _LONG_AGO)
                member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(member, content)
        with zipfile.ZipFile(temporary) as archive:
            damaged = archive.testzip()
            if damaged or archive.namelist() != list(members):
                raise UserError(f"{output}: what was written does not read back ({damaged}); is the disk full?")
