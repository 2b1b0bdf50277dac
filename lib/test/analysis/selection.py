"""Which results of which sequences an analysis is about.

Trackers on the command line, each followed by `=Label` for another name in tables and plots:
    tracker:config                the results of tracking/test.py
    tracker:config:3              the run with this id; 0-4 for several of them
    folder:PATH                   any folder of text files, one a sequence, one box a line
Filters, which must all hold; upper and lower case are the same:
    PATTERN or name=PATTERN       names with * and ?, such as car*
    attribute=NAME                sequences with this attribute in the set's files
    class=PATTERN                 the object's class
    common                        sequences that all trackers have
"""

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ...data.registry import dataset_label, dataset_title, load_dataset
from ...data.sequence import Sequence
from ...utils.errors import UserError
from ..evaluation.result_files import result_path, run_dir, time_path

_FOLDER = "folder:"
_TRACKER = re.compile(r"([^:=]+):([^:=]+)(?::(\d{1,3})(?:-(\d{1,3}))?)?(?:=(.*))?", re.ASCII)
_FILTERS = {
    "": lambda sequence: [sequence.name],
    "name": lambda sequence: [sequence.name],
    "attribute": lambda sequence: sequence.attributes,
    "class": lambda sequence: [sequence.object_class],
}

Sets = dict[str, list[Sequence]]  # by the titles of test sets
Groups = dict[tuple[str, str], list[str]]  # ("set", title) or ("attribute", name): sequences with a row of their own


@dataclass(frozen=True)
class ResultSource:
    """Result files of one tracker, or of one run of it."""

    label: str  # in tables and plots
    folder: Path
    group: str  # the label when the runs of its tracker are merged to one row
    owner: Path  # the folder without the run; runs of one tracker share it
    foreign: bool = False  # the files are of another program, so their places vary

    def files(self, sequence: Sequence) -> tuple[Path, Path]:
        """Files of a sequence's boxes and seconds: the first place whose box file exists, else the first place."""
        places = [(result_path(self.folder, sequence), time_path(self.folder, sequence))]
        if self.foreign:
            # Other programs call a sequence of a joined set by its name alone (`bike1` for `uav_bike1`).
            names = dict.fromkeys((sequence.name, sequence.name.removeprefix(f"{sequence.dataset}_")))
            folders = (self.folder / sequence.dataset, self.folder)
            flat = [(folder / f"{name}.txt", folder / f"{name}_time.txt") for name in names for folder in folders]
            toolkit = self.folder / sequence.name  # as GOT-10k's toolkit writes them
            places = [*flat, *places, (toolkit / f"{sequence.name}_001.txt", toolkit / f"{sequence.name}_time.txt")]
        return next((place for place in places if place[0].is_file()), places[0])


def parse_trackers(texts: Iterable[str], results_dir: Path) -> list[ResultSource]:
    """The sources that a command line names, in its order; one that is named twice counts once.

    Raises UserError where a text has another form, a folder is missing, or two trackers have one label.
    """
    sources = list(dict.fromkeys(source for text in texts for source in parse_tracker(text, results_dir)))
    owners: dict[str, Path] = {}
    for source in sources:
        if any(owners.setdefault(name, source.owner) != source.owner for name in (source.label, source.group)):
            raise UserError(f"two trackers are called {source.label!r}; give one of them another name with =Label")
    return sources


def parse_tracker(text: str, results_dir: Path) -> list[ResultSource]:
    """The sources (several for a range of runs) of one text; errors as in `parse_trackers`."""
    if text.startswith(_FOLDER):
        place, label = os.path.expanduser(text.removeprefix(_FOLDER)), ""
        if not os.path.isdir(place):  # a folder's own name may contain the sign
            place, _, label = place.rpartition("=")
        if not os.path.isdir(place):
            raise UserError(f"{text!r}: folder of results not found; expected folder:PATH or folder:PATH=Label")
        folder = Path(place).resolve()
        return [ResultSource(label or folder.name, folder, label or folder.name, folder, foreign=True)]
    match = _TRACKER.fullmatch(text)
    tracker, config, first, last, label = match.groups() if match else [None] * 5
    ids = range(int(first), int(last or first) + 1) if first else [None]
    if not match or not ids:
        raise UserError(
            f"{text!r} does not name a tracker's results: expected tracker:config such as stark_s:baseline, "
            "tracker:config:RUN, tracker:config:FIRST-LAST, or folder:PATH"
        )
    folders = [run_dir(results_dir, tracker, config, run_id) for run_id in ids]
    plain = run_dir(results_dir, tracker, config)
    if not label:
        return [ResultSource(f"{tracker}:{f.name}", f, f"{tracker}:{plain.name}", plain) for f in folders]
    return [ResultSource(label + f.name.removeprefix(plain.name).replace("_", " "), f, label, plain) for f in folders]


