"""Where a tracker's results lie: our own runs, and plain text files of other programs.

On the command line a tracker is one of

    tracker:config                 the results of tracking/test.py
    tracker:config:3               the run with this id; 0-4 for several of them
    folder:PATH                    any folder of text files, one a sequence, one box a line

each of them followed by `=Label` where another name is to stand in tables and plots.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib.data.sequence import Sequence
from lib.test.evaluation.result_files import result_path, run_dir, time_path
from lib.utils.errors import UserError

FOLDER_PREFIX = "folder:"

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
        owner: what the runs of one tracker, and they alone, have in common; "" for a result that is never merged.
    """

    label: str
    folder: Path
    foreign: bool = False
    group: str = ""
    owner: str = ""

    def result_file(self, sequence: Sequence) -> Path:
        """The file of a sequence's boxes: the one that is there, else where it is expected first."""
        return self._first(sequence)[0]

    def time_file(self, sequence: Sequence) -> Path:
        """The file of a sequence's seconds, which may be missing."""
        return self._first(sequence)[1]

    def _first(self, sequence: Sequence) -> tuple[Path, Path]:
        places = self._places(sequence)
        return next((place for place in places if place[0].is_file()), places[0])

    def _places(self, sequence: Sequence) -> list[tuple[Path, Path]]:
        """Files of boxes and of seconds, in the order in which they are looked for."""
        ours = (result_path(self.folder, sequence), time_path(self.folder, sequence))
        if not self.foreign:
            return [ours]
        # Sets' own names of sequences lack the prefix that keeps joined sets apart here (`uav_bike1`).
        names = dict.fromkeys((sequence.name, sequence.name.removeprefix(f"{sequence.dataset}_")))
        folders = (self.folder, self.folder / sequence.dataset)
        places = [(folder / f"{name}.txt", folder / f"{name}_time.txt") for name in names for folder in folders]
        toolkit = self.folder / sequence.name  # as the toolkit of GOT-10k writes them
        return [*places, ours, (toolkit / f"{sequence.name}_001.txt", toolkit / f"{sequence.name}_time.txt")]


def parse_trackers(texts: Iterable[str], results_dir: Path) -> list[ResultSource]:
    """The sources that a command line names, in its order; one that is named twice counts once.

    Args:
        texts: see the module's description.
        results_dir: where results of `tracking/test.py` lie.

    Raises:
        UserError: one has another form, a folder is missing, or two would have one label.
    """
    sources = [source for text in dict.fromkeys(texts) for source in parse_tracker(text, results_dir)]
    by_label: dict[str, ResultSource] = {}
    owners: dict[str, str] = {}
    for source in sources:
        other = by_label.setdefault(source.label, source) != source
        if other or owners.setdefault(source.group, source.owner) != source.owner:
            raise UserError(f"two trackers are called {source.label!r}; give one of them another name with =Label")
    return list(by_label.values())


def parse_tracker(text: str, results_dir: Path) -> list[ResultSource]:
    """The source, or the sources of several runs, that one text names; arguments and errors as in `parse_trackers`."""
    if text.startswith(FOLDER_PREFIX):
        return [_parse_folder(text.removeprefix(FOLDER_PREFIX))]
    spec, _, label = text.partition("=")
    tracker, _, rest = spec.partition(":")
    config, _, runs = rest.partition(":")
    if not tracker or not config or (":" in rest and not _RUNS.fullmatch(runs)):
        raise UserError(
            f"{text!r} does not name a tracker's results: expected tracker:config such as stark_s:baseline, "
            "tracker:config:RUN, tracker:config:FIRST-LAST, or folder:PATH"
        )
    plain = run_dir(results_dir, tracker, config)
    group = label or f"{tracker}:{plain.name}"
    if not runs:
        return [ResultSource(group, plain, group=group, owner=str(plain))]
    sources = []
    for run_id in _run_ids(runs, text):
        folder = run_dir(results_dir, tracker, config, run_id)
        shown = f"{label} {run_id:03d}" if label else f"{tracker}:{folder.name}"
        sources.append(ResultSource(shown, folder, group=group, owner=str(plain)))
    return sources


def _run_ids(runs: str, text: str) -> range:
    first, last = _RUNS.fullmatch(runs).groups()
    ids = range(int(first), int(last or first) + 1)
    if not 0 < len(ids) <= _MOST_RUNS:
        raise UserError(f"{text!r}: runs {runs} are not 1 to {_MOST_RUNS} runs, expected FIRST-LAST such as 0-4")
    return ids


def _parse_folder(text: str) -> ResultSource:
    # Of os.path, since these take any text: a user that does not exist, a name that is too long.
    place, label = os.path.expanduser(text), ""
    if "=" in text and not os.path.isdir(place):  # a folder's own name may have the sign
        spec, _, label = text.rpartition("=")
        place = os.path.expanduser(spec)
    if not os.path.isdir(place):
        raise UserError(f"folder of results not found: {place!r}; expected folder:PATH or folder:PATH=Label")
    label = label or Path(place).resolve().name
    return ResultSource(label, Path(place), foreign=True, group=label, owner=os.path.realpath(place))
