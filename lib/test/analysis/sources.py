"""Where a tracker's results lie: our own runs, and text files of other programs.

On the command line a tracker is one of

    tracker:config                 the results of tracking/test.py
    tracker:config:3               the run with this id; 0-4 for several of them
    folder:PATH                    any folder of text files, one a sequence, one box a line

each of them followed by `=Label` for another name in tables and plots.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib.data.sequence import Sequence
from lib.test.evaluation.result_files import result_path, run_dir, time_path
from lib.utils.errors import UserError

_FOLDER = "folder:"
_RUNS = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?", re.ASCII)
_MOST_RUNS = 1000


@dataclass(frozen=True)
class ResultSource:
    """Result files of one tracker, or of one run of it.

    Attributes:
        label: its name in tables and plots.
        folder: where its files lie.
        foreign: the files are of another program, so their places vary.
        group: its name when the runs of its tracker are merged to one row.
        owner: the folder without the run; runs of one tracker share it.
    """

    label: str
    folder: Path
    foreign: bool = False
    group: str = ""
    owner: str = ""

    def files(self, sequence: Sequence) -> tuple[Path, Path]:
        """Files of a sequence's boxes and seconds: the first place whose box file exists, else the first place."""
        places = [(result_path(self.folder, sequence), time_path(self.folder, sequence))]
        if self.foreign:
            # Other programs call a sequence of a joined set by its name alone (`bike1` for `uav_bike1`).
            names = dict.fromkeys((sequence.name, sequence.name.removeprefix(f"{sequence.dataset}_")))
            folders = (self.folder, self.folder / sequence.dataset)
            flat = [(folder / f"{name}.txt", folder / f"{name}_time.txt") for name in names for folder in folders]
            toolkit = self.folder / sequence.name  # as GOT-10k's toolkit writes them
            places = [*flat, *places, (toolkit / f"{sequence.name}_001.txt", toolkit / f"{sequence.name}_time.txt")]
        return next((place for place in places if place[0].is_file()), places[0])


def parse_trackers(texts: Iterable[str], results_dir: Path) -> list[ResultSource]:
    """The sources that a command line names, in its order; one that is named twice counts once.

    Args:
        texts: see the module's description.
        results_dir: where results of `tracking/test.py` lie.

    Raises:
        UserError: a text has another form, a folder is missing, or two trackers have one label.
    """
    by_label: dict[str, ResultSource] = {}
    owners: dict[str, str] = {}
    for source in (source for text in dict.fromkeys(texts) for source in parse_tracker(text, results_dir)):
        other = by_label.setdefault(source.label, source) != source
        if other or owners.setdefault(source.group, source.owner) != source.owner:
            raise UserError(f"two trackers are called {source.label!r}; give one of them another name with =Label")
    return list(by_label.values())


def parse_tracker(text: str, results_dir: Path) -> list[ResultSource]:
    """The sources (several for a range of runs) of one text; arguments and errors as in `parse_trackers`."""
    if text.startswith(_FOLDER):
        return [_parse_folder(text.removeprefix(_FOLDER))]
    spec, _, label = text.partition("=")
    tracker, _, rest = spec.partition(":")
    config, colon, runs = rest.partition(":")
    match = _RUNS.fullmatch(runs)
    if not tracker or not config or (colon and not match):
        raise UserError(
            f"{text!r} does not name a tracker's results: expected tracker:config such as stark_s:baseline, "
            "tracker:config:RUN, tracker:config:FIRST-LAST, or folder:PATH"
        )
    plain = run_dir(results_dir, tracker, config)
    group = label or f"{tracker}:{plain.name}"
    if not colon:
        return [ResultSource(group, plain, group=group, owner=str(plain))]
    ids = range(int(match[1]), int(match[2] or match[1]) + 1)
    if not 0 < len(ids) <= _MOST_RUNS:
        raise UserError(f"{text!r}: runs {runs} are not 1 to {_MOST_RUNS} runs, expected FIRST-LAST such as 0-4")
    folders = [run_dir(results_dir, tracker, config, run_id) for run_id in ids]
    labels = [f"{label} {run_id:03d}" if label else f"{tracker}:{plain.name}_{run_id:03d}" for run_id in ids]
    return [ResultSource(*pair, group=group, owner=str(plain)) for pair in zip(labels, folders, strict=True)]


def find_runs(results_dir: Path, tracker: str, config: str) -> list[ResultSource]:
    """Every folder of a tracker's results: first the one without a run id, then those with one, in order."""
    plain = run_dir(results_dir, tracker, config)
    group = f"{tracker}:{plain.name}"
    run = re.compile(rf"{re.escape(plain.name)}_\d{{3,}}", re.ASCII)
    folders = sorted(path for path in plain.parent.glob("*") if path.is_dir())
    sources = [ResultSource(group, plain)] if plain in folders else []
    runs = [folder for folder in folders if run.fullmatch(folder.name)]
    return sources + [ResultSource(f"{tracker}:{folder.name}", folder, group=group) for folder in runs]


def _parse_folder(text: str) -> ResultSource:
    place, label = os.path.expanduser(text), ""
    if "=" in text and not os.path.isdir(place):  # a folder's own name may contain the sign
        place, _, label = text.rpartition("=")
        place = os.path.expanduser(place)
    if not os.path.isdir(place):
        raise UserError(f"folder of results not found: {place!r}; expected folder:PATH or folder:PATH=Label")
    label = label or Path(place).resolve().name
    return ResultSource(label, Path(place), foreign=True, group=label, owner=os.path.realpath(place))
