"""Which sequences an analysis is about."""

from dataclasses import dataclass

import pytest

from lib.test.analysis.groups import JoinedSet, filter_sets, find_groups, joined_label, load_sets
from lib.test.analysis.sources import parse_tracker
from lib.utils.errors import UserError
from tests.data.made_sets import write_sequence


@dataclass
class Video:
    """As much of a sequence as choosing needs."""

    name: str
    dataset: str = "otb"
    subfolder: str = ""
    object_class: str = ""
    attributes: tuple[str, ...] = ()


CAR1 = Video("Car1", object_class="car", attributes=("Occlusion", "Scale"))
CAR2 = Video("Car2", object_class="car", attributes=("Scale",))
GIRL = Video("Girl", object_class="person", attributes=("Occlusion",))
SETS = [JoinedSet("otb", [CAR1, GIRL]), JoinedSet("more", [CAR2])]


def chosen(*filters: str, sources=()) -> list[str]:
    return [video.name for each in filter_sets(SETS, filters, sources) for video in each.sequences]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([], ["Car1", "Girl", "Car2"]),
        (["car*"], ["Car1", "Car2"]),
        (["name=CAR?"], ["Car1", "Car2"]),
        (["attribute=occlusion"], ["Car1", "Girl"]),
        (["class=Person"], ["Girl"]),
        (["attribute=Scale", "*2"], ["Car2"]),
    ],
)
def test_filters(filters, names):
    assert chosen(*filters) == names


def test_a_set_of_which_nothing_is_left_is_dropped():
    assert [each.title for each in filter_sets(SETS, ["girl"], ())] == ["otb"]


def test_sequences_that_all_trackers_have(tmp_path):
    for tracker, names in (("one", ("Car1", "Girl")), ("two", ("Girl", "Car2"))):
        (tmp_path / tracker / "c").mkdir(parents=True)
        for name in names:
            (tmp_path / tracker / "c" / f"{name}.txt").touch()
    sources = [source for name in ("one", "two") for source in parse_tracker(f"{name}:c", tmp_path)]
    assert chosen("common", sources=sources) == ["Girl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Car7", "no sequence is left; did you mean Car"),
        ("attribute=Blur", "no sequence is left; attributes are Occlusion, Scale"),
        ("class=persons", "did you mean person"),
        ("size=3", "expected PATTERN, name=PATTERN"),
        ("=3=", "expected PATTERN, name=PATTERN"),
    ],
)
def test_filters_that_leave_nothing(text, message):
    with pytest.raises(UserError, match=message):
        chosen(text)


def test_groups_are_the_sets_and_the_attributes_of_their_files():
    groups = {(group.kind, group.name): group.sequences for group in find_groups(SETS)}
    assert groups == {
        ("set", "otb"): ("Car1", "Girl"),
        ("set", "more"): ("Car2",),
        ("attribute", "Occlusion"): ("Car1", "Girl"),
        ("attribute", "Scale"): ("Car1", "Car2"),
    }
    assert not [group for group in find_groups(SETS[1:]) if group.kind == "set"]


def test_one_folder_counts_once_and_two_of_one_name_are_told_apart(tmp_path):
    for place in (tmp_path / "a" / "set", tmp_path / "b" / "set"):
        write_sequence(place, "ant")
    once = load_sets([f"folder:{tmp_path}/a/set", f"folder:{tmp_path}/a/set/"])
    assert [(each.title, len(each.sequences)) for each in once] == [("set", 1)]
    first, second = load_sets([f"folder:{tmp_path}/a/set", f"folder:{tmp_path}/b/set"])
    assert first.title != second.title
    assert {group.name for group in find_groups([first, second])} == {first.title, second.title}


def test_the_folder_of_joined_sets():
    assert joined_label(["otb", "nfs", "otb"]) == "otb+nfs"