def find_runs(results_dir: Path, tracker: str, config: str) -> list[ResultSource]:
    """Every folder of a tracker's results: first the one without a run id, then those with one, in order."""
    plain = run_dir(results_dir, tracker, config)
    name = re.compile(rf"{re.escape(plain.name)}(_\d{{3,}})?", re.ASCII)
    folders = sorted(path for path in plain.parent.glob("*") if path.is_dir() and name.fullmatch(path.name))
    return [ResultSource(f"{tracker}:{path.name}", path, f"{tracker}:{plain.name}", plain) for path in folders]


def load_sets(names: SequenceOf[str]) -> Sets:
    """Test sets by their names, one that is named twice once; errors as in `load_dataset`."""
    labels = {dataset_label(name): name for name in names}
    titles = Counter(map(dataset_title, labels.values()))
    return {
        label if titles[dataset_title(name)] > 1 else dataset_title(name): load_dataset(name)
        for label, name in labels.items()
    }


def filter_sets(sets: Sets, filters: Iterable[str], sources: SequenceOf[ResultSource]) -> Sets:
    """The sets with the sequences that all filters leave; an empty set is dropped.

    Raises UserError where a filter has another form, or no sequence is left.
    """
    for text in filters:
        left = {title: [s for s in members if _holds(text, s, sources)] for title, members in sets.items()}
        if not any(left.values()):
            values = {value for members in sets.values() for s in members for value in _values(text, s)} - {""}
            close = difflib.get_close_matches(text.rpartition("=")[2], sorted(values), n=5, cutoff=0)
            raise UserError(f"--filter {text}: no sequence is left; possible are {', '.join(close) or 'none'}")
        sets = {title: members for title, members in left.items() if members}
    return sets


def _holds(text: str, sequence: Sequence, sources: SequenceOf[ResultSource]) -> bool:
    if text == "common":
        return all(source.files(sequence)[0].is_file() for source in sources)
    pattern = text.casefold().rpartition("=")[2]
    return any(fnmatchcase(value.casefold(), pattern) for value in _values(text, sequence))


def _values(text: str, sequence: Sequence) -> SequenceOf[str]:
    """The words of a sequence that a filter compares with its pattern."""
    key = text.casefold().rpartition("=")[0]
    if key not in _FILTERS:
        raise UserError(f"--filter {text}: expected PATTERN, name=PATTERN, attribute=NAME, class=PATTERN or common")
    return _FILTERS[key](sequence)


def joined(sets: Sets) -> dict[str, Sequence]:
    """All sequences by unique names: their own, with the set before it where two share one."""
    sequences = [sequence for members in sets.values() for sequence in members]
    counts = Counter(sequence.name for sequence in sequences)
    return {s.name if counts[s.name] == 1 else f"{s.subfolder or s.dataset}/{s.name}": s for s in sequences}


def find_groups(sets: Sets) -> Groups:
    """The sets, where there are several, and the attributes of the sets' own files, with names as `joined` gives."""
    names, groups, attributes = iter(joined(sets)), {}, {}
    for title, members in sets.items():
        named = {next(names): sequence for sequence in members}
        groups["set", title] = list(named)
        for name, sequence in named.items():
            for attribute in sequence.attributes:
                attributes.setdefault(("attribute", attribute), []).append(name)
    return (groups if len(sets) > 1 else {}) | dict(sorted(attributes.items()))
