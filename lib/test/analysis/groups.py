"""Which sequences an analysis is about: joined test sets, filters, and the groups that get rows of their own.

A filter is one of

    PATTERN or name=PATTERN     names with * and ?, such as car*
    attribute=NAME              the set's files give the sequence this attribute
    class=PATTERN               what the object is
    common                      sequences of which every tracker has a result

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
from lib.test.analysis.results import unique_names
from lib.test.analysis.sources import ResultSource
from lib.utils.errors import UserError


@dataclass(frozen=True)
class TestSet:
    """A test set under the name that readers know, or what filters left of it."""

    __test__ = False  # pytest: not a class of tests

    title: str
    sequences: list[Sequence]


@dataclass(frozen=True)
class Group:
    """Sequences that get a row of their own: `kind` is `set` or `attribute`; names as `unique_names` gives them."""

    kind: str
    name: str
    sequences: tuple[str, ...]


def load_sets(names: SequenceOf[str]) -> list[TestSet]:
    """Test sets by their names, one that is named twice once; errors as in `load_dataset`."""
    labels = {dataset_label(name): name for name in names}
    titles = Counter(dataset_title(name) for name in labels.values())
    return [
        TestSet(dataset_title(name) if titles[dataset_title(name)] == 1 else label, load_dataset(name))
        for label, name in labels.items()
    ]


def joined_label(names: SequenceOf[str]) -> str:
    """A name for the folder of an analysis of these sets."""
    return "+".join(dataset_label(name) for name in dict.fromkeys(names))


def filter_sets(sets: SequenceOf[TestSet], filters: Iterable[str], sources: SequenceOf[ResultSource]) -> list[TestSet]:
    """What filters leave of test sets; a set of which nothing is left is dropped.

    Raises:
        UserError: a filter has another form, or no sequence is left.
    """
    for text in filters:
        kept = [TestSet(each.title, [s for s in each.sequences if _holds(text, s, sources)]) for each in sets]
        kept = [each for each in kept if each.sequences]
        if not kept:
            raise UserError(f"--filter {text}: no sequence is left{_offer(text, sets)}")
        sets = kept
    return list(sets)


def find_groups(sets: SequenceOf[TestSet]) -> list[Group]:
    """The sets, where there are several, and the attributes that the sets' own files give, by name."""
    sequences = [sequence for each in sets for sequence in each.sequences]
    names = unique_names(sequences)
    groups, start = [], 0
    for each in sets:
        groups.append(Group("set", each.title, tuple(names[start : start + len(each.sequences)])))
        start += len(each.sequences)
    attributes: dict[str, list[str]] = {}
    for name, sequence in zip(names, sequences, strict=True):
        for attribute in sequence.attributes:
            attributes.setdefault(attribute, []).append(name)
    found = [Group("attribute", name, tuple(members)) for name, members in sorted(attributes.items())]
    return (groups if len(sets) > 1 else []) + found


def _holds(text: str, sequence: Sequence, sources: SequenceOf[ResultSource]) -> bool:
    key, sign, wanted = text.rpartition("=")
    wanted = wanted.casefold()
    if not sign and wanted == "common":
        return all(source.result_file(sequence).is_file() for source in sources)
    if key in ("", "name"):
        return fnmatchcase(sequence.name.casefold(), wanted)
    if key == "attribute":
        return wanted in (name.casefold() for name in sequence.attributes)
    if key == "class":
        return fnmatchcase(sequence.object_class.casefold(), wanted)
    raise UserError(f"--filter {text}: expected PATTERN, name=PATTERN, attribute=NAME, class=PATTERN or common")


def _offer(text: str, sets: SequenceOf[TestSet]) -> str:
    """What a filter that leaves nothing may have meant."""
    sequences = [sequence for each in sets for sequence in each.sequences]
    key, _, wanted = text.rpartition("=")
    if key == "attribute":
        known = sorted({name for sequence in sequences for name in sequence.attributes})
        return f"; attributes are {', '.join(known)}" if known else ": the files of these sets give no attributes"
    if wanted == "common":
        return ": none has a result of every tracker"
    known = {sequence.object_class if key == "class" else sequence.name for sequence in sequences} - {""}
    close = difflib.get_close_matches(wanted, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
