"""Which sequences an analysis is about: joined test sets, filters, and the groups that get rows of their own.

A filter is one of

    PATTERN or name=PATTERN     names with * and ?, such as car*
    attribute=NAME              sequences with this attribute in the set's files
    class=PATTERN               the object's class
    common                      sequences that all trackers have

Upper and lower case are the same. Several filters must all hold.
"""

import difflib
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lib.data.registry import dataset_label, dataset_title, load_dataset
from lib.data.sequence import Sequence
from lib.test.analysis.scores import unique_names
from lib.test.analysis.sources import ResultSource
from lib.utils.errors import UserError


@dataclass(frozen=True)
class JoinedSet:
    """A test set, or the part of it that filters left, under the title that readers know."""

    title: str
    sequences: list[Sequence]


@dataclass(frozen=True)
class Group:
    """Sequences (names as `unique_names` gives them) with a row of their own; `kind` is `set` or `attribute`."""

    kind: str
    name: str
    sequences: tuple[str, ...]


def load_sets(names: SequenceOf[str]) -> list[JoinedSet]:
    """Test sets by their names, one that is named twice once; errors as in `load_dataset`."""
    labels = {dataset_label(name): name for name in names}
    titles = Counter(dataset_title(name) for name in labels.values())
    return [
        JoinedSet(dataset_title(name) if titles[dataset_title(name)] == 1 else label, load_dataset(name))
        for label, name in labels.items()
    ]


def joined_label(names: SequenceOf[str]) -> str:
    """A name for the folder of an analysis of these sets."""
    return "+".join(dataset_label(name) for name in dict.fromkeys(names))


def filter_sets(
    sets: SequenceOf[JoinedSet], filters: Iterable[str], sources: SequenceOf[ResultSource]
) -> list[JoinedSet]:
    """The sets with the sequences that all filters leave; an empty set is dropped.

    Raises:
        UserError: a filter has another form, or no sequence is left.
    """
    for text in filters:
        rest = [JoinedSet(each.title, [s for s in each.sequences if _holds(text, s, sources)]) for each in sets]
        rest = [each for each in rest if each.sequences]
        if not rest:
            raise UserError(f"--filter {text}: no sequence is left{_hint(text, sets)}")
        sets = rest
    return list(sets)


def find_groups(sets: SequenceOf[JoinedSet]) -> list[Group]:
    """The sets, where there are several, and the attributes of the sets' own files, by name."""
    names = iter(unique_names([sequence for each in sets for sequence in each.sequences]))
    groups, attributes = [], {}
    for each in sets:
        members = {next(names): sequence for sequence in each.sequences}
        groups.append(Group("set", each.title, tuple(members)))
        for name, sequence in members.items():
            for attribute in sequence.attributes:
                attributes.setdefault(attribute, []).append(name)
    found = [Group("attribute", name, tuple(members)) for name, members in sorted(attributes.items())]
    return (groups if len(sets) > 1 else []) + found


def _holds(text: str, sequence: Sequence, sources: SequenceOf[ResultSource]) -> bool:
    key, sign, wanted = text.rpartition("=")
    wanted = wanted.casefold()
    if not sign and wanted == "common":
        return all(source.files(sequence)[0].is_file() for source in sources)
    if key in ("", "name"):
        return fnmatchcase(sequence.name.casefold(), wanted)
    if key == "attribute":
        return wanted in (name.casefold() for name in sequence.attributes)
    if key == "class":
        return fnmatchcase(sequence.object_class.casefold(), wanted)
    raise UserError(f"--filter {text}: expected PATTERN, name=PATTERN, attribute=NAME, class=PATTERN or common")


def _hint(text: str, sets: SequenceOf[JoinedSet]) -> str:
    sequences = [sequence for each in sets for sequence in each.sequences]
    key, _, wanted = text.rpartition("=")
    if key == "attribute":
        known = sorted({name for sequence in sequences for name in sequence.attributes})
        return f"; attributes are {', '.join(known)}" if known else ": the files of these sets give no attributes"
    known = {sequence.object_class if key == "class" else sequence.name for sequence in sequences}
    close = difflib.get_close_matches(wanted, sorted(known - {""}), n=1)
    return f"; did you mean {close[0]}?" if close else ""
