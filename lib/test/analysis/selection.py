"""Which results of which sequences an analysis is about.

Trackers are `tracker:config` for results of tracking/test.py, `tracker:config:3` or `tracker:config:0-4` for runs, or
`folder:PATH` for any folder of text files, one a sequence, one box a line. Each may end in `=Label`. Filters, which all
must hold, are `PATTERN` or `name=PATTERN`, `attribute=NAME`, `class=PATTERN`, and `common` for what all trackers have.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ...config import closest
from ...data.registry import dataset_label, dataset_title, load_dataset
from ...data.sequence import Sequence
from ...utils.errors import UserError
from ..evaluation.result_files import result_path, run_dir, time_path

_FOLDER = "folder:"
_TRACKER = re.compile(r"([^:=]+):([^:=]+)(?::(\d{1,3})(?:-(\d{1,3}))?)?(?:=(.*))?", re.ASCII)

Sets = dict[str, dict[str, Sequence]]  # titles of test sets -> names, unique in all of them -> sequences
Groups = dict[tuple[str, str], list[str]]  # ("set", title) or ("attribute", name): sequences with a row of their own


@dataclass(frozen=True)
class ResultSource:
    """Result files of one tracker, or of one run of it."""

    label: str  # in tables and plots
    folder: Path
    group: str  # the label of the row when the runs of its tracker are merged; that of results without a run id
    owner: Path  # the folder without the run, which runs of one tracker share
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
    plain = run_dir(results_dir, tracker, config)
    label = label or f"{tracker}:{plain.name}"
    folders = [run_dir(results_dir, tracker, config, run_id) for run_id in ids]
    return [ResultSource(label + folder.name.removeprefix(plain.name), folder, label, plain) for folder in folders]


def load_sets(names: SequenceOf[str]) -> Sets:
    """Test sets by their names, one that is named twice once; errors as in `load_dataset`.

    Sequences have their own names, with the set before it where two share one.
    """
    loaded = {}
    for label, name in {dataset_label(name): name for name in names}.items():
        title = dataset_title(name)
        loaded[label if title in loaded else title] = load_dataset(name)
    counts = Counter(each.name for members in loaded.values() for each in members)
    return {
        title: {s.name if counts[s.name] == 1 else f"{s.subfolder or s.dataset}/{s.name}": s for s in members}
        for title, members in loaded.items()
    }


def joined(sets: Sets) -> dict[str, Sequence]:
    """The sequences of all sets."""
    return {name: sequence for members in sets.values() for name, sequence in members.items()}


def filter_sets(sets: Sets, filters: Iterable[str], sources: SequenceOf[ResultSource]) -> Sets:
    """The sets with the sequences that all filters leave; an empty set is dropped.

    Raises UserError where a filter has another form, or no sequence is left.
    """
    for text in filters:
        left = {
            title: {n: s for n, s in members.items() if _holds(text, s, sources)} for title, members in sets.items()
        }
        if not any(left.values()):
            known = sorted({value for s in joined(sets).values() for value in _values(text, s)} - {""})
            raise UserError(f"--filter {text}: no sequence is left; {closest(text.rpartition('=')[2], known)}")
        sets = {title: members for title, members in left.items() if members}
    return sets


def _holds(text: str, sequence: Sequence, sources: SequenceOf[ResultSource]) -> bool:
    if text == "common":
        return all(source.files(sequence)[0].is_file() for source in sources)
    pattern = text.casefold().rpartition("=")[2]
    return any(fnmatchcase(value.casefold(), pattern) for value in _values(text, sequence))


def _values(text: str, sequence: Sequence) -> SequenceOf[str]:
    """The words of a sequence that a filter compares with its pattern."""
    words = {"name": [sequence.name], "attribute": sequence.attributes, "class": [sequence.object_class]}
    key = text.casefold().rpartition("=")[0] or "name"
    if key not in words:
        raise UserError(f"--filter {text}: expected PATTERN, name=PATTERN, attribute=NAME, class=PATTERN or common")
    return words[key]


def find_groups(sets: Sets) -> Groups:
    """The sets, where there are several, and the attributes of the sets' own files."""
    groups = {("set", title): list(members) for title, members in sets.items()} if len(sets) > 1 else {}
    attributes: Groups = {}
    for name, sequence in joined(sets).items():
        for attribute in sequence.attributes:
            attributes.setdefault(("attribute", attribute), []).append(name)
    return groups | dict(sorted(attributes.items()))
